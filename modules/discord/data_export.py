"""`/mydata export`: everything stored about a person as JSON, in as many files as it takes, one at a time in memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field

from modules.domain.people import UserId

#: One file. Discord takes 10 MiB everywhere (its documentation, "Uploading Files"); what else the request holds needs some room.
PART_BYTES = 8 * 1024 * 1024

Rows = Sequence[Mapping[str, object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One file: a JSON document of its own, so that each can be read alone."""

    number: int  #: from 1
    is_last: bool
    data: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """The file's; without a number where it is the only one."""
        return "fullet-mydata.json" if self.is_last and self.number == 1 else f"fullet-mydata-{self.number}.json"


async def parts_of(
    user_id: UserId, pages: AsyncIterator[tuple[str, Rows]], notes: Mapping[str, object], *, most_bytes: int = PART_BYTES
) -> AsyncIterator[Part]:
    """The pages as files of at most so many bytes; a row that is larger has a file of its own. `notes` stand in the first."""
    about: Mapping[str, object] = {"user_id": str(user_id), **notes}
    part = _Document(about)
    number = 1
    async for name, rows in pages:
        for line in await asyncio.to_thread(_lines, rows):
            if part.has_rows and part.size_with(name, line) > most_bytes:
                yield Part(number=number, is_last=False, data=part.written())
                number += 1
                part = _Document({"user_id": str(user_id), "part": number})
            part.add(name, line)
        part.mention(name)
    yield Part(number=number, is_last=True, data=part.written())


class _Document:
    """A JSON object with some fields and lists of rows that are JSON already."""

    def __init__(self, about: Mapping[str, object]) -> None:
        self._about = about
        self._rows: dict[str, list[bytes]] = {}
        self.size = len(self.written())
        self.has_rows = False

    def size_with(self, name: str, line: bytes) -> int:
        """Its bytes with one row more, at most."""
        return self.size + len(line) + 2 + (0 if name in self._rows else len(name.encode()) + 10)

    def mention(self, name: str) -> None:
        """There is such a list, even if it stays empty."""
        if name not in self._rows:
            self._rows[name] = []
            self.size += len(name.encode()) + 10  # quotes, colon, brackets, comma, line ends

    def add(self, name: str, line: bytes) -> None:
        self.mention(name)
        self._rows[name].append(line)
        self.size += len(line) + 2
        self.has_rows = True

    def written(self) -> bytes:
        """The document."""
        fields = [f"{_json(name)}: {_json(value)}".encode() for name, value in self._about.items()]
        lists = [f"{_json(name)}: [\n".encode() + b",\n".join(rows) + b"\n]" for name, rows in self._rows.items()]
        return b"{\n" + b",\n".join((*fields, *lists)) + b"\n}\n"


def _lines(rows: Rows) -> list[bytes]:
    return [_json(row).encode("utf-8", "replace") for row in rows]


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
