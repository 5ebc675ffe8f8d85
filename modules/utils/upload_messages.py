"""What the program and the process that decodes uploads say to each other. Kept apart so that neither loads the other's imports.

A request is one byte for what to do, the length of the file in four bytes, and the file. The answer is one byte when the work
begins, and when it is done a line of JSON and a picture (empty where there is none), each behind its length in four bytes. All
numbers are big-endian.
"""

from __future__ import annotations

import struct

SANITISE, READ_RECIPE = b"s", b"r"
BEGUN = b"b"
LENGTH = struct.Struct(">I")


def block(payload: bytes) -> bytes:
    """The payload behind its length."""
    return LENGTH.pack(len(payload)) + payload
