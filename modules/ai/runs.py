"""One prompt under way: what the frames of the socket mean for its slots, and a letter box for whoever follows it."""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import assert_never

from modules.ai import reports, wire
from modules.ai.frames import (
    Executed,
    Executing,
    ExecutionCached,
    ExecutionError,
    ExecutionInterrupted,
    ExecutionStart,
    ExecutionSuccess,
    Frame,
    Preview,
    Progress,
    ProgressState,
    Status,
)
from modules.ai.job_steps import JobSteps
from modules.ai.workflows.plan import BuiltWorkflow
from modules.domain.errors import ErrorCode
from modules.domain.jobs import Attempt
from modules.domain.servers import RunEnded, RunFailure, RunPhase, RunProgressed, RunReport, RunStarted, SlotSaved


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPreview:
    """A preview as it came; made small by whoever takes it out."""

    slot: int
    image: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LookNow:
    """The prompt is over, but how was missed: ask the server."""


Note = RunStarted | RunProgressed | RawPreview | SlotSaved | RunEnded | LookNow


class RunTracker:
    """Reads the frames of one prompt, in the order they came. Pure: no waiting, no I/O."""

    def __init__(self, attempt: Attempt, built: BuiltWorkflow) -> None:
        self._built = built
        self._job_steps = JobSteps(built, {slot.index: slot.job_id for slot in attempt.slots})
        self._guilty = reports.guilt_in(attempt, built)
        self._loaders = {name for name, node in built.graph.items() if "Loader" in str(node.get("class_type"))}
        self._saved: set[int] = set()
        self._steps: dict[str, int] = {}
        self._node: str | None = None
        self.started_at: datetime | None = None
        self._outcome: RunReport | None = None
        self.has_started = False
        self.has_ended = False
        #: Whether no loader had to run: the model was still in memory. None until the server said so, at the start.
        self.was_warm: bool | None = None
        #: How many were read: a socket that is open while this stands still tells nothing.
        self.frames = 0
        #: Slots that the server refused while it took the rest.
        self.fallen: frozenset[int] = frozenset()

    def read(self, frame: Frame) -> Iterator[Note]:
        """What this frame says; the caller has checked that it belongs to this prompt."""
        self.frames += 1
        match frame:
            case ExecutionStart():
                self.started_at = wire.instant(frame.timestamp)
                yield from self._start()
            case Executing():
                yield from self._execute(frame)
            case ProgressState():
                self._note_steps(frame)
            case Progress():
                yield from self._progress(frame)
            case Executed():
                yield from self._save(frame.display_node or frame.node)
            case Preview():
                yield from self._preview(frame)
            case ExecutionSuccess() | ExecutionError() | ExecutionInterrupted():
                self._outcome = self._report(frame)
            case ExecutionCached():
                self._job_steps.skip(frame.nodes)
                self.was_warm = self._loaders <= set(frame.nodes)
            case Status():
                pass
            case _:
                assert_never(frame)

    def end(self, report: RunReport) -> RunEnded:
        """The last note, however it was learnt. Slots that never ran are told as a failure of their own."""
        self.has_ended = True
        if report.phase is RunPhase.SUCCEEDED and self.fallen:
            failure = RunFailure(code=ErrorCode.SERVER_REJECTED, slots=self.fallen)
            report = RunReport(phase=report.phase, started_at=report.started_at, ended_at=report.ended_at, failure=failure)
        return RunEnded(report=report)

    def _start(self) -> Iterator[Note]:
        if not self.has_started:
            self.has_started = True
            yield RunStarted()

    def _execute(self, frame: Executing) -> Iterator[Note]:
        """`node: null` is the only frame after which a prompt is over for sure."""
        self._node = frame.display_node or frame.node
        if not frame.is_end:
            yield from self._start()
        elif self._outcome is None:
            yield LookNow()
        else:
            yield self.end(self._outcome)

    def _note_steps(self, frame: ProgressState) -> None:
        for name, node in frame.nodes.items():
            self._steps[node.display_node_id or name] = int(node.value)

    def _progress(self, frame: Progress) -> Iterator[Note]:
        node, step = frame.node or "", int(frame.value)
        self._steps[node] = step
        yield from self._job_steps.note(node, step, int(frame.max))

    def _save(self, node: str) -> Iterator[Note]:
        for slot in self._built.save_nodes.get(node, ()):
            if slot not in self._saved:
                self._saved.add(slot)
                yield SlotSaved(slot=slot)

    def _preview(self, frame: Preview) -> Iterator[Note]:
        """Event 4 names its node; event 1 is of the node under way."""
        slot = self._slot_shown(frame.node or self._node or "")
        if slot is not None:
            yield RawPreview(slot=slot, image=frame.image)

    def _slot_shown(self, node: str) -> int | None:
        """None whenever it is not certain: somebody else's picture must never be shown."""
        rows = self._built.preview_rows.get(node)
        if rows is not None:
            step = self._steps.get(node, 0)
            # The pack's rule (PROTOCOL.md): the step counter, told before the frame, decides which row the frame shows.
            return rows[(step - 1) % len(rows)] if step >= 1 else None
        slots = self._built.slot_of_node.get(node, ())
        return slots[0] if len(slots) == 1 else None

    def _report(self, frame: ExecutionSuccess | ExecutionError | ExecutionInterrupted) -> RunReport:
        failure = reports.failure_from(frame, self._guilty) if isinstance(frame, ExecutionError) else None
        phases = {ExecutionSuccess: RunPhase.SUCCEEDED, ExecutionError: RunPhase.FAILED}
        return RunReport(
            phase=phases.get(type(frame), RunPhase.INTERRUPTED),
            started_at=self.started_at,
            ended_at=wire.instant(frame.timestamp),
            failure=failure,
        )


class Run:
    """A prompt of ours on one server. Bounded: of progress and previews only the newest is kept for a slow reader."""

    def __init__(self, attempt: Attempt, built: BuiltWorkflow, *, client_id: str | None) -> None:
        """`client_id`: whose socket its frames go to; None when it was posted by an earlier start of ours."""
        self.attempt = attempt
        self.built = built
        self.client_id = client_id
        #: Whether the server may have it in its queue: from just before the POST until it is refused.
        self.may_be_queued = client_id is None
        self.tracker = RunTracker(attempt, built)
        self.guilty = reports.guilt_in(attempt, built)
        self._letters: dict[Hashable, Note] = {}
        self._bell = asyncio.Event()

    def feed(self, frame: Frame) -> None:
        """A frame of this prompt arrived."""
        for note in self.tracker.read(frame):
            self._letters[_kind_of(note)] = note
            self._bell.set()

    def wake(self) -> None:
        """Something changed that the follower should look at: the socket is gone, say."""
        self._bell.set()

    def end(self, report: RunReport) -> None:
        """It is over by our own doing (taken back, cancelled while it waited): that leaves no trace on the server."""
        if not self.tracker.has_ended:
            note = self.tracker.end(report)
            self._letters[_kind_of(note)] = note
            self._bell.set()

    def take(self) -> list[Note]:
        """Everything new, in order."""
        self._bell.clear()
        letters, self._letters = list(self._letters.values()), {}
        return letters

    async def wait(self, timeout_s: float) -> None:
        """Until there is something new, at most this long."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._bell.wait()
        except TimeoutError:
            pass


def _kind_of(note: Note) -> Hashable:
    """Notes of one kind replace each other."""
    match note:
        case RunProgressed():
            return RunProgressed, note.job_ids
        case RawPreview():
            return RawPreview, note.slot
        case SlotSaved():
            return SlotSaved, note.slot
        case RunStarted() | RunEnded() | LookNow():
            return type(note).__name__
        case _:
            assert_never(note)
