"""How far the numbers of a template may go: what its manifest says, held back by what the servers say of the nodes themselves.

A number that the manifest does not name keeps the graph's own value, and may be set as far as the node takes it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from modules.ai.listing import ServerListing
from modules.ai.workflows.manifest import RangeSection, SizeSection
from modules.ai.workflows.role_inputs import Role, Target
from modules.ai.workflows.template import Template
from modules.domain.catalogue import KINDS_WITH_SOURCE, Range
from modules.domain.recipes import MAX_SEED

#: Where a template has no such number: what its recipe records.
NO_STEPS = Range(low=1, high=1, default=1)
NO_CFG = Range(low=1.0, high=1.0, default=1.0)
NO_DENOISE = Range(low=1.0, high=1.0, default=1.0)
#: Before a server describes the node. Source: KSampler and BasicScheduler in tests/recordings, except for the steps: ComfyUI
#: takes 10,000, which would be one person's picture for hours; 150 is what our forms offer.
_STEPS = Range(low=1, high=150, default=1)
_CFG = Range(low=0.0, high=100.0, default=1.0)
_DENOISE = Range(low=0.0, high=1.0, default=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberLimits:
    """What may be asked of one template on these servers."""

    steps: Range
    cfg: Range
    denoise: Range
    takes_steps: bool
    takes_cfg: bool
    takes_denoise: bool
    size: SizeSection | None  #: None: the picture follows its input
    highest_seed: int


def limits_of(template: Template, listings: Sequence[ServerListing]) -> NumberLimits:
    """The limits that hold on every one of these servers, so that whichever is free can draw it."""
    manifest = template.manifest
    return NumberLimits(
        steps=_range(template, Role.STEPS, manifest.steps, _STEPS, NO_STEPS, listings),
        cfg=_range(template, Role.CFG, manifest.cfg, _CFG, NO_CFG, listings),
        denoise=_range(template, Role.DENOISE, manifest.denoise, _DENOISE, NO_DENOISE, listings),
        takes_steps=_is_set(template, Role.STEPS, manifest.steps),
        takes_cfg=_is_set(template, Role.CFG, manifest.cfg),
        # without a picture to start from, less than all of the noise draws a grey one
        takes_denoise=manifest.denoise is not None
        or (manifest.kind in KINDS_WITH_SOURCE and _is_set(template, Role.DENOISE, None)),
        size=_size(template, manifest.size, listings) if manifest.size else None,
        highest_seed=int(min([MAX_SEED, *(high for _, high in _allowed(template, template.shape.targets[Role.SEED], listings))])),
    )


def _is_set(template: Template, role: Role, section: RangeSection | None) -> bool:
    return section is not None or template.own_number(role) is not None


def _range(
    template: Template,
    role: Role,
    section: RangeSection | None,
    usual: Range,
    otherwise: Range,
    listings: Sequence[ServerListing],
) -> Range:
    own = template.own_number(role)
    if section is None and own is None:
        return otherwise
    default = section.default if section else own if own is not None else usual.default
    bounds = list(_allowed(template, template.shape.targets[role], listings))
    low, high = (section.low, section.high) if section else (usual.low, usual.high)
    low = max([low, *(least for least, _ in bounds)])
    high = min([high, *(most for _, most in bounds)])
    return Range(low=min(low, default), high=max(high, default), default=default)


def _allowed(template: Template, targets: Sequence[Target], listings: Sequence[ServerListing]) -> Iterator[tuple[float, float]]:
    """Least and most that the servers' nodes take at these inputs."""
    for target in targets:
        node = template.graph[target.node]
        chain = template.chain_of(node.class_type)
        for listing in listings:
            class_name = listing.resolve(chain)
            spec = listing.classes[class_name].inputs_given(node.inputs).get(target.input) if class_name else None
            if spec is not None:
                yield (
                    -math.inf if spec.low is None else spec.low,
                    math.inf if spec.high is None else spec.high,
                )


def _size(template: Template, section: SizeSection, listings: Sequence[ServerListing]) -> SizeSection:
    """The manifest's sizes, as far as every node that states one goes; a later pass is larger by its factor."""
    least, most = float(section.min_side), float(section.max_side)
    for role in (Role.WIDTH, Role.HEIGHT):
        bounds = list(_allowed(template, template.shape.targets[role], listings))
        least = max([least, *(low for low, _ in bounds)])
        most = min([most, *(high for _, high in bounds)])
        for target in template.shape.later_sizes[role]:
            factor = template.later_factor(role, target)
            most = min([most, *(high / factor for _, high in _allowed(template, [target], listings))])
    return section.model_copy(update={"min_side": math.ceil(least), "max_side": math.floor(most)})
