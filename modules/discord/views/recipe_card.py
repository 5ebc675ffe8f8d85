"""A recipe to read, copy and keep."""

from __future__ import annotations

import json

from discord import ui

from modules.discord.posting import Attached
from modules.discord.views.buttons import Act, button, row
from modules.discord.views.layout import Accent, Piece, card
from modules.discord.wording import model_label, says, small
from modules.discord.written_recipes import WrittenRecipe
from modules.domain.catalogue import Detail, ModelSpec
from modules.domain.jobs import Job, short_id
from modules.domain.recipes import Recipe
from modules.utils.i18n import Texts

#: What the answer to `/recall` with a file carries; its buttons read it again.
RECIPE_FILE = "recipe.json"


def recipe_card(job: Job, spec: ModelSpec | None, texts: Texts) -> ui.LayoutView:
    """Plain text in a box that phones copy with one touch; the message carries `recipe_file` too."""
    recipe = job.recipe
    pieces: list[Piece | str] = [f"### {texts('recipe.title')}"]
    if says(Detail.PROMPT, recipe, spec):
        pieces.append(boxed(recipe.prompt or texts("card.no_prompt")))
    if recipe.negative_prompt:
        pieces += [texts("recipe.negative"), boxed(recipe.negative_prompt, 600)]
    has_seed, has_steps = says(Detail.SEED, recipe, spec), says(Detail.STEPS, recipe, spec)
    facts = [
        (texts("recipe.model"), model_label(recipe.model, spec)),
        (texts("recipe.size"), str(recipe.size) if recipe.size else texts("recipe.size_of_picture") if has_seed else ""),
        (texts("recipe.made_from"), _made_from(recipe, texts)),
        (texts("recipe.seed"), str(recipe.seed) if has_seed else ""),
        (texts("recipe.steps"), str(recipe.steps) if has_steps else ""),
        (texts("recipe.cfg"), texts.number(recipe.cfg) if has_steps else ""),
        (texts("recipe.pictures"), str(recipe.count)),
        (texts("recipe.loras"), ", ".join(f"{lora.name} ({texts.number(lora.strength)})" for lora in recipe.loras)),
        (texts("recipe.id"), short_id(job.id)),
    ]
    pieces.append(boxed("\n".join(f"{name}: {value}" for name, value in facts if value), 900))
    controls = row(
        button(Act.AGAIN, texts("button.again"), job.id, emoji="🔁"), button(Act.REMIX, texts("button.remix"), job.id, emoji="🎛️")
    )
    return card(Accent.GREY, *pieces, ui.File(f"attachment://{recipe_file(job).name}"), controls)


def written_card(recipe: WrittenRecipe, spec: ModelSpec | None, texts: Texts) -> ui.LayoutView:
    """A recipe that came in a file; the message carries it as RECIPE_FILE, which its buttons read again."""
    draft = recipe.draft
    pieces: list[Piece | str] = [f"### {texts('recipe.title')}", boxed(draft.prompt or texts("card.no_prompt"))]
    if draft.negative_prompt:
        pieces += [texts("recipe.negative"), boxed(draft.negative_prompt, 600)]
    facts = [
        (texts("recipe.model"), spec.label if spec else draft.model),
        (texts("recipe.size"), draft.size),
        (texts("recipe.seed"), draft.seed),
        (texts("recipe.steps"), draft.steps),
        (texts("recipe.cfg"), draft.cfg),
        (texts("recipe.loras"), ", ".join(f"{name} ({draft.strength_of(at)})" for at, name in enumerate(draft.loras))),
    ]
    pieces.append(boxed("\n".join(f"{name}: {value}" for name, value in facts if value) or "-", 900))
    pieces.append(small(texts("recall.had_picture")) if recipe.had_picture else "")
    controls = [button(Act.RECALL_FORM, texts("button.recall_form"), emoji="🎛️")]
    if spec is not None and draft.prompt:
        controls.insert(0, button(Act.RECALL_DRAW, texts("button.recall_draw"), emoji="🔁"))
    return card(Accent.GREY, *pieces, ui.File(f"attachment://{RECIPE_FILE}"), row(*controls))


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
        "is_edit": recipe.source is not None,
        "has_reference": recipe.reference is not None,
    }


def _made_from(recipe: Recipe, texts: Texts) -> str:
    if recipe.source is None:
        return ""
    return texts("recipe.a_picture" if recipe.reference is None else "recipe.two_pictures")


def boxed(text: str, limit: int = 2_100) -> str:
    """Text in a code box, where nothing is Markdown; the box itself cannot be closed from inside."""
    shown = text.replace("```", "`\u200b``")
    return f"```\n{shown[:limit]}\n```"
