"""From an attempt to the workflow that draws it: choose the form, bind every slot, put the slots together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from modules.ai.listing import Listings
from modules.ai.workflows.binding import bind, fit, input_pictures
from modules.ai.workflows.gain import GAIN_FOR_ONE_JOB, GAIN_FOR_PEOPLE, GainBook, GainKey, MergeMode, bucket_of
from modules.ai.workflows.graph import Node
from modules.ai.workflows.keys import SAVE_CLASS
from modules.ai.workflows.manifest import Family, MergeLevel
from modules.ai.workflows.memory import rows_that_fit
from modules.ai.workflows.merging import MAX_SLOTS, UNBATCHABLE_SAMPLERS, CannotBatchError, Chain, batched, chained
from modules.ai.workflows.plan import BuiltWorkflow, InputPicture, MergeForm
from modules.ai.workflows.template import RESERVED_ID, Library, Template
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Attempt, Job, Slot, WorkClass
from modules.domain.servers import MergeCapability, ServerFacts

log = structlog.get_logger(__name__)

#: Our folder below the server's output folder.
OUTPUT_FOLDER = "fullet"


@dataclass(slots=True)
class Planner:
    """The `WorkflowPlanner` of the house."""

    library: Library
    listings: Listings
    max_batch_size: int = 4
    mode: MergeMode = MergeMode.AUTO
    gains: GainBook = field(default_factory=GainBook)

    def build(
        self, attempt: Attempt, facts: ServerFacts, *, uploads: Mapping[InputPicture, str], form: MergeForm | None = None
    ) -> BuiltWorkflow:
        """See `WorkflowPlanner.build`. Raises TEMPLATE_INVALID when a job's template is gone."""
        form = form or self.choose_form(attempt, facts)
        chains = self._chains(attempt, facts, uploads)
        if form is MergeForm.BATCHED:
            try:
                return batched(chains, max_rows=self._max_rows(attempt, facts))
            except CannotBatchError as error:
                log.warning("batch_fell_back_to_chains", server=facts.name, reason=str(error))
                form = _chained_form(attempt)
        has_pack = form is MergeForm.STACKED and facts.capability is not MergeCapability.NONE
        return chained(chains, form, has_pack=has_pack)

    def input_pictures(self, job: Job) -> Sequence[InputPicture]:
        """See `WorkflowPlanner.input_pictures`."""
        return list(dict.fromkeys(input_pictures(self._template(job), job.recipe).values()))

    def max_jobs(self, work: WorkClass, facts: ServerFacts) -> int:
        """See `WorkflowPlanner.max_jobs`. Without the node pack the files of a merged run would carry everybody's prompts: 1."""
        if self.mode is MergeMode.NEVER or not work.is_mergeable or facts.capability is MergeCapability.NONE:
            return 1
        return max(1, min(self.max_batch_size, MAX_SLOTS))

    def choose_form(self, attempt: Attempt, facts: ServerFacts) -> MergeForm:
        """The form for this attempt, by merge mode, server, template and measured gain."""
        fallback = _chained_form(attempt)
        slots = len(attempt.slots)
        if slots < 2 or facts.capability is not MergeCapability.FULL or slots > MAX_SLOTS or not self._may_batch(attempt):
            return fallback
        match self.mode:
            case MergeMode.BATCHED:
                return MergeForm.BATCHED
            case MergeMode.STACKED | MergeMode.NEVER:
                return fallback
            case MergeMode.AUTO:
                if slots > self._max_rows(attempt, facts):
                    return fallback  # chains need the memory of one picture
                threshold = GAIN_FOR_PEOPLE if len(attempt.jobs) > 1 else GAIN_FOR_ONE_JOB
                is_worth_it = self.gains.prefers_batch(_gain_key(attempt), self._family(attempt), threshold)
                return MergeForm.BATCHED if is_worth_it else fallback

    def note_run(self, attempt: Attempt, form: MergeForm, worked_s: float) -> None:
        """Learn from a run that succeeded and found its model loaded; `worked_s` by the server's own clock."""
        self.gains.note(_gain_key(attempt), form, worked_s)

    def _max_rows(self, attempt: Attempt, facts: ServerFacts) -> int:
        """Pictures in one pass of the model: what the operator allows, and what the GPU's memory should hold."""
        allowed = min(self.max_batch_size, MAX_SLOTS)
        fitting = rows_that_fit(facts.vram_bytes, self._family(attempt), attempt.jobs[0].recipe.size)
        return allowed if fitting is None else min(allowed, fitting)

    def _family(self, attempt: Attempt) -> Family:
        return self._template(attempt.jobs[0]).manifest.family

    def _may_batch(self, attempt: Attempt) -> bool:
        templates = [self._template(job) for job in attempt.jobs]
        if len({job.work.exact_key for job in attempt.jobs}) > 1 or templates[0].merge is not MergeLevel.BATCHED:
            return False
        return templates[0].keeps_size and attempt.jobs[0].recipe.sampler not in UNBATCHABLE_SAMPLERS

    def _chains(self, attempt: Attempt, facts: ServerFacts, uploads: Mapping[InputPicture, str]) -> Sequence[Chain]:
        jobs = {job.id: job for job in attempt.jobs}
        return [self._chain(attempt, jobs[slot.job_id], slot, facts, uploads) for slot in attempt.slots]

    def _chain(self, attempt: Attempt, job: Job, slot: Slot, facts: ServerFacts, uploads: Mapping[InputPicture, str]) -> Chain:
        template = self._template(job)
        graph = bind(template, job.recipe, seed=slot.seed, uploads=uploads)
        graph[RESERVED_ID] = Node(SAVE_CLASS, {"images": template.shape.picture})  # so that it follows where outputs move
        listing = self.listings.of(facts.name)
        fitted = fit(graph, template, listing) if listing else graph
        picture = fitted.pop(RESERVED_ID).link("images") or template.shape.picture
        return Chain(
            slot=slot.index,
            seed=slot.seed,
            graph=fitted,
            picture=picture,
            sampler=template.shape.sampler,
            prefix=f"{OUTPUT_FOLDER}/{attempt.id}/{slot.index}",
            size=job.recipe.size if template.keeps_size else None,
        )

    def _template(self, job: Job) -> Template:
        template = self.library.templates.get(job.recipe.workflow)
        if template is None:
            raise FulletError(ErrorCode.TEMPLATE_INVALID, workflow=job.recipe.workflow, problem="file_missing")
        return template


def _chained_form(attempt: Attempt) -> MergeForm:
    return MergeForm.STACKED if len(attempt.jobs) > 1 else MergeForm.SOLO


def _gain_key(attempt: Attempt) -> GainKey:
    first = attempt.jobs[0]
    return GainKey(
        server=attempt.server,
        heavy_key=first.work.heavy_key,
        bucket=bucket_of(first.recipe.size),
        pictures=len(attempt.slots),
    )
