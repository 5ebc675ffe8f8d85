"""A blocked word is found however it is written, and only as a word."""

from __future__ import annotations

import random
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ai.wishes import read_prompt
from modules.discord.blocked_words import blocked_in, folded, is_word, with_word, without_word
from modules.discord.wording import quoted
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.invisible import INVISIBLE
from modules.utils.i18n import Phrasebook

PHRASES = Phrasebook.load()
WORDS = st.text(alphabet="abcñéüßΣğİ日ก٣", min_size=1, max_size=8).filter(is_word)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("gore", "so much GORE, please"),
        ("gore", "«góre»"),
        ("gore", "ｇｏｒｅ"),
        ("gore", "go\u200bre"),
        ("gore", "go\u00adre"),
        ("gore", "g\u0336o\u0336r\u0336e\u0336"),
        ("gore", "g\ufe0fo\ufe0fr\ufe0fe"),  # variation selectors
        ("gore", "go\u3164re"),  # Hangul fillers, which count as letters
        ("gore", "go\u115f\u1160\uffa0re"),
        ("gore", "go\u034fre"),  # combining grapheme joiner
        ("gore", "go\u17b4\u180ere"),
        ("gore", "g\U000e0101o\U000e0041r\U000e01efe"),  # more variation selectors, tags
        ("niño", "un nino"),
        ("straße", "STRASSE"),
        ("blood bath", "a blood\n  bath!"),
        ("血", "真っ赤な血の海"),
        ("เลือด", "ทะเลเลือดสีแดง"),
        ("ΣΊΣΥΦΟΣ", "σίσυφος"),
    ],
)
def test_a_blocked_word_is_found(word: str, text: str) -> None:
    assert blocked_in(text, ["never", word]) == word


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("gore", "Al Gore's gorecki categories: gores".replace("Gore's", "Gores")),
        ("ass", "a classic glass"),
        ("blood bath", "blood in a bath"),
        ("!!!", "wow!!!"),
        ("", ""),
        ("!!!", ""),
        ("कम", "कमल"),
    ],
)
def test_a_part_of_another_word_is_not(word: str, text: str) -> None:
    assert blocked_in(text, [word]) is None


@given(WORDS, st.sampled_from(["", " ", "x, ", "…"]), st.sampled_from(["", "!", " y", "\n"]))
def test_any_word_is_found_in_capitals_between_anything(word: str, before: str, after: str) -> None:
    assert blocked_in(f"{before}{word.upper()}{after}", [word]) == word


@given(WORDS, st.lists(st.sampled_from(sorted(INVISIBLE)), min_size=1, max_size=12), st.randoms())
def test_any_word_is_found_with_any_invisible_characters_inside(word: str, unseen: list[str], dice: random.Random) -> None:
    letters = list(word)
    for char in unseen:
        letters.insert(dice.randrange(len(letters) + 1), char)
    assert blocked_in("".join(letters), [word]) == word


def test_the_characters_that_nobody_sees_are_those_of_unicode() -> None:
    """4,174 in Unicode 16, the property's count in DerivedCoreProperties.txt."""
    assert len(INVISIBLE) == 4_174
    assert not any(char.isalnum() and unicodedata.category(char) != "Lo" for char in INVISIBLE)


@pytest.mark.parametrize("text", ["", " \n", "\u3164", "\ufe0f \u200b\u2063", "\U000e0041\U000e007f"])
def test_a_prompt_that_nobody_can_see_is_empty(text: str) -> None:
    with pytest.raises(FulletError) as refusal:
        read_prompt(text, is_required=True)
    assert refusal.value.code is ErrorCode.PROMPT_EMPTY
    assert read_prompt(text, is_required=False) == ""
    assert quoted(text, 100, PHRASES.texts("en")) == quoted("", 100, PHRASES.texts("en"))
    assert not is_word(text)


@pytest.mark.parametrize("text", ["👩\u200d🚀", "❤\ufe0f", "a\u00adb", "한"])
def test_what_can_be_seen_is_kept_as_it_was_typed(text: str) -> None:
    assert read_prompt(text, is_required=True) == text


@given(st.lists(WORDS, max_size=6), WORDS)
def test_the_list_holds_a_word_once_and_forgets_it_whole(words: list[str], word: str) -> None:
    held: tuple[str, ...] = ()
    for one in words:
        held = with_word(held, one)
    held = with_word(with_word(held, word), word.upper())
    assert sum(folded(one) == folded(word) for one in held) == 1
    assert blocked_in(word, held) is not None
    assert all(folded(one) != folded(word) for one in without_word(held, word))


@given(st.text(max_size=100))
def test_folding_twice_changes_nothing(text: str) -> None:
    assert folded(folded(text)) == folded(text)
