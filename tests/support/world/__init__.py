"""The real engine, stores and courier in a world of our own: virtual time, a ComfyUI and a Discord in plain Python.

Everything is one deterministic program, so a second of work stands for hours, and the program can die before or after each of its
acts. What the stand-ins of `modules/sandbox` are for (HTTP, sockets, pictures) is left out here on purpose.
"""

from tests.support.world.acts import Acts, ProcessDied, Trouble
from tests.support.world.comfy import DrawnBy, FakeComfy
from tests.support.world.mail import FakeDiscord
from tests.support.world.world import Life, World, in_world, played

__all__ = ["Acts", "DrawnBy", "FakeComfy", "FakeDiscord", "Life", "ProcessDied", "Trouble", "World", "in_world", "played"]
