"""Progress of whole jobs: a job may have several samplers, one after the other, and each counts its own steps from one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from modules.ai.workflows.plan import BuiltWorkflow
from modules.domain.jobs import JobId
from modules.domain.servers import RunProgressed


class JobSteps:
    """Of one prompt. What a sampler reports replaces what was planned for it."""

    def __init__(self, built: BuiltWorkflow, job_of_slot: Mapping[int, JobId]) -> None:
        self._jobs_of = {
            node: tuple(dict.fromkeys(job_of_slot[slot] for slot in slots)) for node, slots in built.slot_of_node.items()
        }
        self._planned = dict(built.sampler_steps)
        self._done = dict.fromkeys(self._planned, 0)

    def skip(self, nodes: Iterable[str]) -> None:
        """They were drawn before and need not run."""
        for node in nodes:
            self._planned.pop(node, None)
            self._done.pop(node, None)

    def note(self, node: str, step: int, steps: int) -> Iterator[RunProgressed]:
        """A node is through with `step` of its `steps`. Where samplers tell how far a job is, nothing else of it does."""
        if not 0 < step <= steps:
            return
        is_sampler = node in self._planned
        if is_sampler:
            self._done[node], self._planned[node] = step, steps
        alike: dict[tuple[int, int], list[JobId]] = defaultdict(list)
        for job_id in self._jobs_of.get(node, ()):
            samplers = [one for one in self._planned if job_id in self._jobs_of.get(one, ())]
            if is_sampler:
                alike[sum(self._done[one] for one in samplers), sum(self._planned[one] for one in samplers)].append(job_id)
            elif not samplers:
                alike[step, steps].append(job_id)
        for (done, of), job_ids in alike.items():
            yield RunProgressed(job_ids=tuple(job_ids), step=done, steps=of)
