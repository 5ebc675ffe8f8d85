"""The recipe of one picture as text: what goes into the file that a person gets, and nothing of anybody else's."""

from __future__ import annotations

import json

from modules.domain.jobs import Slot
from modules.domain.recipes import Recipe

#: Readers refuse what they do not know; raise it when a field changes its meaning.
VERSION = 1


def recipe_text(recipe: Recipe, slot: Slot) -> str:
    """JSON with everything that is needed to draw this very picture again, save the input pictures (their names mean nothing
    outside our store)."""
    known: dict[str, object] = {
        "version": VERSION,
        "model": recipe.model,
        "workflow": recipe.workflow,
        "prompt": recipe.prompt,
        "negative_prompt": recipe.negative_prompt,
        "size": str(recipe.size) if recipe.size else None,
        "seed": slot.seed,
        "steps": recipe.steps,
        "cfg": recipe.cfg,
        "guidance": recipe.guidance,
        "sampler": recipe.sampler,
        "scheduler": recipe.scheduler,
        "denoise": recipe.denoise,
        "checkpoint": recipe.checkpoint,
        "loras": [{"name": lora.name, "strength": lora.strength} for lora in recipe.loras],
        "is_edit": recipe.source is not None,
        "has_reference": recipe.reference is not None or None,
    }
    return json.dumps({name: value for name, value in known.items() if value not in (None, "", [])}, ensure_ascii=False)
