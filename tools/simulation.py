"""A day of a small community in virtual time: the real scheduler, and the policies others use, over the same arrivals.

Parameters and gates: docs/scheduling.md, "Targets". Every random number comes from the seed.
"""

from __future__ import annotations

import heapq
import random
import statistics
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from uuid import UUID

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId
from modules.domain.queue import Account, Pick, QueueSnapshot, WaitingJob
from modules.queue_manager.forecast import forecast
from modules.queue_manager.rates import Calibration
from modules.queue_manager.scheduler import Policy, ServerView, pick

#: Seconds alone, share of it that further pictures of a batch save, seconds to switch, share of the wishes.
MODELS = {"flux": (8.0, 0.35, 18.0, 0.50), "z-image": (3.0, 0.40, 12.0, 0.35), "anima": (5.0, 0.40, 10.0, 0.15)}
#: Speed and batch size of each server.
SERVERS = {ServerName("fast-1"): (1.0, 4), ServerName("fast-2"): (1.0, 4), ServerName("slow"): (0.6, 2)}
LOYALTY = 0.75
NOISE = 0.08
LEAD_S = 2.0
C_MAX = max(alone for alone, *_ in MODELS.values())


class ModelRates:
    """Mean times, as the real program learns them."""

    def can_run(self, server: ServerName, exact_key: str) -> bool:
        return True

    def cap(self, server: ServerName, exact_key: str) -> int:
        return SERVERS[server][1]

    def batch_s(self, server: ServerName, job: WaitingJob, rows: int) -> float:
        alone, share, *_ = MODELS[job.heavy_key]
        return alone * (share + (1 - share) * rows) / SERVERS[server][0]

    def switch_s(self, server: ServerName, heavy_key: str) -> float:
        return MODELS[heavy_key][2]


RATES = ModelRates()
Chooser = Callable[[QueueSnapshot, ServerView, Sequence[ServerView]], Pick | None]


@dataclass(slots=True, kw_only=True)
class Community:
    """Who asks how often. `jobs_each` are kept waiting or running all the time; `think_s` is the mean pause before the next."""

    people: int = 60
    jobs_each: int = 2
    think_s: float = 0.0
    flooders: int = 0
    flood_jobs: int = 0


@dataclass(slots=True)
class Outcome:
    """What one run measured. Seconds of virtual time."""

    horizon_s: float
    busy_s: float = 0.0
    ideal_s: float = 0.0
    switches: int = 0
    jobs: int = 0
    service: dict[UserId, float] = field(default_factory=lambda: defaultdict(float))
    waits: dict[UserId, list[float]] = field(default_factory=lambda: defaultdict(list))
    spread: float = 0.0
    forecasts: list[tuple[float, float, float]] = field(default_factory=list)  #: (likely, nine in ten, actual)

    @property
    def busy(self) -> float:
        return self.busy_s / (self.horizon_s * len(SERVERS))

    @property
    def of_bound(self) -> float:
        """Against every batch full and no switch ever."""
        return self.ideal_s / (self.horizon_s * len(SERVERS))

    @property
    def switches_per_100(self) -> float:
        return 100 * self.switches / max(1, self.jobs)

    @property
    def jain(self) -> float:
        """Jain's index of GPU-seconds received; 1 is perfectly equal."""
        values = list(self.service.values())
        return sum(values) ** 2 / (len(values) * sum(value * value for value in values))

    def rounds(self, share: float, people: Sequence[UserId] | None = None) -> float:
        """A quantile of time from asking to having, in rounds; a round serves one job of every person."""
        waits = sorted(wait for user, own in self.waits.items() if people is None or user in people for wait in own)
        return waits[min(len(waits) - 1, int(share * len(waits)))] / (self.horizon_s / (self.jobs / len(self.waits)))


@dataclass(slots=True)
class _Gpu:
    name: ServerName
    loaded: str | None = None
    ends_at: float = 0.0
    expected_end: float = 0.0
    running: list[WaitingJob] = field(default_factory=list)
    ahead: list[WaitingJob] = field(default_factory=list)
    last_heavy: str | None = None


class Simulation:
    """One community, one policy, one seed."""

    def __init__(self, choose: Chooser, community: Community, *, seed: int, hours: float, with_forecasts: bool = False) -> None:
        self._choose = choose
        self._community = community
        self._rng = random.Random(seed)
        self._outcome = Outcome(horizon_s=hours * 3600)
        self._warm_up_s = 600.0
        self._now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._tick = 0
        self._jobs: dict[JobId, WaitingJob] = {}
        self._accounts: dict[UserId, Account] = {}
        self._asked: dict[JobId, float] = {}
        self._told: dict[JobId, tuple[float, float, float]] = {}
        self._floor = 0.0
        self._gpus = {name: _Gpu(name) for name in SERVERS}
        self._favourite: dict[UserId, str] = {}
        self._with_forecasts = with_forecasts
        self._calibration = Calibration()

    def run(self) -> Outcome:
        """Play the whole horizon."""
        for index in range(self._community.people):
            user = UserId(index + 1)
            self._favourite[user] = self._random_model()
            count = self._community.flood_jobs if index < self._community.flooders else self._community.jobs_each
            for _ in range(count):
                self._later(self._pause(), lambda user=user: self._ask(user))  # type: ignore[misc]
        while self._events and self._events[0][0] < self._outcome.horizon_s + self._warm_up_s:
            self._now, _, act = heapq.heappop(self._events)
            act()
        return self._outcome

    # --- people -----------------------------------------------------------------------------------------------------

    def _pause(self) -> float:
        return self._rng.expovariate(1 / self._community.think_s) if self._community.think_s else self._rng.uniform(0, 0.5)

    def _random_model(self) -> str:
        return self._rng.choices(list(MODELS), [share for *_, share in MODELS.values()])[0]

    def _ask(self, user: UserId) -> None:
        model = self._favourite[user] if self._rng.random() < LOYALTY else self._random_model()
        self._tick += 1
        job = WaitingJob(
            id=JobId(UUID(int=self._tick)),
            user_id=user,
            seq=self._tick,
            exact_key=model,
            heavy_key=model,
            cost_s=MODELS[model][0],
            rows=1,
        )
        waiting = {one.user_id for one in self._jobs.values()}
        account = self._accounts.get(user, Account(user_id=user, vt=0.0))
        if user not in waiting:
            least = min((self._accounts[one].vt for one in waiting), default=self._floor)
            account = replace(account, vt=max(account.vt, least))
        self._accounts[user] = account
        self._jobs[job.id] = job
        self._asked[job.id] = self._now
        if self._with_forecasts:
            self._foretell(job)
        for gpu in self._gpus.values():
            self._feed(gpu)

    def _foretell(self, job: WaitingJob) -> None:
        found = forecast(self._snapshot(), [self._view(gpu) for gpu in self._gpus.values()], RATES, Policy()).get(job.id)
        if found is not None:
            likely, safe = self._calibration.quantile(0.5), self._calibration.quantile(0.9)
            self._told[job.id] = (found.ends_in_s, found.ends_in_s * likely, found.ends_in_s * safe)

    # --- servers ----------------------------------------------------------------------------------------------------

    def _feed(self, gpu: _Gpu) -> None:
        """Idle: start at once. Busy: post the next batch a lead before the running one should end."""
        if not gpu.running:
            batch = self._claim(gpu)
            if batch:
                self._start(gpu, batch)
        elif not gpu.ahead and gpu.expected_end - self._now <= LEAD_S:
            gpu.ahead = self._claim(gpu)

    def _claim(self, gpu: _Gpu) -> list[WaitingJob]:
        if not self._jobs:
            return []
        others = [self._view(other) for other in self._gpus.values() if other is not gpu]
        choice = self._choose(self._snapshot(), self._view(gpu), others)
        if choice is None:
            return []
        batch = [self._jobs.pop(job_id) for job_id in choice.job_ids]
        for user, vt in choice.charges.items():
            self._accounts[user] = replace(self._accounts[user], vt=vt)
        for job_id in choice.skipped:
            if job_id in self._jobs:
                self._jobs[job_id] = replace(self._jobs[job_id], skips=self._jobs[job_id].skips + 1)
        self._floor = choice.floor
        self._note_spread()
        return batch

    def _start(self, gpu: _Gpu, batch: list[WaitingJob]) -> None:
        heavy = batch[0].heavy_key
        switch_s = 0.0 if gpu.last_heavy == heavy else MODELS[heavy][2]
        mean_s = switch_s + RATES.batch_s(gpu.name, batch[0], len(batch))
        real_s = mean_s * self._rng.uniform(1 - NOISE, 1 + NOISE)
        is_counted = self._now >= self._warm_up_s
        if is_counted:
            self._outcome.switches += switch_s > 0 and gpu.last_heavy is not None
            self._outcome.busy_s += real_s
            cap = SERVERS[gpu.name][1]
            self._outcome.ideal_s += RATES.batch_s(gpu.name, batch[0], cap) / cap * len(batch)
        gpu.running, gpu.last_heavy, gpu.loaded = batch, heavy, heavy
        gpu.ends_at, gpu.expected_end = self._now + real_s, self._now + mean_s
        self._later(real_s, lambda: self._finish(gpu))
        self._later(max(0.0, mean_s - LEAD_S), lambda: self._feed(gpu))

    def _finish(self, gpu: _Gpu) -> None:
        batch, gpu.running = gpu.running, []
        if gpu.ahead:
            ahead, gpu.ahead = gpu.ahead, []
            self._start(gpu, ahead)
        for job in batch:
            self._note_done(job)
            self._later(self._pause() if self._community.think_s else 0.0, lambda user=job.user_id: self._ask(user))  # type: ignore[misc]
        self._feed(gpu)

    def _note_done(self, job: WaitingJob) -> None:
        asked = self._asked.pop(job.id)
        actual = self._now - asked
        if asked >= self._warm_up_s:
            self._outcome.waits[job.user_id].append(actual)
            self._outcome.service[job.user_id] += job.cost_s
            self._outcome.jobs += 1
        told = self._told.pop(job.id, None)
        if told is not None:
            self._calibration.add(told[0], actual)
            if asked >= self._warm_up_s:
                self._outcome.forecasts.append((told[1], told[2], actual))

    def _note_spread(self) -> None:
        levels = [self._accounts[user].vt for user in {job.user_id for job in self._jobs.values()}]
        if levels and self._now >= self._warm_up_s:
            self._outcome.spread = max(self._outcome.spread, (max(levels) - min(levels)) / C_MAX)

    def _snapshot(self) -> QueueSnapshot:
        users = {job.user_id for job in self._jobs.values()}
        jobs = tuple(sorted(self._jobs.values(), key=lambda job: job.seq))
        return QueueSnapshot(jobs=jobs, accounts={user: self._accounts[user] for user in users}, floor=self._floor)

    def _view(self, gpu: _Gpu) -> ServerView:
        free_in_s = max(0.0, gpu.expected_end - self._now) if gpu.running else 0.0
        if gpu.ahead:
            free_in_s += RATES.batch_s(gpu.name, gpu.ahead[0], len(gpu.ahead))
        return ServerView(name=gpu.name, loaded=gpu.ahead[0].heavy_key if gpu.ahead else gpu.loaded, free_in_s=free_in_s)

    def _later(self, seconds: float, act: Callable[[], None]) -> None:
        self._tick += 1
        heapq.heappush(self._events, (self._now + seconds, self._tick, act))


# --- the policies ---------------------------------------------------------------------------------------------------------


def ours(snapshot: QueueSnapshot, server: ServerView, others: Sequence[ServerView]) -> Pick | None:
    """The real scheduler."""
    return pick(snapshot, server, others, RATES, Policy())


def fifo_same_key(snapshot: QueueSnapshot, server: ServerView, others: Sequence[ServerView]) -> Pick | None:
    """The oldest job, and the next oldest of the same model."""
    return _batch(snapshot, server, [job for job in snapshot.jobs if job.exact_key == snapshot.jobs[0].exact_key])


def strict_round_robin(snapshot: QueueSnapshot, server: ServerView, others: Sequence[ServerView]) -> Pick | None:
    """The least-served person's oldest job; batch mates of its model in the same order."""
    order = sorted(snapshot.jobs, key=lambda job: (snapshot.accounts[job.user_id].vt, job.seq))
    return _batch(snapshot, server, [job for job in order if job.exact_key == order[0].exact_key])


def affinity_first(snapshot: QueueSnapshot, server: ServerView, others: Sequence[ServerView]) -> Pick | None:
    """Whatever fits the loaded model; another only when there is none."""
    warm = [job for job in snapshot.jobs if job.heavy_key == server.loaded]
    jobs = warm or [job for job in snapshot.jobs if job.exact_key == snapshot.jobs[0].exact_key]
    return _batch(snapshot, server, jobs)


POLICIES: dict[str, Chooser] = {
    "FIFO + same-key batches": fifo_same_key,
    "strict round robin": strict_round_robin,
    "affinity first": affinity_first,
    "this scheduler": ours,
}


def _batch(snapshot: QueueSnapshot, server: ServerView, jobs: Sequence[WaitingJob]) -> Pick:
    taken = list(jobs[: SERVERS[server.name][1]])
    charges = {user: account.vt for user, account in snapshot.accounts.items() if any(job.user_id == user for job in taken)}
    for job in taken:
        charges[job.user_id] += job.cost_s
    gone = {job.id for job in taken}
    left = [charges.get(job.user_id, snapshot.accounts[job.user_id].vt) for job in snapshot.jobs if job.id not in gone]
    return Pick(
        job_ids=tuple(job.id for job in taken),
        exact_key=taken[0].exact_key,
        heavy_key=taken[0].heavy_key,
        charges=charges,
        floor=max(snapshot.floor, min(left, default=snapshot.floor)),
    )


def mean_of(outcomes: Sequence[Outcome], measure: Callable[[Outcome], float]) -> float:
    """Over the seeds."""
    return statistics.fmean(measure(outcome) for outcome in outcomes)
