"""Replies and transcripts recorded from a real ComfyUI 0.33.0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

RECORDINGS = Path(__file__).parents[1] / "recordings" / "comfyui"


def reply(name: str) -> object:
    """The body of `http/<name>.json`."""
    recorded = json.loads((RECORDINGS / "http" / f"{name}.json").read_text("utf-8"))
    return recorded.get("body", recorded)


def replies(name: str) -> Iterator[dict[str, object]]:
    """The lines of `http/<name>.jsonl`."""
    yield from _lines(RECORDINGS / "http" / f"{name}.jsonl")


def transcript(name: str) -> Iterator[dict[str, object]]:
    """The lines of `ws/<name>.jsonl`."""
    yield from _lines(RECORDINGS / "ws" / f"{name}.jsonl")


def transcripts() -> list[str]:
    """Names of all recorded WebSocket transcripts."""
    return sorted(path.stem for path in (RECORDINGS / "ws").glob("*.jsonl"))


def texts(name: str, socket: str | None = None) -> Iterator[str]:
    """The text frames that a socket received, as they came."""
    for line in transcript(name):
        if line.get("dir") == "recv" and "json" in line and socket in (None, line.get("ws")):
            yield json.dumps(line["json"])


def binary(name: str) -> bytes:
    """A whole binary frame, or the recorded picture."""
    return (RECORDINGS / "binary" / name).read_bytes()


def _lines(path: Path) -> Iterator[dict[str, object]]:
    for line in path.read_text("utf-8").splitlines():
        if line.strip():
            yield json.loads(line)
