"""New wishes made from jobs that are done: again, vary, edit, upscale, remix. Plain values in, plain values out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from modules.domain.catalogue import ModelSpec, Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Dimensions
from modules.domain.ports import Catalogue
from modules.domain.recipes import MAX_SEED, ModelName, Recipe, Seed

#: How much of the picture is drawn anew. Below about 0.3 nothing changes that a person sees; above 0.8 little stays.
SUBTLE_DENOISE = 0.45
STRONG_DENOISE = 0.75


def kind_of(recipe: Recipe, spec: ModelSpec) -> WorkflowKind:
    """What the recipe's workflow does. Raises RECIPE_GONE when the model no longer has it."""
    for kind, workflow in spec.workflows.items():
        if workflow == recipe.workflow:
            return kind
    raise FulletError(ErrorCode.RECIPE_GONE)


def same(recipe: Recipe, spec: ModelSpec) -> Wish:
    """Exactly the same picture."""
    return Wish(
        kind=kind_of(recipe, spec),
        model=recipe.model,
        prompt=recipe.prompt,
        negative_prompt=recipe.negative_prompt,
        size=recipe.size,
        seed=recipe.seed,
        steps=recipe.steps,
        cfg=recipe.cfg,
        sampler=recipe.sampler,
        scheduler=recipe.scheduler,
        denoise=recipe.denoise if recipe.denoise < 1 else None,
        checkpoint=recipe.checkpoint,
        loras=recipe.loras,
        count=recipe.count,
        source=recipe.source,
        reference=recipe.reference,
    )


def again(recipe: Recipe, spec: ModelSpec) -> Wish:
    """Everything the same but the seed."""
    return replace(same(recipe, spec), seed=None)


def vary(recipe: Recipe, spec: ModelSpec, source: BlobId, shape: Dimensions, index: int, *, is_strong: bool) -> Wish:
    """From the picture itself where the model can do that, else the same words with a seed beside it. `shape`: the picture's."""
    seed = recipe.seed_of(index)
    if WorkflowKind.VARY in spec.workflows:
        return Wish(
            kind=WorkflowKind.VARY,
            model=recipe.model,
            prompt=recipe.prompt,
            negative_prompt=recipe.negative_prompt,
            size=recipe.size or spec.size_like(shape),
            denoise=STRONG_DENOISE if is_strong else SUBTLE_DENOISE,
            source=source,
        )
    return replace(same(recipe, spec), seed=Seed((seed + 1) % (MAX_SEED + 1)) if not is_strong else None, count=1)


def edit(
    models: Sequence[ModelSpec],
    source: BlobId,
    prompt: str,
    *,
    name: ModelName | None = None,
    reference: BlobId | None = None,
    seed: Seed | None = None,
) -> Wish:
    """Change the picture by words, with the model that made it where that can. Raises MODEL_UNAVAILABLE, REFERENCE_NOT_TAKEN."""
    takers = [spec for spec in models if WorkflowKind.EDIT in spec.takes_reference]
    if models and reference is not None and not takers:
        raise FulletError(ErrorCode.REFERENCE_NOT_TAKEN, model=models[0].label)
    able = models if reference is None else takers
    model = preferred(able, name or ModelName("/edit"))
    return Wish(kind=WorkflowKind.EDIT, model=model, prompt=prompt, source=source, reference=reference, seed=seed)


def upscale(recipe: Recipe, models: Sequence[ModelSpec], source: BlobId) -> Wish:
    """The same picture, larger."""
    return Wish(kind=WorkflowKind.UPSCALE, model=preferred(models, recipe.model), prompt=recipe.prompt, source=source)


def able_to(kind: WorkflowKind, catalogue: Catalogue) -> list[ModelSpec]:
    """The models that can do this, those that could start now first."""
    return sorted(catalogue.models(kind), key=lambda spec: not catalogue.is_available(spec.name, kind))


def preferred(models: Sequence[ModelSpec], name: ModelName) -> ModelName:
    """The same model if it is among those that can do it, else the first. Raises MODEL_UNAVAILABLE when none can."""
    names = [spec.name for spec in models]
    if not names:
        raise FulletError(ErrorCode.MODEL_UNAVAILABLE, model=name, alternative="")
    return name if name in names else names[0]
