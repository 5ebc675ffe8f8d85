"""How large the files of one message may be: started within Discord's limits, and never again at a size that was refused.

Plain values; nothing here is stored, so a restart learns anew.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from modules.domain.people import GuildId

MIB = 1024 * 1024
#: One request may have 25 MiB in all; the rest is for its JSON.
#: Source: Discord developer documentation, "Create Message", "Limitations".
REQUEST_BYTES = 24 * MIB
#: Below this a picture is no longer worth sending smaller.
SMALLEST_FILE_BYTES = MIB // 4
#: Guilds and sizes remembered at most.
MOST_REMEMBERED = 2_000


@dataclass(frozen=True, slots=True)
class UploadPlace:
    """Where files go, and how large Discord says that one may be there. `guild_id` is None for direct messages.

    A guild that is boosted says another size, and is then another place.
    """

    guild_id: GuildId | None
    file_bytes: int


class UploadSizes:
    """Remembers the sizes that Discord refused, and the uploads that were cut off on the way."""

    def __init__(self) -> None:
        self._file: OrderedDict[UploadPlace, int] = OrderedDict()
        self._request: OrderedDict[UploadPlace, int] = OrderedDict()
        self._cuts: OrderedDict[object, int] = OrderedDict()

    def limit(self, place: UploadPlace, files: int, upload: object = None) -> int:
        """Bytes that each of so many files may have. `upload`: what `was_cut` was told of."""
        request = min(REQUEST_BYTES, self._request.get(place, REQUEST_BYTES))
        limit = min(place.file_bytes, self._file.get(place, place.file_bytes), request // max(1, files))
        # One cut may be chance. After the second, half each time: a thin line or a proxy must not keep a picture for ever.
        halvings = max(0, self._cuts.get(upload, 0) - 1)
        return max(SMALLEST_FILE_BYTES, limit >> halvings)

    def was_refused(self, place: UploadPlace, sizes: Sequence[int]) -> int | None:
        """Files of these sizes (bytes) were too large. Give the next limit to try; None where smaller is not worth it."""
        largest = max(sizes)
        if largest <= SMALLEST_FILE_BYTES:
            return None
        smaller = max(SMALLEST_FILE_BYTES, largest // 2)
        if len(sizes) == 1:
            _remember(self._file, place, smaller)
        else:  # each of them may have been too large, or all of them together
            _remember(self._request, place, smaller * len(sizes))
        return smaller

    def was_cut(self, upload: object) -> None:
        """The connection ended, or time was up, before Discord answered."""
        _remember(self._cuts, upload, self._cuts.get(upload, 0) + 1)

    def is_done(self, upload: object) -> None:
        """It arrived: nothing more is to be known of it."""
        self._cuts.pop(upload, None)


def _remember(sizes: OrderedDict[UploadPlace, int] | OrderedDict[object, int], key: object, value: int) -> None:
    known: OrderedDict[object, int] = sizes  # type: ignore[assignment] # both kinds are only written here
    known[key] = value
    known.move_to_end(key)
    while len(known) > MOST_REMEMBERED:
        known.popitem(last=False)
