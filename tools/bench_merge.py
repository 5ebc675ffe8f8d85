"""`make bench-merge COMFYUI_URL=http://...`: when does merging pay on this server?

For every family of models the server can run, for several sizes and numbers of pictures: seconds a picture when each is
a prompt of its own, when they are stacked (one prompt, one chain each), and when they are batched (one sampler pass); and
how far a batched picture is from the one it would have been alone. Times are ComfyUI's own, from `execution_start` to
`execution_success`, with the model loaded. It uses the house's templates where the server has their files, and tiny
random models (which draw noise, but take the same paths) where it has those.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from modules.ai.catalogue import TemplateCatalogue
from modules.ai.listing import Listings, ServerListing
from modules.ai.node_pack import find_pack
from modules.ai.workflows.plan import BuiltWorkflow, MergeForm
from modules.ai.workflows.planner import Planner
from modules.ai.workflows.template import Library
from modules.domain.catalogue import ModelSpec, Wish, WorkflowKind
from modules.domain.errors import FulletError
from modules.domain.jobs import Attempt, AttemptId
from modules.domain.recipes import Seed
from modules.domain.servers import MergeCapability
from tests.contracts.test_real_comfyui_graphs import a_library, decibels
from tests.support.graphs import SERVER, an_attempt, attempt_of, facts, single, the_library
from tests.support.plain_comfy import PlainComfy, plain_comfy

PROMPTS = ("a red fox in the snow", "the sea at night", "an old tram in Lisbon", "a lighthouse in a storm")
COUNTS = (1, 2, 4)


@dataclass(frozen=True, slots=True)
class Row:
    """One family, size and number of pictures; seconds are for one picture."""

    model: str
    size: str
    count: int
    alone_s: float
    stacked_s: float
    batched_s: float | None
    least_db: float | None

    def __str__(self) -> str:
        batched = "        -" if self.batched_s is None else f"{self.batched_s:9.3f}"
        gain = "      -" if self.batched_s is None else f"{self.alone_s / self.batched_s:6.2f}x"
        per_minute = 60 / min(seconds for seconds in (self.alone_s, self.stacked_s, self.batched_s) if seconds)
        distance = "" if self.least_db is None else "  equal" if self.least_db == float("inf") else f"{self.least_db:6.1f} dB"
        return (
            f"{self.model:26}{self.size:>11}{self.count:>3}{self.alone_s:9.3f}{self.stacked_s:9.3f}"
            f"{self.alone_s / self.stacked_s:6.2f}x{batched}{gain}{per_minute:9.1f}{distance:>10}"
        )


def main() -> int:
    """Measure and print; 0 unless the server has nothing to measure."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("url", help="a ComfyUI with the node pack")
    options.add_argument("--models", default="", help="names as in /imagine, separated by commas; all when left out")
    options.add_argument("--sizes", default="512,768,1024", help="sides in pixels, separated by commas")
    options.add_argument("--steps", type=int, default=None, help="sampling steps; the template's own when left out")
    options.add_argument("--repeat", type=int, default=3, help="runs of each; the median counts")
    return asyncio.run(measure(options.parse_args()))


async def measure(options: argparse.Namespace) -> int:
    """Every model the server can run."""
    async with plain_comfy(options.url.rstrip("/")) as comfy:
        bench = Bench(comfy, await comfy.listing(), options)
        await bench.look_for_pack()
        print(f"{'model':26}{'size':>11}{'N':>3}{'alone s':>9}{'stacked':>9}{'gain':>7}", end="")
        print(f"{'batched':>9}{'gain':>7}{'a minute':>9}{'worst':>10}")
        rows = 0
        wanted = options.models.split(",") if options.models else None
        for model in (one for one in bench.catalogue.models(WorkflowKind.IMAGINE) if wanted is None or one.name in wanted):
            for side in (int(text) for text in options.sizes.split(",")):
                for count in COUNTS:
                    row = await bench.row(model, f"{side}x{side}", count)
                    if row is not None:
                        print(row, flush=True)
                        rows += 1
    if not rows:
        print("This server has none of these models of flujos/ and none of the tiny ones.")
    return 0 if rows else 1


class Bench:
    """One server, its planner, and the stop-watch."""

    def __init__(self, comfy: PlainComfy, listing: ServerListing, options: argparse.Namespace) -> None:
        self._comfy = comfy
        self._options = options
        self._listing = listing
        listings = Listings()
        listings.update(SERVER, listing)
        library = Library({**the_library().templates, **a_library(listing).templates})
        self.catalogue = TemplateCatalogue(library=library, listings=listings)
        self._planner = Planner(library=library, listings=listings)
        self._capability = MergeCapability.NONE

    async def look_for_pack(self) -> None:
        """What the node pack there allows."""
        self._capability = find_pack(self._listing, await self._comfy.object_info()).capability
        print(f"node pack: {self._capability.value}\n")

    async def row(self, model: ModelSpec, size: str, count: int) -> Row | None:
        """None when this server cannot run it at this size."""
        try:
            attempt = attempt_of(self.catalogue, *(self._wish(model, size, number) for number in range(count)))
        except FulletError:
            return None
        alone = [an_attempt(single(job, 0)) for job in attempt.jobs]
        await self._seconds([self._built(alone[0], MergeForm.SOLO)])  # load the model
        alone_s = await self._median(lambda: [self._built(one, MergeForm.SOLO) for one in alone])
        stacked_s = await self._median(lambda: [self._built(attempt, MergeForm.STACKED)])
        if self._capability is not MergeCapability.FULL or count == 1:
            return Row(model.name, size, count, alone_s / count, stacked_s / count, None, None)
        batched_s = await self._median(lambda: [self._built(attempt, MergeForm.BATCHED)])
        return Row(model.name, size, count, alone_s / count, stacked_s / count, batched_s / count, await self._distance(attempt))

    def _wish(self, model: ModelSpec, size: str, number: int) -> Wish:
        return Wish(
            kind=WorkflowKind.IMAGINE,
            model=model.name,
            prompt=PROMPTS[number],
            size=size,
            seed=Seed(421 + number),
            steps=self._options.steps,
        )

    def _built(self, attempt: Attempt, form: MergeForm) -> BuiltWorkflow:
        return self._planner.build(attempt, facts(self._capability), uploads={}, form=form)

    async def _median(self, build) -> float:  # type: ignore[no-untyped-def]  # a lambda without arguments
        return statistics.median([await self._seconds(_fresh(build())) for _ in range(self._options.repeat)])

    async def _seconds(self, workflows: Sequence[BuiltWorkflow]) -> float:
        return sum([await self._comfy.run_timed(workflow) for workflow in workflows])

    async def _distance(self, attempt: Attempt) -> float:
        """The worst slot against its own solo run; infinite when all are equal."""
        # An id of its own: file names follow from it, and those of the timed runs are taken.
        together = await self._comfy.run(self._built(replace(attempt, id=AttemptId(uuid4())), MergeForm.BATCHED))
        found = []
        for job, slot in zip(attempt.jobs, sorted(together), strict=True):
            [picture] = (await self._comfy.run(self._built(an_attempt(single(job, 0)), MergeForm.SOLO))).values()
            found.append(decibels(together[slot], picture))
        return min(found)


_runs = iter(range(1, 1_000_000))


def _fresh(workflows: Sequence[BuiltWorkflow]) -> Sequence[BuiltWorkflow]:
    """Other seeds than in any run before, or ComfyUI would answer from its cache."""
    offset = next(_runs) * 1000
    for workflow in workflows:
        for node in workflow.graph.values():
            inputs = node["inputs"]
            assert isinstance(inputs, dict)
            for name in ("seed", "noise_seed"):
                if isinstance(inputs.get(name), int):
                    inputs[name] += offset
            if isinstance(seeds := inputs.get("seeds"), str):
                inputs["seeds"] = "[" + ",".join(str(int(seed) + offset) for seed in seeds.strip("[]").split(",")) + "]"
    return workflows


if __name__ == "__main__":
    sys.exit(main())
