"""Small factories for domain values: every argument has a sensible default, so a test names only what it is about.

Ids count up over the whole run, which keeps them unique without randomness; `FIRST_MOMENT` is when every test begins.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from modules.domain.images import BlobId, Dimensions, Picture, PictureFormat
from modules.domain.jobs import BootId, Job, JobId, JobRequest, JobState, Origin, WorkClass
from modules.domain.people import ChannelId, GuildId, InteractionId, Language, Person, UserId
from modules.domain.queue import Account, QueueSnapshot, WaitingJob
from modules.domain.recipes import Lora, ModelName, Recipe, Seed, WorkflowName
from modules.domain.records import Limits
from modules.domain.servers import RunPhase, RunReport
from modules.domain.sessions import Session

FIRST_MOMENT = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
THE_GUILD = GuildId(900_000_000_000_000_001)
ROOMY = Limits(active_per_person=1_000, queue_length=100_000)

_ids = itertools.count(1_000_000_000_000_000_000)


def a_snowflake() -> int:
    """A Discord id that no other call returned."""
    return next(_ids)


class SteeredClock:
    """A clock that obeys: it stands still until a test moves it. Implements the `Clock` port."""

    def __init__(self, start: datetime = FIRST_MOMENT) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        """Aware UTC wall-clock time."""
        return self._now

    def monotonic(self) -> float:
        """Seconds since the clock was made; `jump` does not touch them."""
        return self._monotonic

    def advance(self, seconds: float) -> datetime:
        """Let time pass; returns the new wall-clock time."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        return self._now

    def jump(self, seconds: float) -> datetime:
        """Set the wall clock forward or back, as NTP or a person may; the monotonic clock goes on untouched."""
        self._now += timedelta(seconds=seconds)
        return self._now


def a_person(
    user_id: int | None = None,
    *,
    display_name: str = "Ana",
    guild_id: GuildId = THE_GUILD,
    language: Language = Language.ENGLISH,
    weight: float = 1.0,
    is_admin: bool = False,
) -> Person:
    """A plain member unless told otherwise."""
    return Person(
        user_id=UserId(a_snowflake() if user_id is None else user_id),
        guild_id=guild_id,
        display_name=display_name,
        language=language,
        weight=weight,
        is_admin=is_admin,
    )


def a_recipe(
    prompt: str = "a lighthouse at dusk",
    *,
    workflow: str = "flux_image",
    model: str = "flux",
    negative_prompt: str = "",
    size: Dimensions | None = Dimensions(1024, 1024),  # noqa: B008 - frozen
    seed: int = 7,
    steps: int = 4,
    cfg: float = 1.0,
    guidance: float | None = None,
    sampler: str | None = None,
    scheduler: str | None = None,
    denoise: float = 1.0,
    checkpoint: str | None = None,
    loras: tuple[Lora, ...] = (),
    count: int = 1,
    source: BlobId | None = None,
    reference: BlobId | None = None,
) -> Recipe:
    """One picture of a lighthouse by Flux."""
    return Recipe(
        workflow=WorkflowName(workflow),
        model=ModelName(model),
        prompt=prompt,
        negative_prompt=negative_prompt,
        size=size,
        seed=Seed(seed),
        steps=steps,
        cfg=cfg,
        guidance=guidance,
        sampler=sampler,
        scheduler=scheduler,
        denoise=denoise,
        checkpoint=checkpoint,
        loras=loras,
        count=count,
        source=source,
        reference=reference,
    )


def a_work_class(
    exact_key: str = "flux/1024x1024/4",
    *,
    heavy_key: str = "flux",
    needs: frozenset[str] = frozenset({"class:UnetLoaderGGUF"}),
    is_mergeable: bool = True,
    cost_s: float = 8.0,
) -> WorkClass:
    """Flux at its default size."""
    return WorkClass(exact_key=exact_key, heavy_key=heavy_key, needs=needs, is_mergeable=is_mergeable, cost_s=cost_s)


def a_request(
    person: Person | None = None,
    *,
    recipe: Recipe | None = None,
    work: WorkClass | None = None,
    interaction_id: int | None = None,
    origin: Origin = Origin.IMAGINE,
    channel_id: int = 800_000_000_000_000_001,
    parent_id: JobId | None = None,
) -> JobRequest:
    """What a person asks for: a new interaction each time."""
    return JobRequest(
        interaction_id=InteractionId(a_snowflake() if interaction_id is None else interaction_id),
        person=person or a_person(),
        recipe=recipe or a_recipe(),
        work=work or a_work_class(),
        origin=origin,
        channel_id=ChannelId(channel_id),
        parent_id=parent_id,
    )


def a_job(request: JobRequest | None = None, *, seq: int = 1, state: JobState = JobState.QUEUED) -> Job:
    """The job a store would make of the request; for code that only reads jobs. Stores are the place to get real ones."""
    asked = request or a_request()
    return Job(
        id=a_job_id(),
        seq=seq,
        interaction_id=asked.interaction_id,
        user_id=asked.person.user_id,
        guild_id=asked.person.guild_id,
        display_name=asked.person.display_name,
        language=asked.person.language,
        recipe=asked.recipe,
        work=asked.work,
        origin=asked.origin,
        state=state,
        channel_id=asked.channel_id,
        parent_id=asked.parent_id,
        accepted_at=FIRST_MOMENT,
    )


def a_job_id() -> JobId:
    """A new job id."""
    return JobId(uuid4())


def a_boot_id() -> BootId:
    """A new start of a program."""
    return BootId(uuid4())


def a_picture(seed: int = 1, *, side_px: int = 8) -> Picture:
    """A real, decodable PNG of one colour that depends on the seed; needs no Pillow."""
    colour = bytes((seed % 256, seed // 256 % 256, seed // 65_536 % 256))
    rows = (b"\0" + colour * side_px) * side_px
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    body = b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return Picture(data=b"\x89PNG\r\n\x1a\n" + body, format=PictureFormat.PNG, size=Dimensions(side_px, side_px))


def a_report(*, worked_s: float = 8.0, started_at: datetime = FIRST_MOMENT, phase: RunPhase = RunPhase.SUCCEEDED) -> RunReport:
    """A prompt that went well."""
    return RunReport(phase=phase, started_at=started_at, ended_at=started_at + timedelta(seconds=worked_s))


def a_session(person: Person | None = None, *, channel_id: int | None = None, last_active_at: datetime = FIRST_MOMENT) -> Session:
    """A private channel of its own."""
    owner = person or a_person()
    return Session(
        user_id=owner.user_id,
        guild_id=owner.guild_id,
        channel_id=ChannelId(a_snowflake() if channel_id is None else channel_id),
        last_active_at=last_active_at,
    )


def a_waiting_job(
    user_id: int,
    *,
    seq: int,
    exact_key: str = "flux/1024x1024/4",
    heavy_key: str = "flux",
    cost_s: float = 8.0,
    rows: int = 1,
    is_mergeable: bool = True,
    skips: int = 0,
    runs_alone: bool = False,
) -> WaitingJob:
    """A queued job as the scheduler sees it."""
    return WaitingJob(
        id=a_job_id(),
        user_id=UserId(user_id),
        seq=seq,
        exact_key=exact_key,
        heavy_key=heavy_key,
        cost_s=cost_s,
        rows=rows,
        is_mergeable=is_mergeable,
        skips=skips,
        runs_alone=runs_alone,
    )


def a_snapshot(*jobs: WaitingJob, vt: dict[int, float] | None = None, floor: float = 0.0) -> QueueSnapshot:
    """A queue of these jobs; everyone's `vt` is 0 unless given."""
    served = vt or {}
    people = {job.user_id for job in jobs}
    return QueueSnapshot(
        jobs=tuple(sorted(jobs, key=lambda job: job.seq)),
        accounts={user_id: Account(user_id=user_id, vt=served.get(user_id, 0.0)) for user_id in people},
        floor=floor,
    )
