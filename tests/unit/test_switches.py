"""The operator's switches, as a process that did not turn them comes to know of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import cast

from modules.domain.ports import ControlStore
from modules.queue_manager.crew import DRAINED_PREFIX, PAUSED_KEY, Switches
from tests.support.builders import SteeredClock


class SlowControl:
    """Facts of another process; an answer is on its way until it is let through."""

    def __init__(self) -> None:
        self.facts: dict[str, str] = {}
        self.reads = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def get(self, key: str) -> str | None:
        found = self.facts.get(key)
        self.reads += 1
        await self.may_answer.wait()
        return found

    async def with_prefix(self, prefix: str) -> Mapping[str, str]:
        return {key: value for key, value in self.facts.items() if key.startswith(prefix)}


def switches_over(control: SlowControl, clock: SteeredClock) -> Switches:
    return Switches(cast(ControlStore, control), clock, max_age_s=1.0)


async def test_they_are_read_once_a_second_however_often_somebody_asks() -> None:
    control, clock = SlowControl(), SteeredClock()
    switches = switches_over(control, clock)
    for _ in range(10):
        await switches.keep_fresh()
    assert control.reads == 1
    control.facts[PAUSED_KEY] = control.facts[f"{DRAINED_PREFIX}gpu-1"] = "1"
    clock.advance(1.0)
    await switches.keep_fresh()
    assert control.reads == 2
    assert switches.is_paused


async def test_a_change_that_is_told_while_they_are_read_has_them_read_again() -> None:
    control, clock = SlowControl(), SteeredClock()
    switches = switches_over(control, clock)
    control.may_answer.clear()
    async with asyncio.timeout(5), asyncio.TaskGroup() as group:
        group.create_task(switches.keep_fresh())
        while not control.reads:  # noqa: ASYNC110 (the count is the fact)
            await asyncio.sleep(0)
        control.facts[PAUSED_KEY] = "1"
        switches.expire()
        control.may_answer.set()
    assert not switches.is_paused
    await switches.keep_fresh()
    assert switches.is_paused
