"""The people's side: everything that speaks to Discord, and the only place that imports discord.py."""

import discord

# We never speak: its advice to install the voice libraries would only worry operators.
discord.VoiceClient.warn_nacl = False
discord.VoiceClient.warn_dave = False
