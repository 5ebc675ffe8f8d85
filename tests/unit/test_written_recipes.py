"""A recipe out of a file may be anything: it is read as far as it makes sense and never trusted."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ai.provenance import recipe_text
from modules.discord.drafts import MAX_LORAS
from modules.discord.views.recipe_card import recipe_as_json
from modules.discord.written_recipes import MAX_RECIPE_CHARS, read_written
from modules.domain.jobs import JobId, Slot
from modules.domain.recipes import MAX_PROMPT_CHARS, MAX_SEED, Lora, Recipe, Seed
from tests.support.builders import a_job, a_recipe

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["model", "prompt", "negative_prompt", "size", "seed", "steps", "cfg", "loras", "count", "is_edit", "name"]
)


def a_full_recipe() -> Recipe:
    loras = (Lora(name="styles/ink.safetensors", strength=0.5), Lora(name="b.safetensors"))
    return a_recipe('un zorro ☃ "x"', negative_prompt="lluvia", seed=MAX_SEED, steps=12, cfg=6.5, loras=loras)


@pytest.mark.parametrize("is_from_picture", [True, False])
def test_what_we_write_we_read(is_from_picture: bool) -> None:
    recipe = a_full_recipe()
    slot = Slot(index=3, job_id=JobId(a_job().id), picture_index=0, seed=Seed(MAX_SEED))
    written = recipe_text(recipe, slot) if is_from_picture else json.dumps(recipe_as_json(recipe))
    read = read_written(written)
    assert read is not None
    draft = read.draft
    assert (draft.prompt, draft.negative_prompt, draft.model, draft.size) == (recipe.prompt, "lluvia", "flux", "1024x1024")
    assert (draft.seed, draft.steps, draft.cfg) == (str(MAX_SEED), "12", "6.5")
    assert list(zip(draft.loras, draft.strengths, strict=True)) == [("styles/ink.safetensors", "0.5"), ("b.safetensors", "1")]


@given(st.dictionaries(FIELDS, ANY_JSON) | ANY_JSON)
def test_any_json_is_read_or_refused_and_stays_within_limits(told: object) -> None:
    read = read_written(json.dumps(told))
    if read is not None:
        draft = read.draft
        assert draft.model or draft.prompt
        assert len(draft.prompt) <= MAX_PROMPT_CHARS
        assert len(draft.loras) == len(draft.strengths) <= MAX_LORAS
        assert all(len(number) <= 24 for number in (draft.steps, draft.cfg, draft.seed, draft.count))
        "".join((draft.model, draft.prompt, draft.size, *draft.loras)).encode()  # no broken surrogates


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    read_written(text)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{}", '{"seed": 1}', "[" * 60_000, '{"prompt": "' + "x" * MAX_RECIPE_CHARS + '"}', "NaN"]
)
def test_what_is_no_recipe_is_none(text: str) -> None:
    assert read_written(text) is None


def test_a_number_of_a_thousand_digits_is_somebodys_joke() -> None:
    read = read_written('{"prompt": "x", "seed": 1' + "0" * 4_000 + ', "steps": NaN, "cfg": true}')
    assert read is not None
    assert len(read.draft.seed) == 21  # too large for any field, which the form will say
    assert (read.draft.steps, read.draft.cfg) == ("nan", "")


def test_a_broken_surrogate_is_left_out() -> None:
    read = read_written('{"prompt": "a \\ud800 fox"}')
    assert read is not None
    assert read.draft.prompt == "a  fox"
