"""The models on offer, each from the manifests that share its name, with the limits that the servers set."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from modules.ai.limits import NumberLimits, limits_of
from modules.ai.listing import ServerListing
from modules.ai.workflows.manifest import SizeSection
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.template import Library, Template
from modules.domain.catalogue import Detail, ModelSpec, WorkflowKind
from modules.domain.images import Dimensions
from modules.domain.recipes import ModelName

#: Which manifest of a model speaks for it: the first of these kinds it has.
_SPEAKING_ORDER = (WorkflowKind.IMAGINE, WorkflowKind.FORM, WorkflowKind.EDIT, WorkflowKind.VARY, WorkflowKind.UPSCALE)
#: For a model whose pictures follow their input: nobody is asked for a size.
_ANY_SIZE = SizeSection(default=Dimensions(1024, 1024), max_side=16384, max_megapixels=256.0)


def model_specs(library: Library, listings: Sequence[ServerListing]) -> Iterator[ModelSpec]:
    """One per model name, in the order of the manifests; `listings` are those of all servers that were ever met."""
    by_model: dict[str, dict[WorkflowKind, Template]] = {}
    for template in sorted(library.templates.values(), key=lambda each: (each.manifest.order, each.name)):
        by_model.setdefault(template.manifest.model, {}).setdefault(template.manifest.kind, template)
    for name, templates in by_model.items():
        yield _spec(ModelName(name), {kind: (template, limits_of(template, listings)) for kind, template in templates.items()})


def _spec(name: ModelName, templates: Mapping[WorkflowKind, tuple[Template, NumberLimits]]) -> ModelSpec:
    speaker, limits = next(templates[kind] for kind in _SPEAKING_ORDER if kind in templates)
    manifest, size = speaker.manifest, limits.size or _ANY_SIZE
    presets = (preset for preset in size.presets if size.allows(preset))
    return ModelSpec(
        name=name,
        label=manifest.label or name,
        workflows={kind: template.name for kind, (template, _) in templates.items()},
        default_size=size.default,
        sizes=tuple(dict.fromkeys((size.default, *presets))) if limits.size else (),
        grid_px=size.grid,
        min_side_px=size.min_side,
        max_side_px=size.max_side,
        max_megapixels=size.max_megapixels,
        steps=limits.steps,
        cfg=limits.cfg,
        takes={kind: _details(template, its_limits) for kind, (template, its_limits) in templates.items()},
        takes_reference=frozenset(kind for kind, (template, _) in templates.items() if template.shape.has(Role.REFERENCE)),
        is_age_restricted=manifest.nsfw,
        shows_steps=manifest.shows_steps,
    )


def _details(template: Template, limits: NumberLimits) -> frozenset[Detail]:
    """What a person may say to this template."""
    said = {
        Detail.PROMPT: template.shape.has(Role.PROMPT),
        Detail.NEGATIVE_PROMPT: template.shape.has(Role.NEGATIVE),
        Detail.SEED: template.shape.has(Role.SEED),
        Detail.SIZE: limits.size is not None,
        Detail.STEPS: limits.takes_steps,
    }
    return frozenset(detail for detail, is_taken in said.items() if is_taken)
