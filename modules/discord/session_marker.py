"""The signed mark in a session channel's topic: by it a channel is known as ours when the database forgot its id."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

from modules.domain.people import GuildId, UserId
from modules.domain.ports import ControlStore

KEY_NAME = "discord.session_marker_key"
_MARK = re.compile(r"fullet:(\d{1,20}):([0-9a-f]{32})")


class SessionMarker:
    """Signs and checks with a key that only this house has. A name or a copied text alone is never proof."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    @classmethod
    async def load(cls, control: ControlStore) -> SessionMarker:
        """With the stored key; the first start makes one."""
        stored = await control.get(KEY_NAME)
        if stored is None:
            await control.set(KEY_NAME, secrets.token_hex(32))
            stored = await control.get(KEY_NAME)  # another process may have been first
        assert stored is not None
        return cls(bytes.fromhex(stored))

    def mark(self, guild_id: GuildId, user_id: UserId) -> str:
        """The text for the topic."""
        return f"fullet:{user_id}:{self._sign(guild_id, user_id)}"

    def owner(self, topic: str | None, guild_id: GuildId) -> UserId | None:
        """Whose channel of this guild it is; None without a genuine mark."""
        found = _MARK.search(topic or "")
        if found is None:
            return None
        user_id = UserId(int(found[1]))
        return user_id if hmac.compare_digest(found[2], self._sign(guild_id, user_id)) else None

    def _sign(self, guild_id: GuildId, user_id: UserId) -> str:
        return hmac.new(self._key, f"{guild_id}:{user_id}".encode(), hashlib.sha256).hexdigest()[:32]
