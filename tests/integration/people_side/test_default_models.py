"""A model is meant by what people read of it, and only one that draws from words is anybody's default."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from modules.ai.workflows.template import Library
from modules.discord.cogs.image_commands import ImageCommands
from modules.domain.people import UserId
from modules.domain.recipes import ModelName, WorkflowName
from modules.domain.records import PersonSettings
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People, Person
from tests.support.pictures import a_picture

#: More than Discord has choices for.
MANY = 30
FROM_WORDS = ["Flux (Schnell)", "Z-Image (Turbo)", "SDXL", "Multisampler"]


def without(library: Library, *models: str) -> Library:
    kept = {name: template for name, template in library.templates.items() if template.manifest.model not in models}
    return replace(library, templates=kept)


def with_many_models(library: Library) -> Library:
    first = library.templates[WorkflowName("z-image_imagine")]
    more = {}
    for number in range(MANY):
        manifest = first.manifest.model_copy(update={"model": f"many-{number}", "label": f"Painter No. {number}"})
        name = WorkflowName(f"many_{number}")
        more[name] = replace(first, name=name, manifest=manifest)
    return replace(library, templates={**library.templates, **more})


async def kept_model(front: Front, person: Person) -> ModelName | None:
    return (await front.database.people.settings(UserId(int(person.id)))).model


async def keep(front: Front, person: Person, model: str) -> None:
    """As an earlier version, or an earlier set of manifests, let them."""
    await front.database.people.save_settings(PersonSettings(user_id=UserId(int(person.id)), model=ModelName(model)))


@pytest.mark.parametrize("typed", ["Z-Image (Turbo)", "  z-image (TURBO) ", "z-image", "Z-IMAGE"])
async def test_a_model_is_understood_by_name_and_by_label(front: Front, people: People, typed: str) -> None:
    bruno = await people.be("bruno")
    shown = await bruno.slash("settings", model=typed)
    assert "Model: **Z-Image (Turbo)**" in shown.text
    assert await kept_model(front, bruno) == "z-image"


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bruno", "There is no model called “dalle”. You can choose: {known}."),
        ("ana", "No hay ningún modelo llamado «dalle». Puedes elegir: {known}."),
    ],
)
async def test_an_unknown_model_is_told_with_the_labels_of_those_there_are(
    front: Front, people: People, name: str, sentence: str
) -> None:
    person = await people.be(name)
    refused = await person.slash("settings", model="dalle")
    assert refused.text == sentence.format(known=", ".join(FROM_WORDS))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("bruno", "Upscale doesn't draw from words alone, so nothing can begin with it. You can choose: {known}."),
        ("ana", "Upscale no dibuja solo con palabras, así que nada puede empezar con ese modelo. Puedes elegir: {known}."),
    ],
)
@pytest.mark.parametrize("typed", ["upscale", "Upscale"])
async def test_what_only_changes_pictures_is_nobodys_default(
    front: Front, people: People, name: str, sentence: str, typed: str
) -> None:
    person = await people.be(name)
    refused = await person.slash("settings", model=typed, size="512x512")
    assert refused.text == sentence.format(known=", ".join(FROM_WORDS))
    assert (await front.database.people.settings(UserId(int(person.id)))).size is None  # all or nothing


async def test_only_what_may_be_a_default_is_suggested(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    assert [choice.name for choice in await bruno.autocomplete("settings", "model")] == FROM_WORDS
    assert [choice.value for choice in await bruno.autocomplete("settings", "model", " turbo")] == ["z-image"]
    assert await bruno.autocomplete("settings", "model", "upscale") == []
    sizes = await bruno.autocomplete("settings", "size", "", model="SDXL")
    assert sizes == await bruno.autocomplete("settings", "size", "", model="sdxl")
    assert sizes != await bruno.autocomplete("settings", "size", "", model="flux")


@pytest.fixture
def fresh_imagine() -> Iterator[None]:
    """What one bot adds to a command's options stays with the class: the next bot of this process must not meet it."""
    option = ImageCommands.imagine._params["model"]  # discord.py offers no way to take it off again
    option.choices = []
    yield
    option.autocomplete = None


@pytest.mark.usefixtures("fresh_imagine")
async def test_with_more_models_than_choices_their_labels_may_be_typed_everywhere(door: FrontDoor, people: People) -> None:
    door.library = with_many_models(door.library)
    bruno = await people.be("bruno")
    async with door.open() as front:
        await bruno.slash("imagine", model="painter no. 7", prompt="a fox")
        assert (await front.studio.only_job()).recipe.model == "many-7"
        refused = await bruno.slash("imagine", model="Painter", prompt="a fox")
        assert "“Painter”. You can choose: Flux (Schnell), Painter No. 0, Painter No. 1, " in refused.text
        form = (await bruno.slash("gen")).message
        assert form is not None
        window = (await bruno.select(form, "Model", "find:")).modal
        assert window is not None
        await bruno.submit(window, query="painter no. 29")
        await bruno.wait_for_message(lambda m: m.id == form.id and m.select("Model").chosen == ("many-29",))


@pytest.mark.parametrize("stored", ["upscale", "sdxl"])
async def test_a_stored_default_that_cannot_draw_any_more_is_told_and_breaks_nothing(
    door: FrontDoor, people: People, stored: str
) -> None:
    door.library = without(door.library, "sdxl")
    bruno, ana = await people.be("bruno"), await people.be("ana")
    async with door.open() as front:
        for person in (bruno, ana):
            await keep(front, person, stored)
        assert f"Model: **as usual here, for {stored} can't be chosen any more**" in (await bruno.slash("settings")).text
        assert f"Modelo: **lo habitual aquí, porque {stored} ya no se puede elegir**" in (await ana.slash("settings")).text
        await bruno.slash("imagine", model="z-image", prompt="a fox")
        imagined = await front.studio.only_job()
        assert imagined.recipe.model == "z-image"
        await bruno.slash("edit", prompt="at night", image=await bruno.upload("fox.png", a_picture()))
        assert (await front.studio.only_job()).recipe.workflow == "flux_edit"
        form = (await ana.slash("gen")).message
        assert form is not None
        assert form.select("Modelo").chosen == ("multisampler",)
        await keep_writing(ana, form.button("Descripción y números").custom_id or "")


async def keep_writing(person: Person, words: str) -> None:
    """The form draws with what it shows."""
    form = await person.wait_for_message(lambda m: any(b.custom_id == words for b in m.buttons))
    window = (await person.press(form, words)).modal
    assert window is not None
    await person.submit(window, prompt="un faro")
    form = await person.wait_for_message(lambda m: m.id == form.id and "un faro" in m.text)
    await person.press(form, "Generar")
    await person.wait_for_message(lambda m: m.id == form.id and "está en camino" in m.text)


async def test_the_default_is_what_the_form_begins_with(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    for typed in ("SDXL", "multisampler", "Flux (Schnell)"):
        await bruno.slash("settings", model=typed)
        await front.database.control.set(f"discord.draft.{bruno.id}", None)
        form = (await bruno.slash("gen")).message
        assert form is not None
        assert form.select("Model").chosen == (await kept_model(front, bruno),)
