"""Command families, one cog each. A new one is added to COGS."""

from __future__ import annotations

from modules.discord.cogs.admin import Admin
from modules.discord.cogs.image_commands import ImageCommands
from modules.discord.cogs.message_menus import MessageMenus
from modules.discord.cogs.my_pictures import MyPictures
from modules.discord.cogs.sessions import Sessions

COGS = (Admin, Sessions, ImageCommands, MyPictures, MessageMenus)
