"""A Discord on loopback with two faces: the bot's (REST and gateway v10, for unmodified discord.py) and the person's.

See docs/sandbox.md.
"""

from modules.sandbox.discord_server.demo import demo_world
from modules.sandbox.discord_server.sandbox import DiscordSandbox
from modules.sandbox.discord_server.world import World

__all__ = ["DiscordSandbox", "World", "demo_world"]
