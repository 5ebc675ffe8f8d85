"""A fleet in virtual time around the pure decision: servers that overrun, hang, refuse, lack files, go away or serve others."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from modules.domain.jobs import JobId, ServerName
from modules.domain.queue import WaitingJob
from modules.queue_manager.forecast import Forecast, forecast
from modules.queue_manager.promises import Promises
from modules.queue_manager.remaining import foreign_s, remaining_s
from modules.queue_manager.scheduler import Policy, ServerView, pick
from tests.support.queue_model import ModelQueue, TableRates

#: How often every worker looks (Intervals.poll_s).
TICK_S = 1.0
NEVER = float("inf")


@dataclass(slots=True, kw_only=True)
class ModelServer:
    """One server: what is so, and what the program knows of it."""

    name: ServerName
    loaded: str | None = None
    is_up: bool = True
    refused: frozenset[JobId] = frozenset()
    #: How many times as long as expected each of its runs takes; NEVER: it hangs.
    overrun: float = 1.0
    #: Somebody else's prompts, and until when they hold it. They go first.
    foreign: int = 0
    foreign_until: float = 0.0
    running: list[WaitingJob] = field(default_factory=list)
    due_at: float = 0.0  #: as expected
    ends_at: float = 0.0  #: as it will be

    @property
    def is_idle(self) -> bool:
        """Nothing of ours is there."""
        return not self.running

    def view(self, now: float) -> ServerView:
        """As the program sees it."""
        free_in_s = foreign_s(self.foreign, now) if self.foreign else 0.0  # they have been there from the beginning
        if self.running:
            free_in_s += remaining_s(self.due_at - now)
        return ServerView(name=self.name, loaded=self.loaded, free_in_s=free_in_s, refused=self.refused)


class FleetModel:
    """Ask every server every second; note who took what and when."""

    def __init__(self, queue: ModelQueue, servers: Sequence[ModelServer], rates: TableRates, policy: Policy) -> None:
        self.queue = queue
        self.servers = servers
        self.rates = rates
        self.policy = policy
        self.now = 0.0
        self.dispatched_at = 0.0  #: when the last batch was
        self._promises = Promises()
        self.taken: dict[JobId, tuple[float, ServerName]] = {}

    def tick(self) -> None:
        """A second passes: runs end, and every server that has nothing of ours looks for work."""
        self.now += TICK_S
        for server in self.servers:
            if server.foreign and self.now >= server.foreign_until:
                server.foreign = 0
            if server.running and self.now >= server.ends_at:
                server.running = []
        for server in self.servers:
            if server.is_up and server.is_idle:
                self._ask(server)

    def _ask(self, server: ModelServer) -> None:
        others = [one.view(self.now) for one in self.servers if one is not server and one.is_up]
        choice = pick(self.queue.snapshot(), server.view(self.now), others, self.rates, self.policy)
        if choice is None:
            return
        batch = self.queue.apply(choice)
        loading_s = 0.0 if server.loaded == choice.heavy_key else self.rates.switch_s(server.name, choice.heavy_key)
        expected_s = loading_s + self.rates.batch_s(server.name, batch[0], sum(job.rows for job in batch))
        begins_at = max(self.now, server.foreign_until if server.foreign else 0.0)
        server.running, server.loaded = batch, choice.heavy_key
        server.due_at, server.ends_at = self.now + expected_s, begins_at + expected_s * server.overrun
        self.dispatched_at = self.now
        self.taken |= {job.id: (self.now, server.name) for job in batch}

    def is_wanted(self, server: ModelServer) -> bool:
        """Whether something waits that this server would take, and nothing at all holds it up."""
        return (
            server.is_up
            and server.is_idle
            and not server.foreign
            and any(self.would_take(server, job) for job in self.queue.jobs.values())
        )

    def would_take(self, server: ModelServer, job: WaitingJob) -> bool:
        """It has the files, and does not leave this job to others."""
        return job.id not in server.refused and self.rates.can_run(server.name, job.exact_key)

    def longest_s(self) -> float:
        """H: the most seconds that loading a model and drawing a full batch should take anywhere."""
        return max(
            self.rates.switch_s(server.name, job.heavy_key)
            + self.rates.batch_s(server.name, job, max(job.rows, self.rates.cap(server.name, job.exact_key)))
            for server, job in itertools.product(self.servers, self.queue.jobs.values())
        )

    def told(self) -> Mapping[JobId, Forecast]:
        """What everybody who waits would be told now."""
        views = [server.view(self.now) for server in self.servers if server.is_up]
        found = forecast(self.queue.snapshot(), views, self.rates, self.policy)
        flying = sum(len(server.running) for server in self.servers)
        return self._promises.kept(found, now=self.now, in_flight=flying, servers=[view.name for view in views])
