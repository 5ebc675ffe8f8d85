"""Both languages say the same, everything said is used, and everything used can be said."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.domain.errors import ErrorCode
from modules.domain.jobs import JobState
from modules.domain.people import Language
from modules.utils.i18n import Phrasebook, Texts, placeholders

ROOT = Path(__file__).parents[2]
PHRASES = Phrasebook.load()
ENGLISH, SPANISH = PHRASES.texts(Language.ENGLISH), PHRASES.texts(Language.SPANISH)
KEY = re.compile(r"[a-z][a-z_]*(\.[a-z_]+)+")
#: Keys put together at run time: each prefix stands with the place that does it.
FAMILIES = (
    "error.",
    "fault.",
    "trouble.",
    "problem.",
    "field.",
    "permission.",
    "state.",
    "server_state.",
    "merge.",
    "language.",
    "card.",
    "button.",
    "act.",
    "unit.",
    "doctor.",
    "gen.",
)


def literals(*folders: str) -> Iterator[str]:
    for folder in folders:
        for file in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield node.value


def test_both_languages_have_the_same_keys() -> None:
    assert ENGLISH.sentences.keys() == SPANISH.sentences.keys()
    assert ENGLISH.lists.keys() == SPANISH.lists.keys()


@pytest.mark.parametrize("key", sorted(ENGLISH.sentences))
def test_both_languages_have_the_same_placeholders(key: str) -> None:
    assert placeholders(ENGLISH.sentences[key]) == placeholders(SPANISH.sentences[key])


@pytest.mark.parametrize("texts", [ENGLISH, SPANISH], ids=["en", "es"])
def test_every_plural_form_of_the_language_is_written(texts: Texts) -> None:
    for key, sentence in texts.sentences.items():
        if not isinstance(sentence, str):
            rule = texts.locale.ordinal_form if key == "ordinal" else texts.locale.plural_form
            needed = {rule(number) for number in range(1_000)}  # beyond, `other` will do
            assert needed <= sentence.keys(), key


def test_every_sentence_is_used() -> None:
    said = set(literals("modules"))
    unused = {key for key in ENGLISH.sentences if key not in said and not key.startswith(FAMILIES) and key != "ordinal"}
    assert unused == set()


def test_every_key_in_the_code_exists() -> None:
    prefixes = {key.split(".", 1)[0] for key in ENGLISH.sentences}
    wanted = {text for text in literals("modules/discord") if KEY.fullmatch(text) and text.split(".", 1)[0] in prefixes}
    wanted -= {"preview.jpg", "recipe.json", "reference.jpg"}  # names of files
    assert wanted - ENGLISH.sentences.keys() == set()


def test_every_error_and_state_has_its_sentence() -> None:
    assert {f"error.{code.value}" for code in ErrorCode} <= ENGLISH.sentences.keys()
    assert {f"state.{state.value}" for state in JobState} <= ENGLISH.sentences.keys()


@pytest.mark.parametrize("key", sorted(key for key in ENGLISH.sentences if key.startswith("command.")))
def test_command_texts_fit_discords_limit(key: str) -> None:
    for texts in (ENGLISH, SPANISH):
        assert 1 <= len(str(texts.sentences[key])) <= 100


def test_ideas_fit_a_choice() -> None:
    for texts in (ENGLISH, SPANISH):
        assert all(1 <= len(idea) <= 100 for idea in texts.all_of("ideas"))


@pytest.mark.parametrize(
    ("number", "english"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (11, "11th"), (13, "13th"), (21, "21st"), (102, "102nd")],
)
def test_places_are_counted_as_people_count(number: int, english: str) -> None:
    assert ENGLISH.ordinal(number) == english
    assert SPANISH.ordinal(number) == f"{number}.º"


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0, "0 s"),
        (3.44, "3.4 s"),
        (59.7, "1 min"),
        (125, "2 min 5 s"),
        (300, "5 min"),
        (4_800, "1 h 20 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_are_written_for_people(seconds: float, written: str) -> None:
    assert ENGLISH.duration(seconds) == written
    assert SPANISH.duration(seconds) == written.replace(".", ",")


@given(st.floats(min_value=-1e6, max_value=1e9, allow_nan=False))
def test_any_duration_can_be_written(seconds: float) -> None:
    for texts in (ENGLISH, SPANISH):
        assert texts.duration(seconds)


def test_plurals_go_by_the_number() -> None:
    assert ENGLISH("card.pictures", count=1) == "1 picture"
    assert ENGLISH("card.pictures", count=4) == "4 pictures"
    assert SPANISH("admin.queue.title", count=1) == "1 trabajo activo"
    assert SPANISH("admin.queue.title", count=12_345) == "12.345 trabajos activos"


def test_discord_locales_find_their_language() -> None:
    assert PHRASES.texts("es-419").language is Language.SPANISH
    assert PHRASES.texts("en-GB").language is Language.ENGLISH
    assert PHRASES.texts("pt-BR").language is Language.ENGLISH
    assert PHRASES.texts(None).language is Language.ENGLISH
