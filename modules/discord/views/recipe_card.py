"""A recipe to read, copy and keep."""

from __future__ import annotations

import json

from discord import ui

from modules.discord.posting import Attached
from modules.discord.views.layout import Accent, Piece, card
from modules.discord.wording import model_label
from modules.domain.catalogue import ModelSpec
from modules.domain.jobs import Job, short_id
from modules.domain.recipes import Recipe
from modules.utils.i18n import Texts


def recipe_card(job: Job, spec: ModelSpec | None, texts: Texts) -> ui.LayoutView:
    """Plain text in a box that phones copy with one touch; the message carries `recipe_file` too."""
    recipe = job.recipe
    pieces: list[Piece | str] = [f"### {texts('recipe.title')}", boxed(recipe.prompt)]
    if recipe.negative_prompt:
        pieces += [texts("recipe.negative"), boxed(recipe.negative_prompt, 600)]
    facts = [
        (texts("recipe.model"), model_label(recipe.model, spec)),
        (texts("recipe.size"), str(recipe.size) if recipe.size else texts("recipe.size_of_picture")),
        (texts("recipe.seed"), str(recipe.seed)),
        (texts("recipe.steps"), str(recipe.steps)),
        (texts("recipe.cfg"), texts.number(recipe.cfg)),
        (texts("recipe.pictures"), str(recipe.count)),
        (texts("recipe.loras"), ", ".join(f"{lora.name} ({texts.number(lora.strength)})" for lora in recipe.loras)),
        (texts("recipe.id"), short_id(job.id)),
    ]
    pieces.append(boxed("\n".join(f"{name}: {value}" for name, value in facts if value), 900))
    return card(Accent.GREY, *pieces, ui.File(f"attachment://{recipe_file(job).name}"))


def written_recipe(text: str, file: Attached, texts: Texts) -> ui.LayoutView:
    """The recipe that stands in a picture's own file; whoever sent the file may have written it."""
    return card(Accent.GREY, f"### {texts('recipe.title')}", boxed(text), ui.File(f"attachment://{file.name}"))


def recipe_file(job: Job) -> Attached:
    """The recipe as JSON."""
    text = json.dumps(recipe_as_json(job.recipe), ensure_ascii=False, indent=2)
    return Attached(name=f"recipe-{short_id(job.id)}.json", data=text.encode())


def recipe_as_json(recipe: Recipe) -> dict[str, object]:
    """Only what makes the picture; no ids of people or of our store."""
    return {
        "app": "FuLLet",
        "model": recipe.model,
        "prompt": recipe.prompt,
        "negative_prompt": recipe.negative_prompt,
        "size": str(recipe.size) if recipe.size else None,
        "seed": str(recipe.seed),  # up to 2**64 - 1: many JSON readers lose digits of such numbers
        "steps": recipe.steps,
        "cfg": recipe.cfg,
        "sampler": recipe.sampler,
        "scheduler": recipe.scheduler,
        "denoise": recipe.denoise,
        "checkpoint": recipe.checkpoint,
        "loras": [{"name": lora.name, "strength": lora.strength} for lora in recipe.loras],
        "count": recipe.count,
    }


def boxed(text: str, limit: int = 2_100) -> str:
    """Text in a code box, where nothing is Markdown; the box itself cannot be closed from inside."""
    shown = text.replace("```", "`\u200b``")
    return f"```\n{shown[:limit]}\n```"
