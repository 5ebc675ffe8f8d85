"""Numbers as people type them into text fields: any script's digits, no surprises."""

from __future__ import annotations

import re
import unicodedata

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.recipes import MAX_SEED, Seed

_WHOLE = re.compile(r"[+-]?\d{1,25}")
_DECIMAL = re.compile(r"[+-]?\d{1,12}(?:[.,]\d{1,12})?")


def whole_number(text: str, field: str, low: int, high: int) -> int | None:
    """None for nothing typed. Raises VALUE_NOT_A_NUMBER (`1e9` and `NaN` included), VALUE_OUT_OF_RANGE."""
    typed = _plain_digits(text)
    if not typed:
        return None
    if not _WHOLE.fullmatch(typed):
        raise FulletError(ErrorCode.VALUE_NOT_A_NUMBER, field=field, example=12)
    number = int(typed)
    if not low <= number <= high:
        raise FulletError(ErrorCode.VALUE_OUT_OF_RANGE, field=field, low=low, high=high)
    return number


def decimal_number(text: str, field: str, low: float, high: float) -> float | None:
    """The same with a decimal point or comma."""
    typed = _plain_digits(text)
    if not typed:
        return None
    if not _DECIMAL.fullmatch(typed):
        raise FulletError(ErrorCode.VALUE_NOT_A_NUMBER, field=field, example=5.5)
    number = float(typed.replace(",", "."))
    if not low <= number <= high:
        raise FulletError(ErrorCode.VALUE_OUT_OF_RANGE, field=field, low=low, high=high)
    return number


def seed_number(text: str, field: str = "seed") -> Seed | None:
    """A seed, or None for "choose one"."""
    number = whole_number(text, field, 0, MAX_SEED)
    return None if number is None else Seed(number)


def _plain_digits(text: str) -> str:
    """Full-width and other digits as ASCII, without spaces around."""
    return "".join(
        str(unicodedata.decimal(char)) if char.isdecimal() else char for char in unicodedata.normalize("NFKC", text).strip()
    )
