"""Reading what people typed: texts, numbers and sizes, each with the error it deserves."""

from __future__ import annotations

import math
import re
import unicodedata

from modules.domain.catalogue import Range
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import Dimensions
from modules.domain.invisible import says_something
from modules.domain.recipes import MAX_PROMPT_CHARS

#: Characters kept although Unicode calls them controls.
_KEPT_CONTROLS = "\n\t"
#: What East Asian keyboards write for these; digits of any script are digits to `\d` and `int` anyway.
_FULL_WIDTH = str.maketrans("．，ｘＸ＋－", ".,xX+-")
_WHOLE = re.compile(r"[+-]?\d{1,20}")
_DECIMAL = re.compile(r"[+-]?\d{1,20}(?:[.,]\d{1,10})?")
_LONGEST_ECHO = 40


def clean_text(text: str) -> str:
    """A prompt without NUL, control characters and broken surrogates, with plain line ends; nothing else is changed."""
    unified = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(char for char in unified if char in _KEPT_CONTROLS or unicodedata.category(char) not in ("Cc", "Cs")).strip()


def read_prompt(text: str, *, is_required: bool) -> str:
    """A cleaned prompt; one of invisible characters alone is empty. Raises PROMPT_EMPTY, PROMPT_TOO_LONG."""
    prompt = clean_text(text)
    if not says_something(prompt):
        if is_required:
            raise FulletError(ErrorCode.PROMPT_EMPTY)
        return ""
    if len(prompt) > MAX_PROMPT_CHARS:
        raise FulletError(ErrorCode.PROMPT_TOO_LONG, limit=MAX_PROMPT_CHARS, length=len(prompt))
    return prompt


def read_whole(value: object, field: str, allowed: Range) -> int:
    """A whole number in a range. Texts may use any script's digits, but no `1e9`, no `NaN`. Raises VALUE_*."""
    number: int | None = None
    if isinstance(value, str) and _WHOLE.fullmatch(plain := value.translate(_FULL_WIDTH).strip()):
        number = int(plain)
    elif isinstance(value, int) and not isinstance(value, bool):
        number = value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if number is None:
        raise FulletError(ErrorCode.VALUE_NOT_A_NUMBER, field=field, example=12)
    _need_inside(number, field, allowed)
    return number


def read_decimal(value: object, field: str, allowed: Range) -> float:
    """A finite number in a range; a comma may stand for the point. Raises VALUE_*."""
    number: float | None = None
    if isinstance(value, str) and _DECIMAL.fullmatch(plain := value.translate(_FULL_WIDTH).strip()):
        number = float(plain.replace(",", "."))
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        number = float(value)
    if number is None:
        raise FulletError(ErrorCode.VALUE_NOT_A_NUMBER, field=field, example=5.5)
    _need_inside(number, field, allowed)
    return number


def read_size(value: str | Dimensions, example: Dimensions) -> Dimensions:
    """A size as typed. Raises SIZE_INVALID."""
    size = value if isinstance(value, Dimensions) else Dimensions.parse(value.translate(_FULL_WIDTH))
    if size is None:
        raise FulletError(ErrorCode.SIZE_INVALID, text=clean_text(str(value))[:_LONGEST_ECHO], example=str(example))
    return size


def _need_inside(number: float, field: str, allowed: Range) -> None:
    if not allowed.holds(number):
        raise FulletError(ErrorCode.VALUE_OUT_OF_RANGE, field=field, low=_short(allowed.low), high=_short(allowed.high))


def _short(bound: float) -> int | float:
    return int(bound) if float(bound).is_integer() else bound
