"""The `resolved` part of interactions: the full objects behind the ids somebody chose."""

from collections.abc import Iterable

from modules.sandbox.discord_server.files import FileStore
from modules.sandbox.discord_server.people import permissions_of
from modules.sandbox.discord_server.shapes import (
    attachment_json,
    channel_json,
    member_json,
    message_json,
    role_json,
    user_json,
)
from modules.sandbox.discord_server.wire import Json, invalid
from modules.sandbox.discord_server.world import Guild, Message, World


class Resolved:
    """Collects objects; `shape` is `{}` while there is none."""

    def __init__(self, world: World, files: FileStore, guild: Guild | None, viewer_id: int) -> None:
        self._world = world
        self._files = files
        self._guild = guild
        self._viewer_id = viewer_id
        self.shape: Json = {}

    def _put(self, kind: str, key: int, value: Json) -> None:
        self.shape.setdefault(kind, {})[str(key)] = value

    def user(self, user_id: int) -> None:
        """Add a user, and the member where there is one."""
        self._put("users", user_id, user_json(self._world.user(user_id)))
        if self._guild and (member := self._guild.members.get(user_id)):
            self._put("members", user_id, member_json(self._world, member, with_user=False) | {"permissions": "0"})

    def role(self, role_id: int) -> None:
        """Add a role."""
        if self._guild is None or role_id not in self._guild.roles:
            raise invalid(["options"], "ROLE_UNKNOWN", "Unknown role")
        self._put("roles", role_id, role_json(self._guild.roles[role_id]))

    def mentionable(self, thing_id: int) -> None:
        """Add a role or a user, whichever has this id."""
        if self._guild and thing_id in self._guild.roles:
            self.role(thing_id)
        else:
            self.user(thing_id)

    def channel(self, channel_id: int) -> None:
        """Add a channel with what the chooser may do there."""
        channel = self._world.channel(channel_id)
        may = permissions_of(self._world, self._viewer_id, channel)
        self._put("channels", channel_id, channel_json(self._world, channel) | {"permissions": str(int(may))})

    def attachment(self, attachment_id: int) -> None:
        """Add an uploaded file."""
        found = self._files.attachments.get(attachment_id)
        if found is None:
            raise invalid(["options"], "ATTACHMENT_UNKNOWN", "Unknown attachment")
        self._put("attachments", attachment_id, attachment_json(found))

    def message(self, message: Message) -> None:
        """Add the message a context menu was opened on."""
        self._put("messages", message.id, message_json(self._world, message))

    def all(self, kind: str, ids: Iterable[int]) -> None:
        """Add several of one kind: `user`, `role`, `mentionable`, `channel` or `attachment`."""
        add = {
            "user": self.user,
            "role": self.role,
            "mentionable": self.mentionable,
            "channel": self.channel,
            "attachment": self.attachment,
        }[kind]
        for thing_id in ids:
            add(thing_id)
