"""Keeps the world in a file, so that the demo is as it was left after a restart.

One JSON file for everything but file contents, which lie beside it in `<file>.files/<attachment id>`. Interactions, nonces and
gateway sessions are not kept: they live for minutes.
"""

import dataclasses
import json
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from modules.sandbox.discord_server.files import FileStore
from modules.sandbox.discord_server.wire import Json
from modules.sandbox.discord_server.world import Application, Attachment, Channel, Command, Guild, Message, User, World

FORMAT = 1
#: Stands for the stand-in's own address, which may have another port next time; a private-use character nobody types.
HERE = "\ue000"

T = TypeVar("T")


class StateFile:
    """Saves a world and brings it back."""

    def __init__(self, path: Path, world: World, files: FileStore) -> None:
        self._path = path
        self._folder = path.with_name(path.name + ".files")
        self._world = world
        self._files = files
        self._written = ""

    def save(self) -> None:
        """Write everything that changed; the file is replaced in one step."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for attachment_id, data in self._files.contents.items():
            place = self._folder / str(attachment_id)
            if not place.exists():
                place.write_bytes(data)
        text = json.dumps(self._shape(), default=_plain, ensure_ascii=False).replace(self._files.base_url, HERE)
        if text == self._written:
            return
        draft = self._path.with_name(self._path.name + ".new")
        draft.write_text(text, encoding="utf-8")
        draft.replace(self._path)
        self._written = text

    def _shape(self) -> Json:
        world = self._world
        return {
            "format": FORMAT,
            "identity": world.identity,
            "clock_offset_s": world.clock.offset_s,
            "application": world.application,
            "users": world.users,
            "guilds": world.guilds,
            "dms": world.dms,
            "messages": world.messages,
            "commands": world.commands,
            "attachments": self._files.attachments,
        }

    def load(self) -> bool:
        """Replace the world by the saved one; `False` when nothing was saved yet. Raises `ValueError` for a foreign file."""
        if not self._path.exists():
            return False
        saved = json.loads(self._path.read_text(encoding="utf-8").replace(HERE, self._files.base_url))
        if not isinstance(saved, dict) or saved.get("format") != FORMAT:
            raise ValueError(f"{self._path} is not a saved world of this version")
        world = self._world
        world.identity = saved.get("identity", world.identity)  # a file of before has none
        world.clock.offset_s = saved["clock_offset_s"]
        world.application = revive(Application, saved["application"])
        world.users = revive(dict[int, User], saved["users"])
        world.guilds = revive(dict[int, Guild], saved["guilds"])
        world.dms = revive(dict[int, Channel], saved["dms"])
        world.messages = revive(dict[int, dict[int, Message]], saved["messages"])
        world.commands = revive(dict[int, Command], saved["commands"])
        self._files.attachments = revive(dict[int, Attachment], saved["attachments"])
        self._files.contents = {int(place.name): place.read_bytes() for place in self._folder.iterdir()}
        return True


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, datetime):
        return value.isoformat()
    raise TypeError(f"cannot save {value!r}")


def revive(kind: type[T], value: Any) -> T:
    """A value of this type from its JSON: dataclasses, enums, moments, lists, and maps with whole numbers as keys."""
    result: T = _revive(kind, value)
    return result


def _revive(kind: Any, value: Any) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        inner = [argument for argument in arguments if argument is not type(None)]
        return None if value is None else _revive(inner[0], value) if len(inner) == 1 else value
    if origin is list:
        return [_revive(arguments[0], item) for item in value]
    if origin is dict:
        key_kind, value_kind = arguments
        return {(int(key) if key_kind is int else key): _revive(value_kind, item) for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        hints: Mapping[str, Any] = get_type_hints(kind)
        known = {name: _revive(hints[name], item) for name, item in value.items() if name in hints}
        return kind(**known)  # type: ignore[operator]  # a dataclass type can be called
    if kind is datetime:
        return datetime.fromisoformat(value)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(value)
    return value
