"""`/gen`: lists straight from the servers, and nothing typed is ever lost."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from modules.domain.jobs import Origin
from modules.domain.people import UserId
from tests.support.front_side import SERVER, Front, FrontDoor
from tests.support.graphs import a_listing
from tests.support.person import Modal, People, Person, Seen
from tests.support.person_views import walk

LORAS = [f"style-{number:02}.safetensors" for number in range(30)]


async def opened(door: FrontDoor, person: Person) -> Seen:
    door.listings.update(SERVER, a_listing({"LoraLoader.lora_name": LORAS}))
    answer = await person.slash("gen")
    assert answer.message is not None
    assert answer.message.is_ephemeral
    return answer.message


async def shows(person: Person, form: Seen, *words: str) -> Seen:
    return await person.wait_for_message(lambda m: m.id == form.id and all(word in m.text for word in words))


def typed_for(strengths: dict[str, str]) -> dict[str, Any]:
    """What is typed into the window of the strengths, whose fields are labelled with the files' names."""
    return dict(strengths)


async def written(person: Person, form: Seen, **typed: Any) -> None:
    pressed = await person.press(form, "Prompt & numbers")
    assert pressed.modal is not None
    await person.submit(pressed.modal, **typed)


async def test_the_form_says_why_it_cannot_run_yet_and_then_makes_the_job(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    assert "There is no prompt yet" in form.text
    assert form.button("Generate").disabled
    assert [select.placeholder for select in form.selects] == [
        "Model",
        "Size",
        "Checkpoint",
        "Sampler",
        "Scheduler",
        "LoRAs (up to 4)",
    ]
    await written(bruno, form, prompt="a fox", steps="30", cfg="6.5", seed="77")
    form = await shows(bruno, form, "a fox", "30 steps", "CFG 6.5", "seed 77")
    await bruno.select(form, "Sampler", "dpmpp_2m")
    await bruno.select(form, "LoRAs", [LORAS[1], LORAS[2]])
    form = await shows(bruno, form, "style-01", "style-02")
    strengths = await bruno.press(form, "LoRA strengths")
    assert strengths.modal is not None
    await bruno.submit(strengths.modal, **typed_for({LORAS[1]: "0.5"}))
    form = await shows(bruno, form, "× 0.5", "× 1")
    await bruno.press(form, "Generate")
    await shows(bruno, form, "on its way")
    job = await front.studio.only_job()
    assert job.origin is Origin.FORM
    assert (job.recipe.steps, job.recipe.cfg, job.recipe.seed, job.recipe.sampler) == (30, 6.5, 77, "dpmpp_2m")
    assert [(lora.name, lora.strength) for lora in job.recipe.loras] == [(LORAS[1], 0.5), (LORAS[2], 1.0)]


async def test_a_wrong_number_is_named_and_everything_typed_comes_back(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    for steps, sentence in (
        ("1e9", "The steps must be a plain number"),
        ("151", "The steps can be 1 to 150"),
        ("NaN", "plain number"),
    ):
        await written(bruno, form, prompt="a fox", negative_prompt="rain", steps=steps)
        form = await shows(bruno, form, sentence, "a fox", "without: rain", f"{steps} steps")
        assert form.button("Generate").disabled
    again = await bruno.press(form, "Prompt & numbers")
    assert again.modal is not None
    assert again.modal.typed["steps"] == "NaN"
    assert again.modal.typed["prompt"] == "a fox"
    await bruno.submit(again.modal, steps="１２")
    form = await shows(bruno, form, "１２ steps")
    assert not form.button("Generate").disabled


async def test_a_list_of_thirty_is_paged_and_choices_on_other_pages_stay(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    assert [label for label, _ in form.select("LoRAs").options][-2:] == ["Search…", "more (2/2) ▶"]
    await bruno.select(form, "LoRAs", [LORAS[0]])
    form = await shows(bruno, form, "style-00")
    await bruno.select(form, "LoRAs", ["page:1"])
    form = await bruno.wait_for_message(lambda m: m.id == form.id and any(LORAS[29] in dict(s.options) for s in m.selects))
    await bruno.select(form, "LoRAs", [LORAS[0], LORAS[29]])  # a client sends what was ticked before along with the new
    await shows(bruno, form, "style-00", "style-29")


async def test_drafts_of_two_people_are_apart_and_outlive_a_restart(door: FrontDoor, people: People) -> None:
    bruno, chloe = await people.be("bruno"), await people.be("chloe")
    async with door.open():
        form = await opened(door, bruno)
        await written(bruno, form, prompt="a secret fox")
        form = await shows(bruno, form, "a secret fox")
        other = await opened(door, chloe)
        assert "secret" not in other.text
    async with door.open() as second:
        await bruno.press(form, "Generate")
        await shows(bruno, form, "on its way")
        assert (await second.studio.only_job()).recipe.prompt == "a secret fox"


async def test_a_lora_that_vanished_while_the_form_was_open_is_said_and_not_drawn(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    await bruno.select(form, "LoRAs", [LORAS[3]])
    form = await shows(bruno, form, "style-03")
    door.listings.update(SERVER, a_listing({"LoraLoader.lora_name": LORAS[10:]}))
    await bruno.press(form, "Generate")
    form = await shows(bruno, form, "“style-03.safetensors” is not a LoRA we have right now")
    assert form.button("Generate").disabled
    assert not await front.database.jobs.jobs()
    assert form.select("LoRAs").options[0] == ("⚠️ style-03.safetensors", "style-03.safetensors")
    await bruno.select(form, "LoRAs", [])  # only what is seen can be taken away
    form = await bruno.wait_for_message(lambda m: m.id == form.id and "style-03" not in m.text)
    assert not form.button("Generate").disabled


async def test_a_model_that_vanished_while_the_form_was_open_is_said_and_no_other_is_drawn(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await bruno.select(form, "Model", "SDXL")
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    assert form.select("Model").chosen == ("sdxl",)
    others = {"CheckpointLoaderSimple.ckpt_name": ["another.safetensors"]}
    door.listings.update(SERVER, a_listing(others))
    await bruno.press(form, "Generate")
    form = await shows(bruno, form, "SDXL isn't available right now")
    assert form.button("Generate").disabled
    assert form.select("Model").options[0] == ("⚠️ sdxl", "sdxl")
    assert not await front.database.jobs.jobs()
    await bruno.select(form, "Model", "Z-Image (Turbo)")
    await bruno.wait_for_message(lambda m: m.id == form.id and m.select("Model").chosen == ("z-image",))
    form = (await bruno.slash("gen")).message or form  # two presses on one message in a moment would count as one
    await bruno.press(form, "Generate")
    await shows(bruno, form, "on its way")
    assert (await front.studio.only_job()).recipe.model == "z-image"


async def test_a_model_that_is_gone_after_an_upgrade_is_not_replaced_in_silence(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open():
        form = await opened(door, bruno)
        await bruno.select(form, "Model", "SDXL")
        await written(bruno, form, prompt="a fox")
        form = await shows(bruno, form, "a fox")
    left = {name: one for name, one in door.library.templates.items() if one.manifest.model != "sdxl"}
    door.library = replace(door.library, templates=left)
    async with door.open() as front:
        await bruno.press(form, "Generate")
        form = await shows(bruno, form, "The model of this form is no longer here", "a fox")
        assert not await front.database.jobs.jobs()
        [chosen] = form.select("Model").chosen
        form = (await bruno.slash("gen")).message or form
        await bruno.press(form, "Generate")
        await shows(bruno, form, "on its way")
        assert (await front.studio.only_job()).recipe.model == chosen


async def test_a_search_finds_what_pages_would_hide_and_takes_the_only_one(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    window = (await bruno.select(form, "LoRAs", ["Search…"])).modal
    assert window is not None
    await bruno.submit(window, query="STYLE-2")
    form = await bruno.wait_for_message(lambda m: m.id == form.id and "“STYLE-2” (10)" in m.selects[-1].placeholder)
    assert [label for label, _ in form.selects[-1].options] == [*LORAS[20:30], "Search…", "Show all"]
    window = (await bruno.select(form, form.selects[-1].custom_id, ["Search…"])).modal
    assert window is not None
    assert window.typed == {"query": "STYLE-2"}
    await bruno.submit(window, query="29")
    form = await shows(bruno, form, "style-29.safetensors × 1")
    window = (await bruno.select(form, "LoRAs", ["Search…"])).modal
    assert window is not None
    await bruno.submit(window, query="watercolour")
    await shows(bruno, form, "Nothing in that list contains that", "style-29")


async def test_names_longer_than_a_label_are_offered_and_drawn(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    long = ["very/" * 25 + f"deep-{number}.safetensors" for number in range(2)]
    door.listings.update(SERVER, a_listing({"LoraLoader.lora_name": long}))
    form = (await bruno.slash("gen")).message
    assert form is not None
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    label, value = next(option for option in form.select("LoRAs").options if option[0].endswith("deep-1.safetensors"))
    assert max(len(label), len(value)) <= 100
    await bruno.select(form, "LoRAs", [value])
    form = await shows(bruno, form, "× 1")
    await bruno.press(form, "Generate")
    await shows(bruno, form, "on its way")
    assert [lora.name for lora in (await front.studio.only_job()).recipe.loras] == [long[1]]


async def test_a_size_that_is_in_no_list_can_be_typed(door: FrontDoor, front: Front, people: People) -> None:
    ana = await people.be("ana")
    form = (await ana.slash("gen")).message
    assert form is not None
    window = (await ana.select(form, "Tamaño", ["Otro tamaño…"])).modal
    assert window is not None
    await ana.submit(window, query="640×768")
    form = await ana.wait_for_message(lambda m: bool(m.selects) and m.select("Tamaño").chosen == ("640×768",))
    window = (await ana.select(form, "Tamaño", ["Otro tamaño…"])).modal
    assert window is not None
    await ana.submit(window, query="enorme")
    window = (await ana.press(form, "f1:gen_words")).modal
    assert window is not None
    await ana.submit(window, prompt="un faro")
    await shows(ana, form, "«enorme» no es un tamaño que pueda leer")


async def test_every_wrong_field_is_named_beside_what_was_typed(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox", steps="1e9", cfg="31", seed="-1")
    form = await shows(
        bruno, form, "“1e9” · The steps must be a plain number", "“31” · The CFG can be 1 to 30", "“-1” · The seed can be"
    )
    assert form.button("Generate").disabled


async def test_a_fifth_lora_is_left_out_and_said(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await bruno.select(form, "LoRAs", LORAS[:4])
    form = await shows(bruno, form, "style-03")
    await bruno.select(form, "LoRAs", [*LORAS[:4], LORAS[4]])
    form = await shows(bruno, form, "Four LoRAs at once are the most")
    assert "style-04" not in form.text
    await bruno.select(form, "LoRAs", [*LORAS[:4], "page:1"])  # with all four taken, pages still turn
    await bruno.wait_for_message(lambda m: m.id == form.id and any(LORAS[29] in dict(s.options) for s in m.selects))


async def test_two_windows_at_once_lose_neither_a_choice_nor_a_word(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    first = (await bruno.press(form, "f1:gen_words")).modal
    await bruno.select(form, "LoRAs", [LORAS[0]])
    form = await shows(bruno, form, "style-00")
    second = (await bruno.press(form, "f1:gen_loras")).modal
    assert first is not None
    assert second is not None
    await asyncio.gather(bruno.submit(first, prompt="a fox", steps="9"), bruno.submit(second, **typed_for({LORAS[0]: "0.7"})))
    form = await shows(bruno, form, "a fox", "9 steps", "style-00.safetensors × 0.7")


async def test_a_form_that_lay_too_long_says_so_and_draws_nothing(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    key = f"discord.draft.{bruno.id}"
    kept = json.loads(await front.database.control.get(key) or "")
    kept["saved_at"] = (datetime.now(UTC) - timedelta(minutes=16)).isoformat()
    await front.database.control.set(key, json.dumps(kept))
    await bruno.press(form, "Generate")
    form = await shows(bruno, form, "so this is a fresh one", "no prompt")
    assert not await front.database.jobs.jobs()
    await (await people.be("chloe")).slash("gen")
    assert await front.database.control.get(key) is None  # nobody's prompt is kept for longer


async def test_drafts_are_part_of_what_is_exported_and_erased(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a secret fox")
    await shows(bruno, form, "a secret fox")
    taken = (await bruno.slash("mydata export")).message
    assert taken is not None
    assert "a secret fox" in (await bruno.download(taken.files[0].url)).decode()
    asked = (await bruno.slash("mydata erase")).message
    assert asked is not None
    await bruno.press(asked, "Erase everything")
    await bruno.wait_for_message(lambda m: "Nothing about you is stored" in m.text)
    assert await front.database.control.get(f"discord.draft.{bruno.id}") is None


async def test_saving_as_default_is_what_the_next_form_starts_with(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await bruno.select(form, "Model", "SDXL")
    form = await bruno.wait_for_message(lambda m: m.id == form.id and m.select("Model").chosen == ("sdxl",))
    await bruno.press(form, "Save as my default")
    await bruno.wait_for_message(lambda m: "Your form begins like this" in m.text)
    settings = await bruno.slash("settings")
    assert "SDXL" in settings.text


async def saved_and_done(front: Front, person: Person, form: Seen) -> None:
    """Save, then draw, so that the draft is gone and the next form is a fresh one."""
    await person.press(form, "Save as my default")
    form = await shows(person, form, "Your form begins like this")
    await person.press(form, "Generate")
    await shows(person, form, "on its way")
    await front.studio.cancel((await front.studio.only_job(int(person.id))).id)


async def test_everything_the_form_shows_can_be_a_default_of_its_model(door: FrontDoor, people: People) -> None:
    bruno = await people.be("bruno")
    async with door.open() as first:
        form = await opened(door, bruno)
        await written(bruno, form, prompt="a fox", negative_prompt="rain", steps="31", cfg="6,5", seed="77")
        form = await shows(bruno, form, "31 steps")
        for select, choice in (("Sampler", "dpmpp_2m"), ("Scheduler", "karras"), ("Size", "832x1216")):
            await bruno.select(form, select, choice)
        await bruno.select(form, "LoRAs", [LORAS[1]])
        form = await shows(bruno, form, "style-01")
        strengths = (await bruno.press(form, "LoRA strengths")).modal
        assert strengths is not None
        await bruno.submit(strengths, **typed_for({LORAS[1]: "0.5"}))
        form = await shows(bruno, form, "× 0.5")
        await saved_and_done(first, bruno, form)
    async with door.open() as front:
        form = await opened(door, bruno)
        for said in ("no prompt", "without: rain", "31 steps", "CFG 6,5", "seed random", "style-01.safetensors × 0.5"):
            assert said in form.text
        chosen = [form.select(name).chosen for name in ("Sampler", "Scheduler", "Size")]
        assert chosen == [("dpmpp_2m",), ("karras",), ("832x1216",)]
        shown = await bruno.slash("settings")
        line = "832x1216 · dpmpp\\_2m · karras · 31 steps · CFG 6,5 · style-01.safetensors × 0.5 · without: rain"
        assert f"`/gen` with Multisampler: {line}" in shown.text
        taken = (await bruno.slash("mydata export")).message
        assert taken is not None
        kept = json.loads(await bruno.download(taken.files[0].url))["settings"][0]["forms"]
        assert kept["multisampler"]["steps"] == "31"
        assert not kept["multisampler"].keys() & {"prompt", "seed"}
        assert "`/gen` with" not in (await bruno.slash("settings", reset=True)).text
        await front.database.control.set(f"discord.draft.{bruno.id}", None)  # an open draft stays as it is
        form = await opened(door, bruno)
        assert "style-01" not in form.text
        assert "31 steps" not in form.text


async def test_each_model_has_its_own_defaults_and_what_was_typed_stays(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox", steps="31")
    form = await shows(bruno, form, "31 steps")
    await saved_and_done(front, bruno, form)
    form = await opened(door, bruno)
    await bruno.select(form, "Model", "SDXL")
    form = await bruno.wait_for_message(lambda m: m.id == form.id and m.select("Model").chosen == ("sdxl",))
    assert "31 steps" not in form.text  # it was the other model's, not typed for this one
    await written(bruno, form, prompt="an owl", cfg="4")
    form = await shows(bruno, form, "CFG 4")
    await bruno.select(form, "Model", "Multisampler")
    await shows(bruno, form, "an owl", "31 steps", "CFG 4")


async def test_a_form_with_a_fault_is_not_made_a_default(door: FrontDoor, front: Front, people: People) -> None:
    ana = await people.be("ana")
    form = await opened(door, ana)
    window = (await ana.press(form, "f1:gen_words")).modal
    assert window is not None
    await ana.submit(window, prompt="un faro", steps="1e9")
    form = await shows(ana, form, "1e9")
    await ana.press(form, "Guardar como mis ajustes")
    await shows(ana, form, "No se guardó nada")
    assert (await front.database.people.settings(UserId(int(ana.id)))).forms == {}


async def test_a_saved_lora_that_is_gone_is_said_and_can_be_taken_away(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    await bruno.select(form, "LoRAs", [LORAS[0]])
    form = await shows(bruno, form, "style-00")
    await saved_and_done(front, bruno, form)
    door.listings.update(SERVER, a_listing({"LoraLoader.lora_name": LORAS[10:]}))
    form = (await bruno.slash("gen")).message or form
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "“style-00.safetensors” is not a LoRA we have right now")
    await bruno.select(form, "LoRAs", [])
    form = await bruno.wait_for_message(lambda m: m.id == form.id and "style-00" not in m.text)
    assert not form.button("Generate").disabled


async def test_a_size_set_later_goes_before_the_forms_own(door: FrontDoor, front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox")
    form = await shows(bruno, form, "a fox")
    await bruno.select(form, "Size", "832x1216")
    form = await bruno.wait_for_message(lambda m: m.id == form.id and m.select("Size").chosen == ("832x1216",))
    await saved_and_done(front, bruno, form)
    await bruno.slash("settings", size="1024x1024")
    form = await opened(door, bruno)
    assert form.select("Size").chosen == ("1024x1024",)


async def test_without_any_model_on_a_server_the_form_still_offers_what_there_is(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    answer = await bruno.slash("gen")
    assert answer.message is not None
    assert [select.placeholder for select in answer.message.selects][:2] == ["Model", "Size"]


async def test_strengths_stay_with_their_loras_when_the_list_changes_while_the_window_is_open(
    door: FrontDoor, front: Front, people: People
) -> None:
    bruno = await people.be("bruno")
    form = await opened(door, bruno)
    await written(bruno, form, prompt="a fox")
    await bruno.select(form, "LoRAs", [LORAS[1], LORAS[2]])
    form = await shows(bruno, form, "style-01", "style-02")
    window = (await bruno.press(form, "LoRA strengths")).modal
    assert window is not None
    await bruno.select(form, "LoRAs", [LORAS[3], LORAS[2]])  # meanwhile, on another device: the first is another one now
    form = await shows(bruno, form, "style-03")
    await bruno.submit(window, **typed_for({LORAS[1]: "0.1", LORAS[2]: "0.2"}))
    form = await shows(bruno, form, "style-02.safetensors × 0.2", "The form changed while that window was open")
    assert "× 0.1" not in form.text
    await bruno.press(form, "Generate")
    await shows(bruno, form, "on its way")
    loras = (await front.studio.only_job()).recipe.loras
    assert {lora.name: lora.strength for lora in loras} == {LORAS[2]: 0.2, LORAS[3]: 1.0}


async def test_a_window_that_another_version_opened_changes_nothing_but_what_it_asked(door: FrontDoor, people: People) -> None:
    """It had no field for the seed, and named the strengths by their place."""
    bruno = await people.be("bruno")
    async with door.open():
        form = await opened(door, bruno)
        await written(bruno, form, prompt="a fox", seed="77", steps="30")
        form = await shows(bruno, form, "seed 77", "30 steps")
        await bruno.select(form, "LoRAs", [LORAS[1]])
        form = await shows(bruno, form, "style-01")
        window = (await bruno.press(form, "Prompt & numbers")).modal
        assert window is not None
        _rewrite(door, window, "m1:gen_words", {"prompt": "prompt", "steps": "steps"})
        await bruno.submit(window, prompt="an owl")
        form = await shows(bruno, form, "an owl", "seed 77", "30 steps")
        assert "The form changed" not in form.text
        window = (await bruno.press(form, "LoRA strengths")).modal
        assert window is not None
        _rewrite(door, window, "m1:gen_loras", {next(iter(window.fields)): "strength_0"})
        await bruno.submit(window, strength_0="0.3")
        form = await shows(bruno, form, "The form changed while that window was open")
        assert "× 1" in form.text


async def test_a_window_and_a_list_that_nobody_knows_any_more_are_answered_and_give_back_what_was_typed(
    door: FrontDoor, front: Front, people: People
) -> None:
    ana = await people.be("ana")
    form = await opened(door, ana)
    window = (await ana.press(form, "Descripción y números")).modal
    assert window is not None
    _rewrite(door, window, "m7:gen_everything:x", {"prompt": "prompt", "seed": "seed"})
    answer = await ana.submit(window, prompt="un faro\ncon niebla", seed="12")
    assert "Me actualizaron desde que se abrió eso" in answer.text
    assert answer.message is not None
    assert answer.message.is_ephemeral
    typed = (await ana.download(answer.message.files[0].url)).decode()
    assert "un faro\ncon niebla" in typed
    assert "12" in typed
    shape = next(c for c in walk(door.sandbox.world.message(int(form.channel_id), int(form.id)).components) if c["type"] == 3)
    shape["custom_id"] = "s7:model:0"
    old = await ana.message(form)
    answer = await ana.select(old, "s7:model:0", [value for _, value in old.select("s7:model:0").options][:1])
    assert answer.text == "Me actualizaron desde que se abrió eso. Empieza otra vez desde el comando o la imagen."
    assert await front.database.jobs.jobs() == []


def _rewrite(door: FrontDoor, window: Modal, custom_id: str, fields: dict[str, str]) -> None:
    """The open window as another version would have made it: its id, and which of its fields it has under which name."""
    shown = door.sandbox.context.interactions.get(int(window.interaction_id)).modal
    assert shown is not None
    shown["custom_id"] = window.custom_id = custom_id
    kept = []
    for part in shown["components"]:
        inner = part.get("component") or part["components"][0]
        if inner["custom_id"] in fields:
            inner["custom_id"] = fields[inner["custom_id"]]
            kept.append(part)
    shown["components"] = window.components = kept
