"""Everything a handler needs, in one value that the sandbox builds once."""

from dataclasses import dataclass

from modules.sandbox.discord_server.announcer import Announcer
from modules.sandbox.discord_server.commands import CommandRegistry
from modules.sandbox.discord_server.faults import Faults
from modules.sandbox.discord_server.files import FileStore
from modules.sandbox.discord_server.gateway import Gateway
from modules.sandbox.discord_server.interactions import InteractionDesk
from modules.sandbox.discord_server.journal import Journal
from modules.sandbox.discord_server.people import People
from modules.sandbox.discord_server.posting import Posting
from modules.sandbox.discord_server.ratelimits import RateLimits
from modules.sandbox.discord_server.world import World


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The parts of one running stand-in."""

    world: World
    files: FileStore
    gateway: Gateway
    people: People
    announcer: Announcer
    posting: Posting
    commands: CommandRegistry
    interactions: InteractionDesk
    journal: Journal
    faults: Faults
    limits: RateLimits
