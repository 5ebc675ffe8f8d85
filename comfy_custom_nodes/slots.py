"""Per-slot values as they travel: JSON in a string input. Pure Python, no torch, no ComfyUI.

JSON is exact (prompts may hold quotes, newlines, separators), small, and can be checked before anything is queued.
"""

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Never, TypeVar

from .protocol import MAX_SLOTS, MergeError

T = TypeVar("T")

#: ComfyUI's own limit for a seed; torch's generators take no more than 64 bits.
MAX_SEED = 2**64 - 1
MAX_CFG = 100.0
MAX_GUIDANCE = 100.0
MAX_PREFIX_CHARS = 200
SLOT_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SaveSlot:
    """Where one slot's picture goes: `id` comes back with the file, `prefix` is ComfyUI's filename prefix."""

    id: str
    prefix: str


def parse_prompts(text: str) -> tuple[str, ...]:
    """The prompts of all slots, in slot order; raises MergeError("bad_json")."""
    return tuple(_prompt(item) for item in _list(_loads(text, "prompts"), "prompts"))


def parse_seeds(text: str) -> tuple[int, ...]:
    """The seeds of all slots, in slot order; raises MergeError("bad_json")."""
    return tuple(_seed(item) for item in _list(_loads(text, "seeds"), "seeds"))


def parse_cfg(text: str) -> float | tuple[float, ...]:
    """One scale for all slots, or one for each; raises MergeError("bad_json")."""
    value = _loads(text, "cfg")
    if isinstance(value, list):
        return tuple(_number(item, "cfg", MAX_CFG) for item in _list(value, "cfg"))
    return _number(value, "cfg", MAX_CFG)


def parse_guidance(text: str) -> float | tuple[float | None, ...] | None:
    """One guidance value for all slots, one for each, or none; raises MergeError("bad_json")."""
    if not text.strip():
        return None
    value = _loads(text, "guidance")
    if isinstance(value, list):
        return tuple(_number_or_none(item) for item in _list(value, "guidance"))
    return _number_or_none(value)


def parse_save_slots(text: str) -> tuple[SaveSlot, ...]:
    """Ids and filename prefixes in slot order; raises MergeError("bad_json")."""
    slots = tuple(_save_slot(item) for item in _list(_loads(text, "slots"), "slots"))
    if len({slot.id for slot in slots}) < len(slots):
        raise MergeError("bad_json", "two of the slots have the same id.")
    return slots


def spread(value: T | Sequence[T], count: int, what: str) -> tuple[T, ...]:
    """One value for each of `count` slots; raises MergeError("slot_count") when a list has another length."""
    if not isinstance(value, tuple | list):
        return (value,) * count  # type: ignore[return-value]  # a str is no list of values here
    agree(len(value), count, what)
    return tuple(value)


def agree(found: int, count: int, what: str) -> None:
    """Raises MergeError("slot_count") unless both numbers are the same."""
    if found != count:
        raise MergeError("slot_count", f"{what} has {found} slot(s), the others have {count}.")


def verdict(parse: Callable[[str], object], text: str | None) -> str | None:
    """What VALIDATE_INPUTS has to say about one input: nothing when it is fine, or linked and not known yet."""
    if text is None:
        return None
    try:
        parse(text)
    except MergeError as error:
        return str(error)
    return None


def _loads(text: str, what: str) -> object:
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MergeError("bad_json", f"{what} is not JSON ({where}).") from None
    except (ValueError, RecursionError):  # NaN, a number of thousands of digits, brackets without end
        raise MergeError("bad_json", f"{what} holds a value that cannot be read.") from None


def _refuse_constant(name: str) -> Never:
    raise ValueError(name)


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list) or not 1 <= len(value) <= MAX_SLOTS:
        raise MergeError("bad_json", f"{what} must be a list of 1 to {MAX_SLOTS} items.")
    return value


def _prompt(value: object) -> str:
    if not isinstance(value, str):
        raise MergeError("bad_json", "every prompt must be a string.")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise MergeError("bad_json", "a prompt holds half a character (a lone surrogate).") from None
    return value


def _seed(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_SEED:
        raise MergeError("bad_json", "every seed must be an integer from 0 to 2^64-1.")
    return value


def _number(value: object, what: str, most: float) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or not 0 <= value <= most:
        raise MergeError("bad_json", f"every value of {what} must be a number from 0 to {most:g}.")
    return float(value)


def _number_or_none(value: object) -> float | None:
    return None if value is None else _number(value, "guidance", MAX_GUIDANCE)


def _save_slot(value: object) -> SaveSlot:
    if not isinstance(value, dict) or set(value) != {"id", "prefix"}:
        raise MergeError("bad_json", 'every slot must be {"id": ..., "prefix": ...}.')
    slot_id, prefix = value["id"], value["prefix"]
    if not isinstance(slot_id, str) or not SLOT_ID.fullmatch(slot_id):
        raise MergeError("bad_json", "a slot's id must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if not isinstance(prefix, str) or not _is_tame_prefix(prefix):
        raise MergeError("bad_json", f"a slot's prefix must be 1 to {MAX_PREFIX_CHARS} characters and stay in its folder.")
    return SaveSlot(slot_id, prefix)


def _is_tame_prefix(prefix: str) -> bool:
    if not 1 <= len(prefix) <= MAX_PREFIX_CHARS or not prefix.isprintable() or CONTROL_CHARACTERS.search(prefix):
        return False
    return ".." not in prefix and "\\" not in prefix and ":" not in prefix and not prefix.startswith("/")
