"""The JSON inputs of our node pack, read by the rules of comfy_custom_nodes/PROTOCOL.md.

The sandbox imports nothing of ours, so these are written a second time; a test lets both readers judge the same texts.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from modules.sandbox.comfy_server.call import NodeFailedError

T = TypeVar("T")

PROTOCOL = 1
PACK_VERSION = "1.1.0"
MAX_SLOTS = 16
ERROR_PREFIX = "fullet-merge: "
_MAX_SEED = 2**64 - 1
_MAX_SCALE = 100.0
_SLOT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_PREFIX_CHARS = 200


class MergeFailedError(NodeFailedError):
    """A message of the pack: `fullet-merge: <code>: <sentence>`."""

    def __init__(self, code: str, sentence: str) -> None:
        super().__init__(f"{ERROR_PREFIX}{code}: {sentence}", "ValueError")


def read_prompts(text: str) -> list[str]:
    return [_prompt(item) for item in _list(text, "prompts")]


def read_seeds(text: str) -> list[int]:
    return [_seed(item) for item in _list(text, "seeds")]


def read_cfg(text: str) -> float | list[float]:
    value = _loads(text, "cfg")
    return [_scale(item, "cfg") for item in _sized(value, "cfg")] if isinstance(value, list) else _scale(value, "cfg")


def read_guidance(text: str) -> float | list[float | None] | None:
    if not text.strip():
        return None
    value = _loads(text, "guidance")
    return [_guidance(item) for item in _sized(value, "guidance")] if isinstance(value, list) else _guidance(value)


def read_save_slots(text: str) -> list[tuple[str, str]]:
    """(id, prefix) per slot."""
    slots = [_save_slot(item) for item in _list(text, "slots")]
    if len({name for name, _ in slots}) < len(slots):
        raise _bad("two of the slots have the same id.")
    return slots


def spread(value: T | list[T], count: int, what: str) -> list[T]:
    """One value for all slots, or one for each."""
    if not isinstance(value, list):
        return [value] * count
    agree(len(value), count, what)
    return value


def agree(found: int, count: int, what: str) -> None:
    if found != count:
        raise MergeFailedError("slot_count", f"{what} has {found} slot(s), the others have {count}.")


# --- what the nodes check before a prompt is queued --------------------------------------------------------------------

_READERS: Mapping[str, Mapping[str, Callable[[str], object]]] = {
    "CLIPTextEncodeBatch": {"prompts": read_prompts, "guidance": read_guidance},
    "FuLLetMergeGuider": {"cfg": read_cfg},
    "FuLLetMergeNoise": {"seeds": read_seeds},
    "FuLLetMergeSampler": {"seeds": read_seeds},
    "FuLLetMergeKSampler": {"seeds": read_seeds, "cfg": read_cfg},
    "FuLLetMergeSaveImage": {"slots": read_save_slots},
}


def refused_inputs(class_type: str, inputs: Mapping[str, object]) -> list[tuple[str, str]]:
    """(input, message) of what the node's own validation refuses.

    ComfyUI repeats one message for every input that validation looks at, also for those in order.
    """
    given = {name: str(inputs[name]) for name in _READERS.get(class_type, {}) if isinstance(inputs.get(name), str)}
    try:
        for name, text in given.items():
            _READERS[class_type][name](text)
        _check_together(class_type, given)
    except MergeFailedError as failure:
        return [(name, failure.message) for name in given]
    return []


def _check_together(class_type: str, given: Mapping[str, str]) -> None:
    if class_type == "CLIPTextEncodeBatch" and given.keys() >= {"prompts", "guidance"}:
        spread(read_guidance(given["guidance"]), len(read_prompts(given["prompts"])), "guidance")
    if class_type == "FuLLetMergeKSampler" and given.keys() >= {"seeds", "cfg"}:
        spread(read_cfg(given["cfg"]), len(read_seeds(given["seeds"])), "cfg")


# --- items -------------------------------------------------------------------------------------------------------------


def _bad(sentence: str) -> MergeFailedError:
    return MergeFailedError("bad_json", sentence)


def _loads(text: str, what: str) -> object:
    def refuse(name: str) -> object:
        raise ValueError(name)

    try:
        return json.loads(text, parse_constant=refuse)
    except json.JSONDecodeError as problem:
        raise _bad(f"{what} is not JSON (line {problem.lineno}, column {problem.colno}).") from None
    except (ValueError, RecursionError):
        raise _bad(f"{what} holds a value that cannot be read.") from None


def _sized(value: object, what: str) -> list[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SLOTS:
        raise _bad(f"{what} must be a list of 1 to {MAX_SLOTS} items.")
    return value


def _list(text: str, what: str) -> list[object]:
    return _sized(_loads(text, what), what)


def _prompt(value: object) -> str:
    if not isinstance(value, str):
        raise _bad("every prompt must be a string.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _bad("a prompt holds half a character (a lone surrogate).") from None
    return value


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _MAX_SEED:
        raise _bad("every seed must be an integer from 0 to 2^64-1.")
    return value


def _scale(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MAX_SCALE or not math.isfinite(value):
        raise _bad(f"every value of {what} must be a number from 0 to {_MAX_SCALE:g}.")
    return float(value)


def _guidance(value: object) -> float | None:
    return None if value is None else _scale(value, "guidance")


def _save_slot(value: object) -> tuple[str, str]:
    if not isinstance(value, dict) or set(value) != {"id", "prefix"}:
        raise _bad('every slot must be {"id": ..., "prefix": ...}.')
    name, prefix = value["id"], value["prefix"]
    if not isinstance(name, str) or not _SLOT_ID.fullmatch(name):
        raise _bad("a slot's id must be 1 to 64 of A-Z a-z 0-9 . _ -")
    is_tame = isinstance(prefix, str) and 1 <= len(prefix) <= _MAX_PREFIX_CHARS and prefix.isprintable() and prefix[0] != "/"
    if not is_tame or any(part in prefix for part in ("..", "\\", ":")):
        raise _bad(f"a slot's prefix must be 1 to {_MAX_PREFIX_CHARS} characters and stay in its folder.")
    return name, prefix
