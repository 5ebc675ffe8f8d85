"""The process that decodes what people send. Started by `upload_process.py`; ends with its standard input.

It speaks over its standard streams, as `upload_messages.py` says.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import BinaryIO

from modules.domain.errors import ErrorCode, FulletError
from modules.utils.images import read_recipe
from modules.utils.upload_images import sanitise_upload
from modules.utils.upload_messages import BEGUN, LENGTH, READ_RECIPE, block

#: What one picture may take beyond what the process needs anyway; the costs by format stand beside MAX_PIXELS_OF.
MEMORY_MIB = 640
#: Processor time for one picture. 50 megapixels of JPEG take 2 s, a PNG of 12 megapixels that must be packed anew 4 s (measured).
CPU_LIMIT_S = 15
#: Finishing results goes first where processors are scarce.
NICENESS = 10


def main() -> None:
    """Answer requests one after the other until the program that started this process is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the program; it ends us by closing the pipe
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # whatever a library prints is no answer
    limits = _limits()
    requests: SimpleQueue[tuple[bytes, bytes]] = SimpleQueue()
    threading.Thread(target=_read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()
    while True:
        _serve(*requests.get(), answers, limits)


def _serve(what: bytes, data: bytes, answers: BinaryIO, limits: ModuleType | None) -> None:
    """Work on one request and answer it; afterwards nothing of it is held."""
    if limits is not None:
        _bound_processor_time(limits)
    answers.write(BEGUN)
    answers.flush()
    facts, picture = _answer(what, data)
    answers.write(block(json.dumps(facts).encode()))
    answers.write(block(picture))
    answers.flush()


def _read_requests(source: BinaryIO, requests: SimpleQueue[tuple[bytes, bytes]]) -> None:
    """Read in a thread of its own: the end of the stream must be noticed in the middle of a picture as well."""
    while (head := source.read(1 + LENGTH.size)) and len(head) == 1 + LENGTH.size:
        [length] = LENGTH.unpack(head[1:])
        data = source.read(length)
        if len(data) < length:
            break
        requests.put((head[:1], data))
        del data
    os._exit(0)


def _answer(what: bytes, data: bytes) -> tuple[dict[str, object], bytes]:
    """What became of one request, as values of JSON, and the picture's bytes if there are any."""
    try:
        if what == READ_RECIPE:
            return {"recipe": read_recipe(data)}, b""
        picture = sanitise_upload(data)
    except FulletError as error:
        return {"error": error.code.value, "params": error.params}, b""
    except MemoryError:
        return {"error": ErrorCode.PICTURE_TOO_COMPLEX.value, "params": {}}, b""
    size = picture.size
    return {"format": picture.format.value, "width_px": size.width_px, "height_px": size.height_px}, picture.data


# --- bounds, where the platform has them --------------------------------------------------------------------------------


def _limits() -> ModuleType | None:
    """Bound memory and priority for good; returns the `resource` module, which Windows does not have."""
    try:
        resource = importlib.import_module("resource")
    except ImportError:
        return None
    os.nice(NICENESS)
    taken = _address_space()
    if taken is not None:
        _set(resource, resource.RLIMIT_AS, taken + MEMORY_MIB * 1024 * 1024)
    return resource


def _address_space() -> int | None:
    """The bytes of address space that this process has now; None where nobody says. Source: proc(5), `statm`."""
    try:
        return int(Path("/proc/self/statm").read_text("ascii").split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def _bound_processor_time(resource: ModuleType) -> None:
    """End this process when the picture at hand takes longer, also where nobody is left to wait for it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _set(resource, resource.RLIMIT_CPU, int(used.ru_utime + used.ru_stime) + CPU_LIMIT_S)


def _set(resource: ModuleType, kind: int, soft: int) -> None:
    hard = resource.getrlimit(kind)[1]
    try:
        resource.setrlimit(kind, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))
    except (OSError, ValueError):
        return  # macOS knows the names and takes no values: the deadline of whoever waits remains


if __name__ == "__main__":
    main()
