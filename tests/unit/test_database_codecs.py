"""Recipes and other values as they are stored."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Dialect
from sqlalchemy.dialects import postgresql, sqlite

from modules.domain.errors import FulletError
from modules.domain.images import BlobId, Dimensions
from modules.domain.recipes import MAX_SEED, Lora, Recipe
from modules.utils.database.codecs import recipe_from_json, recipe_to_json
from modules.utils.database.types import Json, JsonValue, SafeText, UtcDateTime
from tests.support.builders import a_recipe

DIALECTS: list[Dialect] = [sqlite.dialect(), postgresql.dialect()]  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
FINITE = st.floats(allow_nan=False, allow_infinity=False)
RECIPES = st.builds(
    a_recipe,
    prompt=st.text(max_size=50),
    negative_prompt=st.text(max_size=10),
    size=st.none() | st.builds(Dimensions, st.integers(16, 8192), st.integers(16, 8192)),
    seed=st.integers(0, MAX_SEED),
    steps=st.integers(1, 150),
    cfg=FINITE,
    guidance=st.none() | FINITE,
    sampler=st.none() | st.text(max_size=10),
    denoise=FINITE,
    loras=st.lists(st.builds(Lora, name=st.text(max_size=10), strength=FINITE), max_size=3).map(tuple),
    count=st.integers(1, 4),
    source=st.none() | st.uuids().map(lambda uuid: BlobId(str(uuid))),
)


@given(RECIPES)
def test_every_recipe_comes_back_as_it_was(recipe: Recipe) -> None:
    for dialect in DIALECTS:
        stored = Json().process_bind_param(recipe_to_json(recipe), dialect)
        assert stored is not None
        assert stored.isascii()
        assert recipe_from_json(Json().process_result_value(stored, dialect)) == recipe


def test_a_recipe_of_an_older_version_gets_todays_defaults() -> None:
    old: JsonValue = {"v": 1, "workflow": "w", "model": "m", "prompt": "p", "size": [64, 32], "seed": 1, "steps": 2, "cfg": 1.0}
    assert recipe_from_json(old) == a_recipe("p", workflow="w", model="m", size=Dimensions(64, 32), seed=1, steps=2)


def test_a_recipe_of_a_newer_version_is_read_as_far_as_we_know_it() -> None:
    newer = json.loads(json.dumps(recipe_to_json(a_recipe()))) | {"v": 9, "upscale": {"by": 2}}
    assert recipe_from_json(newer) == a_recipe()


@pytest.mark.parametrize("broken", [None, "text", [], {}, {"workflow": "w"}, {"size": [1, 2, 3]}, {"loras": [["only a name"]]}])
def test_a_recipe_that_cannot_be_read_is_said_to_be_gone(broken: object) -> None:
    with pytest.raises(FulletError, match="recipe_gone"):
        recipe_from_json(broken)  # type: ignore[arg-type]  # whatever a database may hold


@given(st.datetimes(timezones=st.timezones()))
def test_instants_come_back_as_the_same_moment_in_utc(moment: datetime) -> None:
    for dialect in DIALECTS:
        try:
            bound = UtcDateTime().process_bind_param(moment, dialect)
        except OverflowError:  # the edges of the calendar have no UTC
            return
        again = UtcDateTime().process_result_value(bound, dialect)
        assert again == moment.astimezone(UTC)
        assert again is not None
        assert again.tzinfo is UTC


def test_a_naive_instant_is_refused() -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001
    with pytest.raises(ValueError, match="naive"):
        UtcDateTime().process_bind_param(naive, DIALECTS[0])
    assert UtcDateTime().process_bind_param(naive.replace(tzinfo=timezone(timedelta(hours=1))), DIALECTS[0]) is not None


@given(st.text(alphabet=st.characters(), max_size=30))
def test_shown_text_can_be_stored_anywhere_and_stays_readable(text: str) -> None:
    kept = SafeText().process_bind_param(text, DIALECTS[1])
    assert kept is not None
    assert len(kept) == len(text)
    kept.encode("utf-8")
    assert "\x00" not in kept
