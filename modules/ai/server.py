"""One ComfyUI behind the `ImageServer` port: the client, the socket and the planner put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

import structlog

from modules.ai import reports, wire
from modules.ai.client import HEALTH_TIMEOUT_S, HEALTH_TRIES, MAX_FILE_BYTES, TRIES, ComfyClient, NotConnectedError
from modules.ai.fleet import ServerSpec
from modules.ai.follower import Follower, Patience, Sources
from modules.ai.listing import Listings, ServerListing
from modules.ai.node_pack import find_pack
from modules.ai.probing import ServerProbe
from modules.ai.provenance import recipe_text
from modules.ai.runs import Run
from modules.ai.server_files import ServerFiles
from modules.ai.socket import EventSocket
from modules.ai.workflows.plan import BuiltWorkflow, InputPicture, MergeForm, WorkflowPlanner
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.images import BlobId, Picture
from modules.domain.jobs import Attempt, AttemptId, ServerName, Slot, WorkClass
from modules.domain.ports import Clock
from modules.domain.servers import BodyKind, RunEnded, RunEvent, RunPhase, RunReport, ServerAnswerError, ServerFacts
from modules.utils.images import PictureWorkshop

#: Folder for input pictures on the server. LoadImage's public list shows only the top folder, so it stays clean and private.
UPLOAD_FOLDER = "fullet"
#: Where we note the form in `extra_data`, so that a later start of ours can read a graph it did not build.
_FORM_KEY = "fullet_form"
#: Attempts remembered at most; one runs and one waits, the rest is what nobody said `forget` for.
_MAX_RUNS = 64
#: After these a POST may have been accepted although no good answer came.
_ANSWER_LOST = frozenset({ErrorCode.SERVER_UNREACHABLE, ErrorCode.SERVER_NOT_COMFYUI, ErrorCode.SERVER_BROKEN})
_SECOND_LOOK_S = 0.5

log = structlog.get_logger(__name__)


class InputPictures(Protocol):
    """Of the `BlobStore`, what a server needs."""

    async def get(self, blob_id: BlobId) -> Picture | None:
        """None when it is gone."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Abilities:
    """Routes that not every version has; None until tried. Found out by use, forgotten at refresh (it may be another version)."""

    jobs: bool | None = None
    cancel: bool | None = None


class ComfyServer:
    """Implements `ImageServer`; open it with `async with`, which also keeps its socket connected."""

    def __init__(
        self,
        spec: ServerSpec,
        *,
        planner: WorkflowPlanner,
        blobs: InputPictures,
        listings: Listings,
        workshop: PictureWorkshop,
        clock: Clock,
        patience: Patience | None = None,
    ) -> None:
        self._spec = spec
        self._planner = planner
        self._blobs = blobs
        self._listings = listings
        self._workshop = workshop
        self._clock = clock
        self._patience = patience or Patience()
        self._client = ComfyClient(spec.url, key=spec.key)
        self._socket = EventSocket(self._client)
        #: What we left on its disk.
        self.files = ServerFiles(self._client)
        #: A closer look at it, for the doctor.
        self.probe = ServerProbe(spec.url, key=spec.key)
        self._runs: dict[AttemptId, Run] = {}
        self._facts: ServerFacts | None = None
        self._can = _Abilities()
        self._connections_read = 0  #: how often the socket had connected when everything was last read
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        self._listening = asyncio.create_task(self._socket.run(), name=f"socket of {self.name}")
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.wait([self._listening])
        await self._client.__aexit__(kind, error, trace)

    # --- what it is -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> ServerName:
        """`host:port`."""
        return self._spec.name

    @property
    def facts(self) -> ServerFacts | None:
        """As last read."""
        return self._facts

    def missing(self, work: WorkClass) -> tuple[str, ...]:
        """What it lacks; everything, before it was first met."""
        listing = self._listings.of(self.name)
        return tuple(sorted(work.needs)) if listing is None else listing.missing(work.needs)

    def max_jobs(self, work: WorkClass) -> int:
        """As the planner says; 1 before it was first met."""
        return 1 if self._facts is None else max(1, self._planner.max_jobs(work, self._facts))

    async def refresh(self) -> ServerFacts:
        """Read everything anew, and have the socket connect now if it is not."""
        stats = await self._client.system_stats()
        body = await self._client.object_info()
        listing = await asyncio.to_thread(ServerListing.from_object_info, body)
        pack = find_pack(listing, body)
        device = stats.devices[0] if stats.devices else wire.Device()
        await self._listings.take_in(self.name, listing)
        self._can = _Abilities()
        self._facts = ServerFacts(
            name=self.name,
            version=stats.system.comfyui_version,
            device=device.name,
            vram_bytes=device.vram_total if self._spec.vram_bytes is None else self._spec.vram_bytes,
            capability=pack.capability,
            pack_version=pack.version,
            has_wrong_pack=pack.is_wrong,
        )
        self._socket.nudge()
        await self._socket.wait_live(self._patience.socket_s)
        self._connections_read = self._socket.connections
        return self._facts

    @property
    def is_changed(self) -> bool:
        """A restart breaks the socket; so does a tunnel, and then everything is read once too often."""
        return self._socket.connections != self._connections_read

    @property
    def foreign_prompts(self) -> int:
        """What it says that its queue holds, less what we know to be ours: too few for a moment rather than too many."""
        ours = sum(run.may_be_queued and not run.tracker.has_ended for run in self._runs.values())
        return max(0, self._socket.queue_remaining - ours)

    async def check(self) -> None:
        """Its statistics, or all of it."""
        if self.is_changed:
            await self.refresh()
        else:
            await self._client.system_stats()

    async def is_well(self) -> bool:
        """Its statistics, asked for twice at most and not for long: people wait for what follows from it."""
        try:
            await self._client.system_stats(tries=HEALTH_TRIES, timeout_s=HEALTH_TIMEOUT_S)
        except FulletError:
            return False
        return True

    # --- posting --------------------------------------------------------------------------------------------------------

    async def post(self, attempt: Attempt, *, alone: bool = False) -> None:
        """Upload, build, submit. Raises also PICTURE_GONE (`guilty`) when an input picture is no longer there."""
        facts = self._facts or await self.refresh()
        async with self.files.in_use():
            uploads = await self._upload_inputs(attempt)
            built = self._planner.build(attempt, facts, uploads=uploads, form=MergeForm.SOLO if alone else None)
            await self._submit(self._keep(Run(attempt, built, client_id=self._socket.client_id)))

    async def _submit(self, run: Run) -> None:
        prompt_id, run.may_be_queued = str(run.attempt.id), True
        try:
            answer = await self._client.post_prompt(
                run.built.graph,
                prompt_id=prompt_id,
                client_id=run.client_id or self._socket.client_id,
                extra_data={"preview_method": _preview_method(run.built), _FORM_KEY: run.built.form.value},
            )
        except NotConnectedError:
            run.may_be_queued = False
            raise
        except FulletError as error:
            if error.code not in _ANSWER_LOST or not await self._has_arrived(run):
                raise
            log.info("lost_answer_recovered", server=self.name, attempt=prompt_id)
            return
        if isinstance(answer, wire.PromptRejected):
            run.may_be_queued = False
            raise reports.rejection(answer, run.guilty)
        run.tracker.fallen = reports.fallen_slots(answer.node_errors, run.built.save_nodes)
        if run.tracker.fallen:
            log.warning("slots_refused", server=self.name, attempt=prompt_id, slots=sorted(run.tracker.fallen))

    async def _has_arrived(self, run: Run) -> bool:
        """After a lost answer: look the id up, twice, then for its files (it may be over, and its history gone)."""
        for wait_s in (0.0, _SECOND_LOOK_S):
            await asyncio.sleep(wait_s)
            if (await self.report(run.attempt.id)).phase is not RunPhase.UNKNOWN:
                return True
        return await self._client.has_file(run.built.file_of_slot[0])

    async def _upload_inputs(self, attempt: Attempt) -> dict[InputPicture, str]:
        """Every input picture once, under its own name; the names the server gave them."""
        uploads: dict[InputPicture, str] = {}
        for slot in attempt.slots:
            job = next(job for job in attempt.jobs if job.id == slot.job_id)
            for wanted in self._planner.input_pictures(job):
                if wanted not in uploads:
                    uploads[wanted] = await self._upload(wanted, slot)
        return uploads

    async def _upload(self, wanted: InputPicture, slot: Slot) -> str:
        stored = await self._blobs.get(wanted.blob_id)
        if stored is None:
            raise FulletError(ErrorCode.PICTURE_GONE, guilty=slot.index)
        picture = stored if wanted.with_transparency else await self._workshop.flatten(stored)
        form = "" if picture is stored else "-flat"  # two forms of a picture are two files
        name = f"{wanted.blob_id}{form}.{picture.format.extension}"
        try:
            answer = await self._client.upload(
                picture.data, name=name, folder=UPLOAD_FOLDER, media_type=picture.format.media_type
            )
        except ServerAnswerError as error:
            raise ServerAnswerError(error.code, error.answer, guilty=slot.index) from error
        return answer.reference

    # --- following ------------------------------------------------------------------------------------------------------

    async def follow(self, attempt: Attempt) -> AsyncGenerator[RunEvent, None]:
        """Events until RunEnded. Raises also SERVER_BROKEN when prompts wait and nothing runs: its worker thread is dead.

        A SUCCEEDED report may carry a failure: its slots were refused while the others were drawn.
        """
        run = await self._run_to_follow(attempt)
        sources = Sources(
            report=lambda: self._report(attempt.id, tries=1),  # whoever polls tries again by itself
            queue=lambda: self._client.queue(tries=1),
            socket=self._socket,
            clock=self._clock,
            workshop=self._workshop,
        )
        async with aclosing(Follower(run, sources, self._patience).events()) as events:
            async for event in events:
                if isinstance(event, RunEnded):
                    self._learn_from(run, event.report)
                    yield RunEnded(report=replace(event.report, found_loaded=run.tracker.was_warm))
                else:
                    yield event

    async def _run_to_follow(self, attempt: Attempt) -> Run:
        """Bad answers are borne for as long as while polling: a proxy that stumbles says nothing of the prompt."""
        give_up_at = self._clock.monotonic() + self._patience.unreachable_s
        while True:
            try:
                return await self._run_of(attempt)
            except ServerAnswerError as error:
                if error.answer.status is None or self._clock.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(self._patience.poll_blind_s)

    def _learn_from(self, run: Run, report: RunReport) -> None:
        """Merge gains are measured on clean runs that found their model in memory."""
        if report.phase is RunPhase.SUCCEEDED and report.failure is None and report.worked_s and run.tracker.was_warm:
            self._planner.note_run(run.attempt, run.built.form, report.worked_s)

    async def report(self, attempt_id: AttemptId) -> RunReport:
        """Asked of `/api/jobs` where there is one, else of the queue and *then* the history."""
        report = await self._report(attempt_id)
        run = self._runs.get(attempt_id)
        if report.phase is RunPhase.RUNNING and run is not None:
            return replace(report, started_at=run.tracker.started_at)  # only the socket tells it before the end
        return report

    async def _report(self, attempt_id: AttemptId, *, tries: int = TRIES) -> RunReport:
        prompt_id, run = str(attempt_id), self._runs.get(attempt_id)
        guilty = run.guilty if run else reports.nobody
        if self._can.jobs is not False:
            job = await self._client.job(prompt_id, tries=tries)
            self._can = _Abilities(jobs=job is not False, cancel=self._can.cancel)
            if isinstance(job, wire.JobInfo):
                return reports.from_job(job, guilty)
            if job:
                return reports.UNKNOWN
        waiting = reports.from_queue(await self._client.queue(tries=tries), prompt_id)
        return waiting or reports.from_history(await self._client.history(prompt_id, tries=tries), guilty)

    # --- pictures -------------------------------------------------------------------------------------------------------

    async def fetch(self, attempt: Attempt, slots: Collection[int]) -> Mapping[int, Picture]:
        """By file name, so also after a restart wiped queue and history. Broken and missing ones are left out."""
        try:
            run = await self._run_of(attempt)
        except FulletError as error:
            if error.code is not ErrorCode.TEMPLATE_INVALID:
                raise
            log.warning("outputs_not_looked_for", server=self.name, attempt=str(attempt.id), **error.params)
            return {}
        wanted = [slot for slot in attempt.slots if slot.index in slots]
        found = await asyncio.gather(*(self._fetch_slot(run, slot) for slot in wanted), return_exceptions=True)
        pictures: dict[int, Picture] = {}
        for slot, outcome in zip(wanted, found, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            if outcome is not None:
                pictures[slot.index] = outcome
        return pictures

    async def _fetch_slot(self, run: Run, slot: Slot) -> Picture | None:
        job = next(job for job in run.attempt.jobs if job.id == slot.job_id)
        note = log.bind(server=self.name, attempt=str(run.attempt.id), slot=slot.index)
        try:
            data = await self._client.view(run.built.file_of_slot[slot.index])
            if data is None:
                note.info("output_missing")
                return None
            picture = await self._workshop.finish_output(data, recipe=recipe_text(job.recipe, slot))
        except FulletError as error:
            if _is_too_large(error):
                note.warning("output_too_large", limit_bytes=MAX_FILE_BYTES, code=error.code.value)
                raise FulletError(ErrorCode.OUTPUT_TOO_LARGE) from error
            if isinstance(error, ServerAnswerError):
                raise
            note.warning("output_broken", code=error.code.value)
            return None
        expected = run.built.expected_size.get(slot.index)
        if expected is not None and picture.size != expected:  # a grid of the model's, say: it is whole, and it is theirs
            note.info("output_size_unexpected", size=str(picture.size), expected=str(expected))
        return picture

    # --- stopping -------------------------------------------------------------------------------------------------------

    async def cancel(self, attempt_id: AttemptId) -> None:
        """By id, under the server's own lock where it has the route."""
        prompt_id = str(attempt_id)
        if self._can.cancel is not False:
            answer = await self._client.cancel_job(prompt_id)
            self._can = _Abilities(jobs=self._can.jobs, cancel=answer is not None)
        if self._can.cancel is False:
            await self._cancel_the_old_way(prompt_id)
        await self._end_if_gone(attempt_id)

    async def _cancel_the_old_way(self, prompt_id: str) -> None:
        """Old servers ignore the id of an interrupt: only ask for it while ours is the one that runs."""
        await self._client.delete_pending(prompt_id)
        if (await self._client.queue()).is_running(prompt_id):
            await self._client.interrupt(prompt_id)

    async def take_back(self, attempt_id: AttemptId) -> bool:
        """Deleting has no effect on a running prompt, so what is unknown afterwards was taken back (or never arrived)."""
        await self._client.delete_pending(str(attempt_id))
        return await self._end_if_gone(attempt_id)

    async def _end_if_gone(self, attempt_id: AttemptId) -> bool:
        """A prompt deleted while it waited leaves no trace: its follower has to be told by us."""
        is_gone = (await self.report(attempt_id)).phase is RunPhase.UNKNOWN
        if is_gone and (run := self._runs.get(attempt_id)) is not None:
            run.end(RunReport(phase=RunPhase.INTERRUPTED))
        return is_gone

    async def forget(self, attempt_id: AttemptId) -> None:
        """Also frees what we remember of it."""
        self._drop(attempt_id)
        await self._client.delete_history(str(attempt_id))

    async def free_memory(self) -> None:
        """Acts between prompts."""
        await self._client.free()

    # --- runs -----------------------------------------------------------------------------------------------------------

    async def _run_of(self, attempt: Attempt) -> Run:
        """As posted, or, for an attempt of an earlier start, rebuilt: same attempt and form, same nodes and files."""
        known = self._runs.get(attempt.id)
        if known is not None:
            return known
        facts = self._facts or await self.refresh()
        pictures = (picture for job in attempt.jobs for picture in self._planner.input_pictures(job))
        uploads = {picture: f"{UPLOAD_FOLDER}/{picture.blob_id}.png" for picture in pictures}
        form = await self._posted_form(str(attempt.id))
        return self._keep(Run(attempt, self._planner.build(attempt, facts, uploads=uploads, form=form), client_id=None))

    async def _posted_form(self, prompt_id: str) -> MergeForm | None:
        """What the server was told at the time; None when it no longer knows the prompt."""
        queue = await self._client.queue()
        entries = [item for item in (*queue.queue_running, *queue.queue_pending) if item.prompt_id == prompt_id]
        if not entries and (past := await self._client.history(prompt_id)) is not None and past.prompt is not None:
            entries = [past.prompt]
        noted = entries[0].extra_data.get(_FORM_KEY) if entries else None
        return next((form for form in MergeForm if form.value == noted), None)

    def _keep(self, run: Run) -> Run:
        while len(self._runs) >= _MAX_RUNS:
            self._drop(next(iter(self._runs)))
        self._runs[run.attempt.id] = run
        if run.client_id is not None:
            self._socket.listen(str(run.attempt.id), run)
        return run

    def _drop(self, attempt_id: AttemptId) -> None:
        self._runs.pop(attempt_id, None)
        self._socket.ignore(str(attempt_id))


def _is_too_large(error: FulletError) -> bool:
    """Over our limit of bytes or of pixels."""
    if isinstance(error, ServerAnswerError):
        return error.answer.body is BodyKind.TOO_LARGE
    return error.code is ErrorCode.PICTURE_TOO_MANY_PIXELS


def _preview_method(built: BuiltWorkflow) -> str:
    """No previews from a shared sampler whose rows cannot be told apart: they would show one person's picture to another."""
    return "none" if built.form is MergeForm.BATCHED and not built.preview_rows else "auto"
