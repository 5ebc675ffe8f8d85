"""A simulated Discord with people and an unmodified discord.py, shared by the suites that state Discord's facts."""

from tests.integration.discord_stand_in.conftest import bot, face, people, sandbox

__all__ = ["bot", "face", "people", "sandbox"]
