"""What is shown: within Discord's limits whatever was typed, and nothing typed does anything."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from discord import ui
from hypothesis import given, settings
from hypothesis import strategies as st

from modules.discord.failures import sentence
from modules.discord.posting import Attached
from modules.discord.views.answer import place_sentence
from modules.discord.views.buttons import TEMPLATE, Act, Press, custom_id
from modules.discord.views.forms import Submission, edit_form, remix_form
from modules.discord.views.own_cards import HistoryEntry, history_card, queue_list
from modules.discord.views.queue_card import CardFace, CardState, face_of_place, queue_card
from modules.discord.views.recipe_card import recipe_card
from modules.discord.views.result_card import failure_card, result_card
from modules.discord.wording import bar, plain
from modules.domain.catalogue import Detail, ModelSpec, Range, WorkflowKind
from modules.domain.errors import ErrorCode, Param
from modules.domain.images import Dimensions
from modules.domain.jobs import Job, JobId, JobState
from modules.domain.people import Language
from modules.domain.queue import Place
from modules.domain.recipes import MAX_PROMPT_CHARS, ModelName, Seed, WorkflowName
from modules.utils.i18n import Phrasebook, Texts
from tests.support.builders import a_job, a_recipe
from tests.support.person_views import Json, walk

PHRASES = Phrasebook.load()
LANGUAGES = [PHRASES.texts(language) for language in Language]
NOW = datetime(2026, 1, 5, tzinfo=UTC)
PROMPTS = st.text(alphabet=st.sampled_from("ab \n\\`*_~|<>[]()#@:-+.1/!&é日"), max_size=MAX_PROMPT_CHARS)
SPEC = ModelSpec(
    name=ModelName("z-image"),
    label="Z-Image (Turbo)",
    workflows={WorkflowKind.IMAGINE: WorkflowName("z-image_imagine")},
    default_size=Dimensions(1024, 1024),
    sizes=(Dimensions(1024, 1024),),
    grid_px=16,
    min_side_px=256,
    max_side_px=2048,
    max_megapixels=2.0,
    steps=Range(low=1, high=50, default=8),
    cfg=Range(low=1, high=10, default=1),
    takes={WorkflowKind.IMAGINE: frozenset(Detail)},
)


def a_wordy_job(prompt: str, count: int = 4) -> Job:
    return replace(a_job(), recipe=replace(a_recipe(), prompt=prompt, negative_prompt=prompt, count=count))


def views_of(job: Job, texts: Texts) -> Iterator[ui.LayoutView]:
    for state in CardState:
        yield queue_card(job, CardFace(state=state, position=3, moment=NOW, step=3, steps=8, shared_by=4, preview=1), SPEC, texts)
    names = [f"{number}.png" for number in range(job.recipe.count)]
    yield result_card(job, names, SPEC, texts)
    yield failure_card(job, sentence("prompt_too_long", {"limit": 1, "length": 2}.items(), texts), SPEC, texts, with_mention=True)
    yield recipe_card(job, SPEC, texts)
    yield queue_list([job] * 12, {job.id: None}, [SPEC], texts)
    yield history_card([HistoryEntry(job=job, spec=SPEC, thumbnail=None)] * 3, 1_000, texts)


@settings(deadline=None, max_examples=40)
@given(PROMPTS)
def test_every_view_stays_within_discords_limits(prompt: str) -> None:
    for texts in LANGUAGES:
        for view in views_of(a_wordy_job(prompt), texts):
            shapes = list(shapes_of(view))
            assert len(shapes) <= 40
            assert view.content_length() <= 4_000
            ids = [shape["custom_id"] for shape in shapes if "custom_id" in shape]
            assert all(len(custom) <= 100 for custom in ids)
            assert all(1 <= len(shape["label"]) <= 80 for shape in shapes if shape.get("label"))
            assert all(shape["content"] for shape in shapes if shape["type"] == 10)


@pytest.mark.parametrize("texts", LANGUAGES, ids=["en", "es"])
def test_no_result_has_two_buttons_of_one_id(texts: Texts) -> None:
    for count in (1, 2, 3, 4):
        view = result_card(a_wordy_job("a fox", count), ["x.png"] * count, SPEC, texts)
        ids = [shape["custom_id"] for shape in shapes_of(view) if "custom_id" in shape]
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("count", [1, 4])
def test_a_result_offers_only_what_there_is_a_template_for(count: int) -> None:
    def offered(kinds: Collection[WorkflowKind]) -> set[str]:
        view = result_card(a_wordy_job("a fox", count), ["x.png"] * count, SPEC, LANGUAGES[0], offers=kinds)
        return {shape["custom_id"].split(":")[1] for shape in shapes_of(view) if "custom_id" in shape}

    everything = offered(tuple(WorkflowKind))
    assert {"upscale", "edit", "vary"} <= everything
    assert offered({WorkflowKind.IMAGINE, WorkflowKind.EDIT}) == everything - {"upscale"}
    assert offered({WorkflowKind.IMAGINE}) == everything - {"upscale", "edit"}


#: What Discord's client would act on, once backslash escapes are made letters.
_ALIVE = re.compile(r"[`*_~|<>\[\]@#]|^\d*[-+.](\s|$)|://")


@given(PROMPTS)
def test_nothing_typed_formats_mentions_or_links(prompt: str) -> None:
    shown = plain(prompt, 200)
    assert "\n" not in shown
    assert not _ALIVE.search(re.sub(r"\\[^A-Za-z0-9\s]", "x", shown)), shown


@given(PROMPTS)
def test_what_is_shown_is_what_was_typed(prompt: str) -> None:
    shown = re.sub(r"\\([^A-Za-z0-9\s])", r"\1", plain(prompt, MAX_PROMPT_CHARS))
    assert shown == " ".join(prompt.split())


@pytest.mark.parametrize(("language", "said"), [(Language.ENGLISH, "-# for 9.9 s now"), (Language.SPANISH, "-# lleva 9,9 s")])
def test_a_drawing_card_says_in_words_that_its_time_has_passed(language: Language, said: str) -> None:
    drawing = CardFace(state=CardState.DRAWING, step=3, steps=8, elapsed_s=9.9)
    shown = [
        shape["content"] for shape in shapes_of(queue_card(a_job(), drawing, SPEC, PHRASES.texts(language))) if "content" in shape
    ]
    assert said in shown


@given(st.integers(-5, 200), st.integers(-5, 200))
def test_the_bar_has_eight_cells(done: int, of: int) -> None:
    assert len(bar(done, of)) == 8


@given(st.sampled_from(list(Act)), st.uuids(), st.sampled_from(["", "0", "3", "zz9"]))
def test_a_button_is_read_as_it_was_written(act: Act, uuid: UUID, argument: str) -> None:
    written = custom_id(act, JobId(uuid), argument)
    found = re.fullmatch(TEMPLATE, written)
    assert found is not None
    assert len(written) <= 100
    assert Press.read(found) == Press(act=act, job_id=JobId(uuid), argument=argument)


def test_forms_fit_and_are_read_back() -> None:
    for texts in LANGUAGES:
        job = a_wordy_job("a fox " * 300)
        job = replace(job, recipe=replace(job.recipe, workflow=SPEC.workflows[WorkflowKind.IMAGINE]))
        for form in (edit_form(job, None, texts), edit_form(job, 2, texts), remix_form(job, SPEC, texts)):
            shape = form.to_dict()
            assert 1 <= len(form.children) <= 5
            assert len(shape["title"]) <= 45
            assert all(len(label["label"]) <= 45 for label in shape["components"])
            submission = Submission.read({"custom_id": shape["custom_id"], "components": shape["components"]})
            assert submission is not None
            assert submission.job_id == job.id


def test_what_is_no_form_of_ours_is_left_alone() -> None:
    for custom in ("", "m1:dance:1", "m2:edit:1", "f1:edit:1", "m1:edit:" + "z" * 40):
        assert Submission.read({"custom_id": custom, "components": []}) is None


def test_a_moment_that_barely_moved_is_no_news() -> None:
    def face(seconds: float, position: int = 2) -> CardFace:
        at = NOW + timedelta(seconds=seconds)
        return face_of_place(Place(position=position, starts_at=at, ends_at=at))

    assert face(0).looks_like(face(19))
    assert not face(0).looks_like(face(21))
    assert not face(0).looks_like(face(0, position=1))


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_error_is_worded_in_both_languages_without_a_gap(code: ErrorCode) -> None:
    params: dict[str, Param] = {
        "limit": 2, "length": 5_000, "model": "x", "known": "a, b", "alternative": "", "text": "`y`", "example": "1024x1024",
        "min_px": 64, "max_px": 2048, "max_megapixels": 2.5, "field": "seed", "low": 0, "high": 9, "value": "z", "megapixels": 67,
        "owner": "*Ana*",
        "limit_mib": 10, "limit_megapixels": 16, "limit_s": 300, "permission": "manage_channels", "incident": "ab12",
        "workflow": "w", "problem": "p", "node": "n", "reason": "r",
    }  # fmt: skip
    for texts in LANGUAGES:
        said = sentence(code.value, params.items(), texts)
        assert said not in {texts("error.unknown"), ""} or code is ErrorCode.UNEXPECTED
        assert "{" not in said
        assert "*Ana*" not in said.replace("\\*", "")


def test_an_error_of_a_newer_version_still_gets_a_sentence() -> None:
    assert sentence("solar_flare", [], LANGUAGES[0]) == "Something went wrong. Your turn was not used up; try again."


def test_a_recipe_cannot_close_its_own_box() -> None:
    job = a_wordy_job("``` @everyone ```")
    prompt_box = next(
        shape["content"] for shape in shapes_of(recipe_card(job, SPEC, LANGUAGES[0])) if "@everyone" in str(shape.get("content"))
    )
    assert prompt_box.count("```") == 2


def shapes_of(view: ui.LayoutView) -> Iterator[Json]:
    """Every component as Discord gets it."""
    shapes: list[Json] = view.to_components()  # type: ignore[no-untyped-call] # discord.py left it so
    yield from walk(shapes)


ENLARGER = replace(
    SPEC, label="Upscale", workflows={WorkflowKind.UPSCALE: WorkflowName("upscale")}, takes={WorkflowKind.UPSCALE: frozenset()}
)


@pytest.mark.parametrize("texts", LANGUAGES)
def test_what_a_template_does_not_take_is_not_told(texts: Texts) -> None:
    job = replace(
        a_job(), recipe=replace(a_recipe(), workflow=WorkflowName("upscale"), prompt="", size=None, seed=Seed(987654321))
    )
    for view in (recipe_card(job, ENLARGER, texts), result_card(job, ["1.png"], ENLARGER, texts)):
        told = "\n".join(str(shape.get("content", "")) for shape in shapes_of(view))
        assert "Upscale" in told
        for word in ("```\n\n```", texts("card.no_prompt"), texts("recipe.steps"), texts("recipe.seed"), str(job.recipe.seed)):
            assert word not in told


@pytest.mark.parametrize("texts", LANGUAGES)
def test_the_history_tells_that_a_picture_is_no_longer_kept(texts: Texts) -> None:
    job = replace(a_job(), state=JobState.DELIVERED)
    kept = HistoryEntry(job=job, spec=SPEC, thumbnail=Attached(name="1.png", data=b""))
    for entry, is_told in ((replace(kept, thumbnail=None), True), (kept, False)):
        told = "\n".join(str(shape.get("content", "")) for shape in shapes_of(history_card([entry], None, texts)))
        assert (texts("history.gone", count=job.recipe.count) in told) is is_told


@pytest.mark.parametrize("texts", LANGUAGES, ids=str)
@pytest.mark.parametrize("position", [1, 3])
def test_before_the_gpus_were_asked_nobody_reads_that_they_are_away(texts: Texts, position: int) -> None:
    open_ = Place(position=position, starts_at=None, ends_at=None, is_moment_open=True)
    away = replace(open_, is_moment_open=False)
    assert place_sentence(open_, 1, texts) != place_sentence(away, 1, texts)
    assert texts.ordinal(position) in place_sentence(open_, 1, texts)
    assert face_of_place(open_).state in (CardState.NEXT, CardState.WAITING)
    assert face_of_place(away).state is CardState.AWAY
