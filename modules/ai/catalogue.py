"""The `Catalogue` port: models from the manifests, wishes turned into recipes, and what the servers have for them."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from modules.ai.choices import NameLists, Places, is_same
from modules.ai.limits import NumberLimits, limits_of
from modules.ai.listing import Listings, ServerListing
from modules.ai.model_specs import model_specs
from modules.ai.node_specs import canonical
from modules.ai.wishes import read_decimal, read_prompt, read_size, read_whole
from modules.ai.workflows.following import following_sizes
from modules.ai.workflows.keys import work_of
from modules.ai.workflows.manifest import LoraPlace, SizeSection
from modules.ai.workflows.role_inputs import Role
from modules.ai.workflows.template import Library, Template
from modules.domain.catalogue import KINDS_WITH_SOURCE, Choices, ModelSpec, Range, TemplateProblem, Wish, WorkflowKind
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import MAX_OUTPUT_PIXELS, MAX_OUTPUT_SIDE_PX, Dimensions
from modules.domain.jobs import ServerName, WorkClass
from modules.domain.recipes import MAX_CHOSEN_SEED, MAX_PICTURES_PER_JOB, MAX_SEED, Lora, ModelName, Recipe, Seed, WorkflowName

#: docs/cards.md: the form offers up to four.
MAX_LORAS = 4
LORA_STRENGTH = Range(low=-4.0, high=4.0, default=1.0)
COUNT = Range(low=1, high=MAX_PICTURES_PER_JOB, default=1)

#: Of a picture on the way to the result, which may be larger: as 32-bit numbers this takes 3 GB of the server's memory.
_MAX_WORKING_PIXELS = 4 * MAX_OUTPUT_PIXELS

#: Every class and input that lists the names of one kind. Sources: ComfyUI's own loaders, and those of ComfyUI-GGUF.
_CHECKPOINTS = (("CheckpointLoaderSimple", "ckpt_name"), ("CheckpointLoaderSimpleMikey", "ckpt_name"))
_UNETS = (("UNETLoader", "unet_name"), ("UnetLoaderGGUF", "unet_name"))
_LORAS = (("LoraLoader", "lora_name"), ("LoraLoaderModelOnly", "lora_name"))
_SAMPLERS = (("KSampler", "sampler_name"), ("KSamplerSelect", "sampler_name"))
_SCHEDULERS = (("KSampler", "scheduler"), ("BasicScheduler", "scheduler"))
_UPSCALERS = (("UpscaleModelLoader", "model_name"),)
_ALL_PLACES: tuple[Places, ...] = (_CHECKPOINTS, _UNETS, _LORAS, _SAMPLERS, _SCHEDULERS, _UPSCALERS)


@dataclass(slots=True)
class TemplateCatalogue:
    """Models and workflows on offer. Everything is in memory, so nothing here waits."""

    library: Library
    listings: Listings
    random: random.Random = field(default_factory=random.SystemRandom)
    #: Models by name, with the limits of the servers they were worked out for.
    _specs: tuple[tuple[ServerListing, ...], Mapping[ModelName, ModelSpec]] = field(init=False)
    #: Template and server -> the listing that was looked at, and whether it has everything.
    _runnable: dict[tuple[WorkflowName, ServerName], tuple[ServerListing, bool]] = field(init=False, default_factory=dict)
    _names: NameLists = field(init=False, default_factory=NameLists)
    _found: tuple[tuple[ServerListing, ...], Sequence[TemplateProblem]] = field(init=False, default=((), ()))
    _offered: tuple[tuple[ServerListing, ...], Choices] = field(init=False, default=((), Choices()))

    def __post_init__(self) -> None:
        self._specs = ((), {spec.name: spec for spec in model_specs(self.library, ())})
        self.listings.prepare_with(self._prepare)

    def _prepare(self, servers: Sequence[tuple[ServerName, ServerListing]]) -> None:
        """Work out in a thread what people will ask of these servers; only adds to what is remembered."""
        listings = [listing for _, listing in servers]
        loaders = [_loader_of(template) for template in self.library.templates.values() if template.manifest.picks_checkpoint]
        for places in (*_ALL_PLACES, *loaders):
            self._names.of(listings, places)
        for template in self.library.templates.values():
            for server, listing in servers:
                self._runs(template, server, listing)

    def _models(self) -> Mapping[ModelName, ModelSpec]:
        met = [listing for _, listing in self.listings.all()]
        if not is_same(self._specs[0], met):
            self._specs = (tuple(met), {spec.name: spec for spec in model_specs(self.library, met)})
        return self._specs[1]

    def models(self, kind: WorkflowKind | None = None) -> Sequence[ModelSpec]:
        """All models (that can do `kind`), in the order of their manifests."""
        return [spec for spec in self._models().values() if kind is None or kind in spec.workflows]

    def model(self, called: str, kinds: Collection[WorkflowKind] = tuple(WorkflowKind)) -> ModelSpec:
        """By name, else by what people read. Raises MODEL_UNKNOWN, which tells those that can do one of `kinds`."""
        specs = self._models()
        spec = specs.get(ModelName(called)) or next((spec for spec in specs.values() if spec.is_called(called)), None)
        if spec is None:
            known = [spec.label for spec in specs.values() if not spec.workflows.keys().isdisjoint(kinds)]
            raise FulletError(ErrorCode.MODEL_UNKNOWN, model=called[:40], known=", ".join(known))
        return spec

    def is_available(self, name: ModelName, kind: WorkflowKind) -> bool:
        """Whether some server that is up could run it now."""
        spec = self._models().get(name)
        if spec is None or kind not in spec.workflows:
            return False
        template = self.library.templates[spec.workflows[kind]]
        return any(self._runs(template, server, listing) for server, listing in self.listings.up())

    def _runs(self, template: Template, server: ServerName, listing: ServerListing) -> bool:
        """Whether a server has everything; found out once for each time that it was read."""
        known = self._runnable.get((template.name, server))
        if known is None or known[0] is not listing:
            known = (listing, template.runs_on(listing))
            self._runnable[template.name, server] = known
        return known[1]

    def resolve(self, wish: Wish) -> tuple[Recipe, WorkClass]:
        """Fill in defaults, choose a seed, check every limit. Raises what the first wrong field deserves."""
        template = self._template_for(wish)
        recipe = self._recipe(wish, template)
        if recipe.size is None and wish.source_size is not None:
            _check_following_size(template, wish.source_size)
        work = work_of(template, recipe, wish.source_size)
        self._need_a_server(recipe, template, work)
        return recipe, work

    def choices(self) -> Choices:
        """What the healthy servers have, for forms."""
        up = [listing for _, listing in self.listings.up()]
        if not is_same(self._offered[0], up):
            self._offered = (tuple(up), self._choices(up))
        return self._offered[1]

    def _choices(self, up: Sequence[ServerListing]) -> Choices:
        def names(places: Places) -> tuple[str, ...]:
            return self._names.of(up, places).ordered

        return Choices(
            checkpoints=names(_CHECKPOINTS),
            unets=names(_UNETS),
            loras=names(_LORAS),
            samplers=names(_SAMPLERS),
            schedulers=names(_SCHEDULERS),
            upscalers=names(_UPSCALERS),
        )

    def problems(self) -> Sequence[TemplateProblem]:
        """What keeps templates from running, per server; faults of the files themselves first."""
        servers = list(self.listings.all())
        if not is_same(self._found[0], [listing for _, listing in servers]):
            found = [
                problem
                for server, listing in servers
                for template in self.library.templates.values()
                for problem in template.problems_on(server, listing)
            ]
            self._found = (tuple(listing for _, listing in servers), found)
        return [*self.library.problems, *self._found[1]]

    def where(self, problem: TemplateProblem) -> str:
        """Where the operator gets or puts what is missing, as the manifest says; empty when it does not."""
        template = self.library.templates.get(problem.workflow)
        return template.manifest.where.get(problem.name, "") if template else ""

    # --- wishes ---------------------------------------------------------------------------------------------------------

    def _template_for(self, wish: Wish) -> Template:
        able = self.models(wish.kind)
        if wish.model is None and not able:
            raise FulletError(ErrorCode.MODEL_UNAVAILABLE, model=wish.kind.value, alternative="")
        spec = self.model(wish.model, {wish.kind}) if wish.model is not None else self._default(able, wish.kind)
        if wish.kind not in spec.workflows:
            raise FulletError(ErrorCode.MODEL_UNAVAILABLE, model=spec.label, alternative=self._alternative(spec.name, wish.kind))
        return self.library.templates[spec.workflows[wish.kind]]

    def _default(self, able: Sequence[ModelSpec], kind: WorkflowKind) -> ModelSpec:
        return next((spec for spec in able if self.is_available(spec.name, kind)), able[0])

    def _alternative(self, name: ModelName, kind: WorkflowKind) -> str:
        """Another model that can do it, preferring one that can do it now."""
        others = [spec for spec in self.models(kind) if spec.name != name]
        others.sort(key=lambda spec: not self.is_available(spec.name, kind))
        return others[0].label if others else ""

    def _recipe(self, wish: Wish, template: Template) -> Recipe:
        manifest, shape = template.manifest, template.shape
        limits = limits_of(template, [listing for _, listing in self.listings.all()])
        count = read_whole(wish.count, "count", COUNT)
        prompt = read_prompt(wish.prompt, is_required=shape.has(Role.PROMPT))
        negative = read_prompt(wish.negative_prompt, is_required=False)
        has_source = wish.kind in KINDS_WITH_SOURCE
        if has_source and wish.source is None:
            raise FulletError(ErrorCode.PICTURE_MISSING)
        if wish.reference is not None and not shape.has(Role.REFERENCE):
            raise FulletError(ErrorCode.REFERENCE_NOT_TAKEN, model=self.model(manifest.model).label)
        return Recipe(
            workflow=template.name,
            model=ModelName(manifest.model),
            prompt=prompt if shape.has(Role.PROMPT) else "",
            negative_prompt=negative if shape.has(Role.NEGATIVE) else "",
            size=_fitted_size(wish.size, limits.size) if limits.size else None,
            seed=self._seed(wish.seed, count, limits.highest_seed),
            steps=_steps(wish.steps, limits),
            cfg=_number(wish.cfg if limits.takes_cfg else None, "cfg", limits.cfg),
            guidance=manifest.guidance.default if manifest.guidance else None,
            sampler=self._choice(wish.sampler, "sampler", _SAMPLERS) if shape.has(Role.SAMPLER) else None,
            scheduler=self._choice(wish.scheduler, "scheduler", _SCHEDULERS) if shape.has(Role.SCHEDULER) else None,
            denoise=_number(wish.denoise if limits.takes_denoise else None, "denoise", limits.denoise),
            checkpoint=self._checkpoint(wish.checkpoint, template),
            loras=self._loras(wish.loras, template),
            count=count,
            source=wish.source if has_source else None,
            reference=wish.reference,
        )

    def _seed(self, seed: Seed | None, count: int, highest: int) -> Seed:
        """A chosen one, or the given one; each picture has the next, and ComfyUI's whole range goes round at its end."""
        allowed = Range(low=0, high=highest if highest >= MAX_SEED else highest - count + 1, default=0)
        return Seed(self.random.randint(0, MAX_CHOSEN_SEED) if seed is None else read_whole(seed, "seed", allowed))

    def _checkpoint(self, name: str | None, template: Template) -> str | None:
        """The model file; where people may choose one, the recipe records it even when it is the template's own."""
        if not template.manifest.picks_checkpoint:
            return None
        loader = template.shape.targets[Role.CHECKPOINT][0]
        own = template.graph[loader.node].literal(loader.input)
        return self._choice(name or str(own), "checkpoint", _loader_of(template))

    def _loras(self, loras: Sequence[Lora], template: Template) -> tuple[Lora, ...]:
        if not loras:
            return ()
        if template.lora is LoraPlace.NONE or len(loras) > MAX_LORAS:
            limit = 0 if template.lora is LoraPlace.NONE else MAX_LORAS
            raise FulletError(ErrorCode.VALUE_OUT_OF_RANGE, field="loras", low=0, high=limit)
        return tuple(
            Lora(
                name=self._choice(lora.name, "lora", _LORAS) or "",
                strength=read_decimal(lora.strength, "strength", LORA_STRENGTH),
            )
            for lora in {canonical(lora.name): lora for lora in loras}.values()
        )

    def _choice(self, name: str | None, field: str, places: Places) -> str | None:
        """A name some server lists, with `/` between folders, else CHOICE_UNKNOWN.

        Before any server was reached every name is taken on trust.
        """
        if name is None:
            return None
        listed = self._names.of([listing for _, listing in self.listings.all()], places).all
        if listed and canonical(name) not in listed:
            raise FulletError(ErrorCode.CHOICE_UNKNOWN, field=field, value=name[:80])
        return canonical(name)

    def _need_a_server(self, recipe: Recipe, template: Template, work: WorkClass) -> None:
        """Refuse what no server has, away or not: it would wait for ever. With no server ever seen, it waits for the first."""
        known = [listing for _, listing in self.listings.all()]
        if known and all(listing.missing(work.needs) for listing in known):
            raise FulletError(
                ErrorCode.MODEL_UNAVAILABLE,
                model=self.model(recipe.model).label,
                alternative=self._alternative(recipe.model, template.manifest.kind),
            )


def _loader_of(template: Template) -> Places:
    """Where a template that lets people choose its model file takes it from."""
    loader = template.shape.targets[Role.CHECKPOINT][0]
    return ((template.chain_of(template.graph[loader.node].class_type), loader.input),)


def _fitted_size(asked: str | Dimensions | None, section: SizeSection) -> Dimensions:
    """The nearest size on the grid. Raises SIZE_INVALID, SIZE_OUT_OF_RANGE."""
    if asked is None:
        return section.default
    size = read_size(asked, section.default).on_grid(section.grid)
    if not section.allows(size):
        raise FulletError(
            ErrorCode.SIZE_OUT_OF_RANGE,
            min_px=section.min_side,
            max_px=section.max_side,
            max_megapixels=section.max_megapixels,
        )
    return size


def _check_following_size(template: Template, source: Dimensions) -> None:
    """Refuse what would be too large to fetch, or to hold on the way. Raises RESULT_TOO_LARGE."""
    sizes = following_sizes(template, source)
    if sizes is None:
        return
    longest = max(sizes.result.width_px, sizes.result.height_px)
    for size, limit in ((sizes.result, MAX_OUTPUT_PIXELS), (sizes.largest, _MAX_WORKING_PIXELS)):
        pixels = size.width_px * size.height_px
        if pixels > limit or longest > MAX_OUTPUT_SIDE_PX:
            raise FulletError(
                ErrorCode.RESULT_TOO_LARGE, megapixels=round(pixels / 1_000_000), limit=MAX_OUTPUT_PIXELS // 1_000_000
            )


def _steps(asked: object, limits: NumberLimits) -> int:
    return read_whole(asked, "steps", limits.steps) if asked is not None and limits.takes_steps else round(limits.steps.default)


def _number(asked: object, field: str, allowed: Range) -> float:
    return read_decimal(asked, field, allowed) if asked is not None else float(allowed.default)
