"""What tests of the queue in trouble say and ask again and again."""

from __future__ import annotations

from collections.abc import Callable

from modules.domain.errors import ErrorCode
from modules.domain.events import ServerBack, ServerLost
from modules.domain.jobs import JobId, JobState
from modules.domain.people import UserId
from modules.domain.servers import RunFailure
from tests.support.builders import a_work_class
from tests.support.world import Life, World
from tests.support.world.comfy import Prompt

ADMIN = UserId(99)
#: Never merged, so that every job is a batch of its own.
ALONE = a_work_class("alone", heavy_key="sdxl", cost_s=2.0, is_mergeable=False)


def delivered(world: World, *job_ids: JobId) -> bool:
    """Whether all of them arrived."""
    return all(world.job(one).state is JobState.DELIVERED for one in job_ids)


def fails_of(prompt: str, code: ErrorCode) -> Callable[[Prompt], RunFailure | None]:
    """Every run that has a job with this prompt fails so."""
    return lambda one: RunFailure(code=code) if any(job.recipe.prompt == prompt for job in one.attempt.jobs) else None


def news_of_server(life: Life) -> list[type]:
    """What was told of servers going and coming, in order."""
    return [type(event) for event in life.seen if isinstance(event, ServerLost | ServerBack)]
