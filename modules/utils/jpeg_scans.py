"""Counts the scans of a JPEG without decoding it: every scan is one pass over the whole picture, however few bytes it has."""

from __future__ import annotations

import re
from collections.abc import Iterator

_SOI = b"\xff\xd8"
#: Inside a scan's packed data 0xFF is followed by 0x00 (stuffing), 0xD0 to 0xD7 (restart markers) or another 0xFF (fill): any
#: other byte begins the next segment. Source: ITU-T T.81, annex B.1.1.
_NEXT_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_START_OF_SCAN, _END_OF_IMAGE = 0xDA, 0xD9
#: Markers that stand alone: TEM, restart markers and the start of the picture have no length behind them.
_STAND_ALONE = frozenset({0x01, 0xD8, *range(0xD0, 0xD8)})


def count_scans(data: bytes) -> int:
    """Return the number of scans of the first picture in a file; 0 for a file that is no JPEG or has no scan."""
    return sum(1 for _ in _scans(data)) if data.startswith(_SOI) else 0


def _scans(data: bytes) -> Iterator[int]:
    """Yield the position of each start-of-scan marker, up to the end of the first picture or of what can be followed."""
    at = len(_SOI)
    while (found := _NEXT_MARKER.search(data, at)) is not None:
        at, marker = found.end(), data[found.end() - 1]
        if marker == _END_OF_IMAGE:
            return
        if marker in _STAND_ALONE:
            continue
        if marker == _START_OF_SCAN:
            yield found.start()
        at += max(2, int.from_bytes(data[at : at + 2], "big"))  # libjpeg refuses a length below 2; we only must not stand still
