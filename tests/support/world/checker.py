"""The crash checker: the same small evening, again and again, with trouble at every act and at every pair of acts.

An evening: three people ask; two of them share a prompt; a fourth job makes its node fail; a fifth is cancelled while it waits.
Then Discord repeats every interaction, and somebody presses Cancel although the picture is there. Whatever goes wrong on the way,
nothing may be lost, sent twice, sent to somebody else or drawn again without need.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import logging
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import structlog

from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import JobId, JobState
from modules.domain.people import UserId
from modules.domain.servers import RunFailure
from modules.queue_manager.intervals import Intervals
from tests.support.builders import a_work_class
from tests.support.world.acts import ProcessDied, Trouble
from tests.support.world.comfy import Prompt
from tests.support.world.mail import NONCE_LIFE
from tests.support.world.world import LONG_S, OUTAGE_S, RESTART_S, NeverCameError, World, in_world

Plan = Mapping[int, Sequence[Trouble]]

CURSED = "cursed"
#: What a job of the world costs.
COST_S = 2.0
#: After a death the program does some things more; the second trouble may strike those, too.
RECOVERY_ACTS = 10
DEATHS = (Trouble.DIES_BEFORE, Trouble.DIES_AFTER)


@dataclass(slots=True)
class Findings:
    """What many evenings came to."""

    runs: int = 0
    deaths: int = 0
    acts: int = 0
    jobs: Counter[JobState] = field(default_factory=Counter)
    wrongs: Counter[str] = field(default_factory=Counter)
    first_wrong: dict[str, Plan] = field(default_factory=dict)

    def __str__(self) -> str:
        outcomes = ", ".join(f"{state.value} {count}" for state, count in sorted(self.jobs.items()))
        kinds = ("lost", "posted twice", "in the wrong channel", "somebody else's picture", "drawn needlessly")
        wrongs = ", ".join(f"{kind} {self.wrongs[kind]}" for kind in dict.fromkeys((*kinds, *self.wrongs)))
        return f"{self.runs} runs, {self.deaths} deaths of the bot; jobs: {outcomes}; {wrongs}"

    def add(self, world: World, plan: Plan, *, wanted: Iterable[JobId] = ()) -> None:
        """One evening is over; `wanted` are jobs that must have been delivered."""
        self.runs += 1
        self.acts = max(self.acts, world.acts.count)
        self.deaths += sum(world.acts.struck[trouble] for trouble in DEATHS)
        self.jobs.update(world.states())
        wrongs = world.wrongs()
        wrongs += Counter("drawn, not delivered" for one in wanted if world.job(one).state is not JobState.DELIVERED)
        self.wrongs.update(wrongs)
        for kind in wrongs:
            self.first_wrong.setdefault(kind, plan)

    def add_broken(self, broken: AssertionError, plan: Plan) -> None:
        """One evening was not played to its end."""
        self.runs += 1
        kind = str(broken).partition("\n")[0][:100]
        self.wrongs[kind] += 1
        self.first_wrong.setdefault(kind, plan)


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """In what world the evenings are played."""

    is_split: bool = False  #: the courier is a process of its own
    restart_s: float = RESTART_S
    outage_s: float = OUTAGE_S
    long_s: float = LONG_S  #: who waits longer waits for ever

    def world(self, plan: Plan) -> World:
        """A fresh one."""
        return World(
            plan=plan,
            intervals=Intervals(poll_s=5.0),  # idle looks cost most of a run
            is_split=self.is_split,
            restart_s=self.restart_s,
            outage_s=self.outage_s,
            long_s=self.long_s,
        )


USUAL = Setting()
#: Whoever is away stays away for longer than Discord knows a nonce: only the search finds what was posted before.
NONCES_EXPIRE = Setting(restart_s=2 * NONCE_LIFE.total_seconds(), outage_s=2 * NONCE_LIFE.total_seconds())
SPLIT_ROLES = Setting(is_split=True)


def evening(plan: Plan, findings: Findings, setting: Setting = USUAL) -> int:
    """Play it once; the number of acts it took. Somebody who waits for ever, and a program that ends by itself, are findings."""
    acts = 0

    async def play(world: World) -> None:
        nonlocal acts
        shared = await _ask(world)
        is_over = await _is_over(world)
        await world.replay()
        await _cancel(world, shared[0])  # a press that comes after the picture did: refused, and nothing changes
        is_over = is_over and await _is_over(world)
        findings.add(world, plan, wanted=shared if is_over else ())
        acts = world.acts.count

    try:
        in_world(play, lambda: setting.world(plan))
    except AssertionError as broken:
        findings.add_broken(broken, plan)
    return acts


def calm_acts(setting: Setting = USUAL) -> list[str]:
    """What an evening without trouble does, act by act."""
    names: list[str] = []

    async def play(world: World) -> None:
        await _ask(world)
        await world.until_over()
        names.extend(world.acts.names)

    in_world(play, lambda: setting.world({}))
    return names


async def _ask(world: World) -> list[JobId]:
    """What people ask for, and one of them thinks better of; the two jobs that share a prompt."""
    world.comfy.misfortune = _curse
    others = a_work_class("other/1", heavy_key="flux", cost_s=2.0)
    await world.ask(1)
    shared = [await world.ask(2), await world.ask(3)]
    await world.ask(4, work=others, prompt=CURSED)
    gone = await world.ask(5, work=others)
    await _cancel(world, gone)
    return shared


async def _is_over(world: World) -> bool:
    """Wait for the end of everything; False where it never comes, which is then counted as lost."""
    try:
        await world.until_over()
    except NeverCameError:
        return False
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class Departure:
    """What came of a batch ahead that one of two left."""

    acts: range  #: the numbers of those from the cancel until the batch was taken back and its attempt over
    has_run: bool  #: the GPU began with a prompt that had the cancelled job in it
    given_back: float  #: to the one who left
    other_paid: float


def departure(plan: Plan) -> Departure:
    """Two people share a prompt that waits behind somebody's long one; one of them cancels."""
    found: list[Departure] = []

    async def play(world: World) -> None:
        await world.until_over(await world.ask(9))
        world.comfy.picture_s = 20.0
        await world.ask(9)
        await world.until(lambda: len(world.comfy.runs) == 2, "the long one to run")
        await world.life.operations.pause(UserId(9))
        gone, stays = await world.ask(1), await world.ask(2)
        await world.life.operations.resume(UserId(9))
        await world.until(lambda: world.states().count(JobState.SUBMITTED) == 3, "the batch ahead")
        charged, at = world.vt(1), world.acts.count + 1
        await _cancel(world, gone)
        await world.until_over()
        assert world.job(gone).state in (JobState.CANCELLED, JobState.DELIVERED)  # a press that is refused is not repeated
        assert world.job(stays).state is JobState.DELIVERED
        assert not world.wrongs(needless=False)
        runs = [prompt for comfy in world.comfys for prompt in comfy.runs]
        found.append(
            Departure(
                acts=range(at, world.acts.names.index("comfy forget", at) + 2),
                has_run=any(gone in {job.id for job in prompt.attempt.jobs} for prompt in runs),
                given_back=charged - world.vt(1),
                other_paid=world.vt(2) - charged + COST_S,
            )
        )

    in_world(play, lambda: World(plan=plan, intervals=Intervals(poll_s=5.0)))
    return found[0]


def _curse(prompt: Prompt) -> RunFailure | None:
    is_cursed = any(job.recipe.prompt == CURSED for job in prompt.attempt.jobs)
    return RunFailure(code=ErrorCode.NODE_FAILED) if is_cursed else None


async def _cancel(world: World, job_id: JobId) -> None:
    """Until it is cancelled or over; somebody whose press was not answered presses again."""
    while True:
        with suppress(ProcessDied):
            world.life.process.check()
            with suppress(FulletError):
                await world.life.engine.cancel(job_id)
            return
        await asyncio.sleep(world.restart_s + 1.0)


def single_plans(acts: int, troubles: Iterable[Trouble] = Trouble) -> Iterator[Plan]:
    """Every trouble at every act."""
    for number, trouble in itertools.product(range(1, acts + 1), troubles):
        yield {number: (trouble,)}


def pair_plans(acts: range, first: Iterable[Trouble] = DEATHS, second: Iterable[Trouble] = DEATHS) -> Iterator[Plan]:
    """Two troubles at two acts, the second one often in the middle of the recovery from the first."""
    for (one, other), trouble, then in itertools.product(itertools.combinations(acts, 2), first, second):
        yield {one: (trouble,), other: (then,)}


def check(plans: Iterable[Plan], setting: Setting = USUAL) -> Findings:
    """Play them all."""
    findings = Findings()
    for plan in plans:
        evening(plan, findings, setting)
    return findings


def main(arguments: Sequence[str] | None = None) -> int:
    """The exhaustive check: every single trouble, every pair of a death and something else."""
    parser = argparse.ArgumentParser(description="The crash checker, exhaustively.")
    parser.add_argument("--every", type=int, default=1, help="only every n-th pair")
    every = parser.parse_args(arguments).every
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    began, total = time.monotonic(), Counter[str]()
    calm, calm_split = evening({}, Findings()), evening({}, Findings(), SPLIT_ROLES)
    numbers = range(1, calm + RECOVERY_ACTS + 1)
    rounds: dict[str, Iterator[Plan]] = {
        "two deaths": pair_plans(numbers),
        "a death, then ComfyUI restarts": pair_plans(numbers, second=(Trouble.COMFY_RESTARTS,)),
        "ComfyUI restarts, then a death": pair_plans(numbers, first=(Trouble.COMFY_RESTARTS,)),
        "a death, then an answer is lost": pair_plans(numbers, second=(Trouble.ANSWER_LOST,)),
        "an outage, then a death": pair_plans(numbers, first=(Trouble.COMFY_AWAY, Trouble.DISCORD_AWAY, Trouble.DATABASE_AWAY)),
    }
    rounds = {name: itertools.islice(plans, 0, None, every) for name, plans in rounds.items()}
    singles: dict[str, tuple[Iterator[Plan], Setting]] = {
        "every trouble at every act": (single_plans(calm), USUAL),
        "the same, with nonces that expired": (single_plans(calm), NONCES_EXPIRE),
        "the same, with split roles": (single_plans(calm_split), SPLIT_ROLES),
    }
    for name, (plans, setting) in {**singles, **{name: (plans, USUAL) for name, plans in rounds.items()}}.items():
        findings = check(plans, setting)
        total += findings.wrongs
        print(f"{name}: {findings} ({time.monotonic() - began:.0f} s)", flush=True)
        for kind, plan in findings.first_wrong.items():
            print(f"  first {kind}: {plan}", flush=True)
    return 1 if total else 0


if __name__ == "__main__":
    sys.exit(main())
