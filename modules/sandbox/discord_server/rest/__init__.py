"""The bot's face: Discord's REST API v10."""
