"""Words that a guild does not want in prompts: how a list of them is kept, and how a prompt is looked through."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from modules.domain.invisible import INVISIBLE

#: A list that a person can still read, and that is quickly looked through at every prompt.
MOST_WORDS = 500
MAX_WORD_CHARS = 60
#: Scripts written without spaces, by the beginning of their letters' Unicode names: there a word may stand anywhere.
_UNSPACED = ("CJK ", "HIRAGANA ", "KATAKANA ", "THAI ", "LAO ", "KHMER ", "MYANMAR ")


def blocked_in(text: str, words: Iterable[str]) -> str | None:
    """The first of these words (or phrases) that stands in a text as a word of its own; None when none does."""
    said = folded(text)
    return next((word for word in words if _stands_in(said, folded(word))), None)


def with_word(words: tuple[str, ...], word: str) -> tuple[str, ...]:
    """The list with this word once, at its end."""
    return (*without_word(words, word), " ".join(word.split()).casefold())


def without_word(words: tuple[str, ...], word: str) -> tuple[str, ...]:
    """The list without it; the same word in other capitals or accents is the same word."""
    return tuple(one for one in words if folded(one) != folded(word))


def is_word(word: str) -> bool:
    """Whether there is anything in it that a prompt could say."""
    return bool(folded(word).strip()) and len(word) <= MAX_WORD_CHARS


def folded(text: str) -> str:
    """The words alone: no capitals, accents, tricks of width or invisible characters; one space between them and around."""
    flat = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", text).casefold())
    return f" {' '.join(''.join(map(_kept, flat)).split())} "


def _kept(char: str) -> str:
    if char in INVISIBLE or unicodedata.combining(char) or unicodedata.category(char) == "Cf":
        return ""  # accents; joiners, fillers and variation selectors, which would cut a word in two
    is_letter = char.isalnum() or unicodedata.category(char).startswith("M")  # vowel signs, which are no accents
    return char if is_letter else " "


def _stands_in(said: str, wanted: str) -> bool:
    inner = wanted.strip()
    if not inner:
        return False
    return wanted in said or (inner in said and any(unicodedata.name(char, "").startswith(_UNSPACED) for char in inner))
