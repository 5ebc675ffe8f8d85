"""A blocked word is found however it is written, and only as a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.discord.blocked_words import blocked_in, folded, is_word, with_word, without_word

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
