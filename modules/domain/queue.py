"""What the scheduler sees of the queue, and what it answers. Plain values; the stores read and write them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """One queued job, as far as scheduling cares."""

    id: JobId
    user_id: UserId
    seq: int
    exact_key: str
    heavy_key: str
    cost_s: float  #: reference GPU-seconds of the whole job
    rows: int  #: pictures it asks for
    is_mergeable: bool = True
    skips: int = 0  #: newer jobs of the same person that went first
    runs_alone: bool = False  #: a poison suspect: never merged with others


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A person's account of service: `vt` is normalised GPU-seconds divided by weight, and never falls but by a refund."""

    user_id: UserId
    vt: float
    weight: float = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueSnapshot:
    """Everything a decision needs, read inside the claim's transaction."""

    jobs: tuple[WaitingJob, ...]  #: ascending `seq`; only what the asking server may run, when the store was told so
    accounts: Mapping[UserId, Account]  #: of everyone in `jobs`
    floor: float = 0.0  #: V: the highest `min vt of the waiting` ever seen


@dataclass(frozen=True, slots=True, kw_only=True)
class Pick:
    """A decision: these jobs, in this order, as one batch. `None` instead of a Pick means "nothing for this server now"."""

    job_ids: tuple[JobId, ...]
    exact_key: str
    heavy_key: str
    charges: Mapping[UserId, float]  #: new `vt` of everyone served
    skipped: tuple[JobId, ...] = ()  #: older jobs of the same people that were passed over: `skips += 1`
    floor: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a waiting job stands, from a run of the real scheduler forward."""

    position: int  #: 1 = in the next batch; counts batches dispatched before it, over all servers
    starts_at: datetime | None  #: None: no server can run it now (paused, all away)
    ends_at: datetime | None  #: the likely moment (calibrated median)
    ends_by: datetime | None = None  #: nine times out of ten it is there by then
    is_paused: bool = False
    #: No moment can be told, though not all servers are away: some were not asked yet, are out of service, or cannot do it.
    is_moment_open: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """One server as an operator sees it."""

    name: ServerName
    state: str  #: `healthy`, `away`, `drained`, `starting`, or `failing`: it is there, and fails everybody's jobs
    since: datetime
    version: str = ""
    merge_protocol: str = "none"
    loaded: str | None = None
    running: tuple[JobId, ...] = ()
    ahead: tuple[JobId, ...] = ()
    pictures_per_minute: float = 0.0
    last_error: str | None = None  #: an ErrorCode, never foreign text
    caps: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueStatus:
    """The whole house at one moment."""

    servers: tuple[ServerStatus, ...]
    waiting: int
    running: int
    longest_wait_s: float
    is_paused: bool
    fairness_spread_s: float = 0.0
