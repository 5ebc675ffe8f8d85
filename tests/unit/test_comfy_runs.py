"""Recorded WebSocket transcripts, read frame by frame as one of our runs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ai import frames, reports, wire
from modules.ai.frames import (
    Executing,
    ExecutionCached,
    ExecutionError,
    Preview,
    Progress,
    ProgressState,
    Status,
    read_binary,
    read_text,
)
from modules.ai.runs import LookNow, Note, RawPreview, Run, RunTracker
from modules.ai.workflows.plan import BuiltWorkflow, MergeForm
from modules.domain.errors import ErrorCode
from modules.domain.servers import RunEnded, RunPhase, RunProgressed, RunReport, RunStarted, SlotSaved
from tests.support.comfy_recordings import binary, texts, transcripts
from tests.support.comfy_side import a_recipe, an_attempt


def a_workflow(
    *,
    slots: Mapping[str, tuple[int, ...]],
    saves: Mapping[str, tuple[int, ...]],
    rows: Mapping[str, tuple[int, ...]] | None = None,
    steps: Mapping[str, int] | None = None,
    form: MergeForm = MergeForm.SOLO,
) -> BuiltWorkflow:
    return BuiltWorkflow(
        graph={"4": {"class_type": "CheckpointLoaderSimple", "inputs": {}}},
        form=form,
        slot_of_node=slots,
        save_nodes=saves,
        file_of_slot={},
        expected_size={},
        preview_rows=rows or {},
        sampler_steps=steps or {},
    )


SOLO = a_workflow(slots={"3": (0,), "9": (0,)}, saves={"9": (0,)})


def notes_of(name: str, workflow: BuiltWorkflow = SOLO, socket: str | None = None) -> list[Note]:
    tracker = RunTracker(an_attempt(), workflow)
    heard = [frame for text in texts(name, socket) if (frame := read_text(text)) is not None]
    return [note for frame in heard if not isinstance(frame, Status) for note in tracker.read(frame)]


def report_of(notes: list[Note]) -> RunReport:
    last = notes[-1]
    assert isinstance(last, RunEnded)
    return last.report


@pytest.mark.parametrize("name", transcripts())
def test_every_recorded_text_frame_is_known_or_meant_to_be_ignored(name: str) -> None:
    for text in texts(name):
        assert read_text(text) is not None or '"feature_flags"' in text, text


def test_a_success_is_started_progresses_is_saved_and_ends() -> None:
    notes = notes_of("success_sd15_preview_type1")
    assert notes[0] == RunStarted()
    assert [(note.step, note.steps) for note in notes if isinstance(note, RunProgressed)] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert notes[-2] == SlotSaved(slot=0)
    assert report_of(notes).phase is RunPhase.SUCCEEDED
    assert report_of(notes).worked_s == pytest.approx(9.905)


def test_a_run_from_the_cache_is_saved_without_any_step() -> None:
    assert [type(note) for note in notes_of("cached_rerun_identical")] == [RunStarted, SlotSaved, RunEnded]


def test_a_run_is_warm_when_no_loader_had_to_run() -> None:
    for name, is_warm in (("cached_rerun_identical", True), ("success_sd15_preview_type1", False)):
        tracker = RunTracker(an_attempt(), SOLO)
        for text in texts(name):
            frame = read_text(text)
            assert frame is None or list(tracker.read(frame)) is not None
        assert tracker.was_warm is is_warm


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("execution_error_OutOfMemoryError", ErrorCode.OUT_OF_MEMORY),
        ("execution_error_cuda_oom_text", ErrorCode.OUT_OF_MEMORY),
        ("execution_error_big_cpu_alloc", ErrorCode.OUT_OF_MEMORY),
        ("execution_error_RuntimeError", ErrorCode.NODE_FAILED),
        ("execution_error_stock_nodes", ErrorCode.NODE_FAILED),
    ],
)
def test_failures_are_told_apart_by_what_the_queue_does_about_them(name: str, code: ErrorCode) -> None:
    report = report_of(notes_of(name))
    assert report.phase is RunPhase.FAILED
    assert report.failure is not None
    assert report.failure.code is code
    assert report.ended_at is not None


def test_an_interrupt_is_no_failure() -> None:
    report = report_of(notes_of("interrupt_running"))
    assert report.phase is RunPhase.INTERRUPTED
    assert report.failure is None


def test_the_end_without_its_outcome_asks_for_a_look() -> None:
    tracker = RunTracker(an_attempt(), SOLO)
    assert list(tracker.read(Executing(prompt_id="x", node=None))) == [LookNow()]


def test_a_node_that_serves_one_person_names_the_guilty_and_a_shared_one_nobody() -> None:
    attempt = an_attempt(a_recipe(count=2), a_recipe())
    workflow = a_workflow(slots={"a": (0, 1), "b": (2,), "all": (0, 1, 2)}, saves={}, form=MergeForm.STACKED)
    guilty = reports.guilt_in(attempt, workflow)
    assert guilty("a") == {0, 1}
    assert guilty("b") == {2}
    assert guilty("all") == guilty("unheard of") == frozenset()


@pytest.mark.parametrize(
    ("kind", "text", "code"),
    [
        ("RuntimeError", "CUDA error: an illegal memory access was encountered", ErrorCode.GPU_BROKEN),
        ("RuntimeError", "CUDA error: device-side assert triggered", ErrorCode.GPU_BROKEN),
        ("torch.AcceleratorError", "CUDA error: unspecified launch failure", ErrorCode.GPU_BROKEN),
        ("torch.AcceleratorError", "CUDA error: out of memory", ErrorCode.OUT_OF_MEMORY),
        ("torch.cuda.OutOfMemoryError", "Allocation on device", ErrorCode.OUT_OF_MEMORY),
        ("ValueError", "fullet-merge: slot_count: seeds and prompts differ", ErrorCode.NODE_FAILED),
    ],
)
def test_texts_of_exceptions_are_sorted(kind: str, text: str, code: ErrorCode) -> None:
    fault = wire.ExecutionFault(node_id="3", node_type="KSampler", exception_type=kind, exception_message=text)
    failure = reports.failure_from(fault, lambda _node: frozenset({0}))
    assert failure.code is code
    assert failure.slots == (frozenset({0}) if code is ErrorCode.NODE_FAILED else frozenset())


# --- previews -----------------------------------------------------------------------------------------------------------


def test_recorded_binary_frames_are_read() -> None:
    plain, told = read_binary(binary("preview_type1_jpeg.bin")), read_binary(binary("preview_type4_metadata.bin"))
    final = read_binary(binary("websocket_node_type1_png.bin"))
    assert plain is not None
    assert told is not None
    assert final is not None
    assert (plain.prompt_id, plain.node, plain.image[:2]) == (None, None, b"\xff\xd8")
    assert (told.prompt_id, told.node, told.image[:2]) == ("2eec0e76-77e2-4216-80ac-15e0ef1d09d6", "31", b"\xff\xd8")
    assert final.image[:4] == b"\x89PNG"


@given(st.binary(max_size=40) | st.binary(max_size=40).map(lambda tail: b"\0\0\0\4" + tail))
def test_any_bytes_are_read_or_ignored(data: bytes) -> None:
    assert read_binary(data) is None or isinstance(read_binary(data), Preview)


@given(st.integers(0, 85_865))
def test_a_frame_cut_anywhere_never_names_a_wrong_prompt(length: int) -> None:
    cut = read_binary(binary("preview_type4_metadata.bin")[:length])
    assert cut is None or cut.prompt_id == "2eec0e76-77e2-4216-80ac-15e0ef1d09d6"


@given(st.text(max_size=60))
def test_any_text_is_read_or_ignored(text: str) -> None:
    assert read_text(text) is None


def test_progress_texts_are_read() -> None:
    assert frames.read_progress_text(b"\0\0\0\3\0\0\0\x02" + b"31" + b"50 %") == ("31", "50 %")
    assert frames.read_progress_text(binary("preview_type1_jpeg.bin")) is None


def test_a_preview_goes_to_the_slot_whose_sampler_runs() -> None:
    workflow = a_workflow(slots={"s0": (0,), "s1": (1,), "shared": (0, 1)}, saves={}, form=MergeForm.STACKED)
    tracker = RunTracker(an_attempt(a_recipe(), a_recipe()), workflow)
    shown = [tracker.read(Preview(image=b"x", prompt_id="p", node=node)) for node in ("s1", "s0", "shared", "loader")]
    assert [list(notes) for notes in shown] == [[RawPreview(slot=1, image=b"x")], [RawPreview(slot=0, image=b"x")], [], []]


def test_a_preview_without_a_node_belongs_to_the_node_under_way() -> None:
    workflow = a_workflow(slots={"s1": (1,)}, saves={}, form=MergeForm.STACKED)
    tracker = RunTracker(an_attempt(a_recipe(), a_recipe()), workflow)
    assert list(tracker.read(Preview(image=b"x"))) == []
    list(tracker.read(Executing(prompt_id="p", node="s1")))
    assert list(tracker.read(Preview(image=b"x"))) == [RawPreview(slot=1, image=b"x")]


@given(st.integers(1, 16), st.integers(1, 40))
def test_a_shared_pass_shows_row_after_row_by_its_step(slots: int, step: int) -> None:
    order = tuple(reversed(range(slots)))
    workflow = a_workflow(slots={"s": order}, saves={}, rows={"s": order}, form=MergeForm.BATCHED)
    tracker = RunTracker(an_attempt(*[a_recipe()] * slots), workflow)
    assert list(tracker.read(Preview(image=b"x", prompt_id="p", node="s"))) == []  # no step seen: nobody's
    state = ProgressState.model_validate({"prompt_id": "p", "nodes": {"s": {"value": step, "max": 40, "state": "running"}}})
    list(tracker.read(state))
    assert list(tracker.read(Preview(image=b"x", prompt_id="p", node="s"))) == [
        RawPreview(slot=order[(step - 1) % slots], image=b"x")
    ]


def test_progress_tells_everyone_whose_picture_the_sampler_draws() -> None:
    attempt = an_attempt(a_recipe(count=2), a_recipe())
    workflow = a_workflow(slots={"s": (0, 1, 2)}, saves={}, form=MergeForm.BATCHED)
    [note] = RunTracker(attempt, workflow).read(Progress(prompt_id="p", node="s", value=2, max=8))
    assert note == RunProgressed(job_ids=(attempt.jobs[0].id, attempt.jobs[1].id), step=2, steps=8)


def told(tracker: RunTracker, *reported: tuple[str, int, int]) -> list[tuple[int, int]]:
    """What progress is told of what these nodes report."""
    notes = [note for node, step, of in reported for note in tracker.read(Progress(prompt_id="p", node=node, value=step, max=of))]
    return [(note.step, note.steps) for note in notes if isinstance(note, RunProgressed)]


def test_the_samplers_of_one_job_are_counted_as_one_and_nothing_else_of_it() -> None:
    slots: dict[str, tuple[int, ...]] = {"a": (0,), "b": (0,), "tiles": (0,)}
    tracker = RunTracker(an_attempt(), a_workflow(slots=slots, saves={}, steps={"a": 10, "b": 0}))
    reported = (("a", 1, 10), ("a", 10, 10), ("tiles", 1, 4), ("b", 1, 14), ("b", 14, 14))
    assert told(tracker, *reported) == [(1, 10), (10, 10), (11, 24), (24, 24)]


def test_of_pictures_drawn_one_after_the_other_the_steps_add_up_and_each_job_counts_its_own() -> None:
    attempt = an_attempt(a_recipe(count=2), a_recipe())
    slots = {str(slot): (slot,) for slot in range(3)}
    tracker = RunTracker(attempt, a_workflow(slots=slots, saves={}, steps=dict.fromkeys(slots, 8)))
    assert told(tracker, ("0", 8, 8), ("1", 1, 8), ("2", 1, 8)) == [(8, 16), (9, 16), (1, 8)]


def test_what_need_not_run_is_not_waited_for() -> None:
    tracker = RunTracker(an_attempt(), a_workflow(slots={"a": (0,), "b": (0,)}, saves={}, steps={"a": 10, "b": 14}))
    assert list(tracker.read(ExecutionCached(prompt_id="p", nodes=("a",)))) == []
    assert told(tracker, ("b", 1, 14)) == [(1, 14)]


# --- the letter box -----------------------------------------------------------------------------------------------------


def test_a_slow_reader_finds_only_the_newest_progress_and_preview() -> None:
    run = Run(an_attempt(), SOLO, client_id="c")
    for step in range(1, 31):
        run.feed(Progress(prompt_id="p", node="3", value=step, max=30))
        run.feed(Preview(image=bytes([step]), prompt_id="p", node="3"))
    notes = run.take()
    assert [note.step for note in notes if isinstance(note, RunProgressed)] == [30]
    assert [note.image for note in notes if isinstance(note, RawPreview)] == [bytes([30])]
    assert run.take() == []


def test_slots_that_were_refused_are_told_at_the_end() -> None:
    run = Run(an_attempt(a_recipe(), a_recipe()), SOLO, client_id="c")
    run.tracker.fallen = frozenset({1})
    run.end(RunReport(phase=RunPhase.SUCCEEDED))
    [ended] = run.take()
    assert isinstance(ended, RunEnded)
    assert ended.report.failure is not None
    assert ended.report.failure.slots == {1}


def test_what_ends_twice_is_told_once() -> None:
    run = Run(an_attempt(), SOLO, client_id="c")
    run.feed(ExecutionError(prompt_id="p", node_id="3", node_type="KSampler", exception_type="E", exception_message="no"))
    run.feed(Executing(prompt_id="p", node=None))
    run.end(RunReport(phase=RunPhase.INTERRUPTED))
    assert [note.report.phase for note in run.take() if isinstance(note, RunEnded)] == [RunPhase.FAILED]
