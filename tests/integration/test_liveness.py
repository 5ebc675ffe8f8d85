"""No job waits beside an idle GPU that could draw it; real engine and stores, virtual time. The bound: docs/scheduling.md."""

from __future__ import annotations

from collections.abc import Callable

from modules.domain.errors import ErrorCode
from modules.domain.jobs import JobState, WorkClass
from modules.domain.servers import RunPhase
from tests.support.builders import a_work_class
from tests.support.troubles import delivered, fails_of
from tests.support.world import World, played
from tests.support.world.comfy import PICTURE_S

#: Two models; jobs of either are never merged.
FLUX = a_work_class("flux/large", heavy_key="flux", cost_s=PICTURE_S, is_mergeable=False)
SDXL = a_work_class("sdxl/small", heavy_key="sdxl", cost_s=PICTURE_S, is_mergeable=False)
HUGE = "huge"


@played(servers=2)
async def test_a_job_that_the_server_with_its_model_refuses_is_drawn_by_the_other_while_the_first_goes_on(world: World) -> None:
    small, large = world.comfys
    small.lacks, large.lacks = lacking("sdxl"), lacking("flux")
    large.picture_s = 30.0
    for _ in range(2):  # each has a model in memory, and it is known how long the second takes
        await world.until_over(*[await world.ask(1, work=work) for work in (FLUX, SDXL)])
    long = await world.ask(1, work=SDXL)
    await world.until(lambda: large.runs[-1].phase is RunPhase.RUNNING, "the large one to be busy")
    small.lacks = large.lacks = lambda _: ()
    small.misfortune = fails_of(HUGE, ErrorCode.OUT_OF_MEMORY)
    huge = await world.ask(2, work=FLUX, prompt=HUGE)
    await world.until(lambda: small.runs[-1].phase is RunPhase.FAILED, "the refusal")
    await world.until_over(await world.ask(3, work=FLUX))  # the small one has the model again
    await world.until_over(long)
    idle_since = world.clock.monotonic()
    large.picture_s = PICTURE_S
    await world.until(lambda: world.job(huge).state is not JobState.QUEUED, "the idle one to take it")
    assert world.clock.monotonic() - idle_since <= 1.0
    await world.until_over(huge)
    assert delivered(world, huge)
    assert world.job(huge).server == large.name


def lacking(heavy_key: str) -> Callable[[WorkClass], tuple[str, ...]]:
    return lambda work: ("file:x",) if work.heavy_key == heavy_key else ()
