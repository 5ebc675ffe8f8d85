"""Every recorded HTTP reply is read, and says what it said."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modules.ai import reports, wire
from modules.domain.errors import ErrorCode
from modules.domain.servers import RunPhase, RunReport
from tests.support.comfy_recordings import replies, reply


def history_of(name: str) -> wire.HistoryEntry:
    [entry] = wire.read_history(reply(name)).values()
    return entry


def test_the_system_tells_version_device_and_memory() -> None:
    stats = wire.read(wire.SystemStats, reply("system_stats"))
    assert stats.system.comfyui_version == "0.33.0"
    assert stats.devices[0].name == "cpu"
    assert stats.devices[0].vram_total == 25276502016


@pytest.mark.parametrize("body", [None, [], "ok", {}, {"devices": []}, {"system": None}, {"error": "tunnel not found"}], ids=repr)
def test_what_is_no_comfyui_is_told_apart(body: object) -> None:
    with pytest.raises(wire.UnreadableError):
        wire.read(wire.SystemStats, body)


def test_the_queue_tells_running_from_pending_whatever_the_order() -> None:
    queue = wire.read(wire.QueueState, reply("queue_running_and_pending"))
    assert queue.is_running("a406373a-843b-4185-97f2-e006cfec8626")
    assert not queue.is_pending("a406373a-843b-4185-97f2-e006cfec8626")
    assert [item.number for item in queue.queue_pending] == [-16, -5.5, 14, 15]
    assert queue.is_pending("4c511d08-d9b0-4ca8-af75-17a79cb0a48e")
    assert queue.queue_running[0].extra_data["client_id"] == "11111111-2222-4333-8444-555555555555"


def test_an_empty_queue_knows_nobody() -> None:
    queue = wire.read(wire.QueueState, reply("queue_empty"))
    assert reports.from_queue(queue, "a406373a-843b-4185-97f2-e006cfec8626") is None


@pytest.mark.parametrize(
    "name", ["history_success_sd15", "history_success_flux", "history_success_zimage", "history_cached_rerun"]
)
def test_a_success_in_the_history_has_start_and_end(name: str) -> None:
    report = reports.from_history(history_of(name))
    assert report.phase is RunPhase.SUCCEEDED
    assert report.worked_s is not None
    assert report.worked_s >= 0


def test_worked_seconds_are_by_the_servers_own_clock() -> None:
    report = reports.from_history(history_of("history_success_sd15"))
    assert report.started_at == datetime.fromtimestamp(1795231636.304, UTC)
    assert report.worked_s == pytest.approx(9.905)


@pytest.mark.parametrize("name", ["history_empty", "history_unknown"])
def test_an_empty_history_means_unknown(name: str) -> None:
    assert reports.from_history(wire.read_history(reply(name)).get("x")).phase is RunPhase.UNKNOWN


def test_an_interrupted_prompt_is_told_from_a_failed_one_although_both_say_error() -> None:
    assert reports.from_history(history_of("history_interrupted")).phase is RunPhase.INTERRUPTED
    assert reports.from_history(history_of("history_error_stock_nodes")).phase is RunPhase.FAILED


def test_out_of_memory_is_found_in_the_history() -> None:
    failure = reports.from_history(history_of("history_error_oom")).failure
    assert failure is not None
    assert failure.code is ErrorCode.OUT_OF_MEMORY
    assert failure.node == "LocalTestRaise #50"


@pytest.mark.parametrize(
    ("name", "phase"),
    [
        ("job_pending", RunPhase.PENDING),
        ("job_in_progress", RunPhase.RUNNING),
        ("job_completed", RunPhase.SUCCEEDED),
        ("job_failed", RunPhase.FAILED),
        ("job_cancelled", RunPhase.INTERRUPTED),
    ],
)
def test_each_state_of_a_job_is_a_phase(name: str, phase: RunPhase) -> None:
    assert reports.from_job(wire.read(wire.JobInfo, reply(name))).phase is phase


def test_a_finished_job_has_times_and_a_failed_one_its_cause() -> None:
    done = reports.from_job(wire.read(wire.JobInfo, reply("job_completed")))
    failed = reports.from_job(wire.read(wire.JobInfo, reply("job_failed")))
    assert done.worked_s == pytest.approx(25.042)
    assert failed.failure is not None
    assert failed.failure.code is ErrorCode.NODE_FAILED
    assert failed.failure.node == "VAEDecode #8"
    assert "expected input[1, 4, 32, 32]" in failed.failure.detail


def test_a_finished_job_still_knows_what_we_noted_when_posting_it() -> None:
    job = wire.read(wire.JobInfo, reply("job_completed"))
    assert job.workflow is not None
    assert job.workflow.extra_data["client_id"] == "11111111-2222-4333-8444-555555555555"


@pytest.mark.parametrize(
    "line", [line for line in replies("post_prompt_rejections") if line.get("status") == 400], ids=lambda line: str(line["case"])
)
def test_every_recorded_rejection_names_a_reason(line: dict[str, object]) -> None:
    error = reports.rejection(wire.read(wire.PromptRejected, line["response"]))
    assert error.code is ErrorCode.SERVER_REJECTED
    assert len(str(error.params["reason"])) > 8


def test_a_rejection_names_node_reason_and_the_one_guilty_slot() -> None:
    recorded = {line["case"]: line["response"] for line in replies("post_prompt_rejections")}
    missing = wire.read(wire.PromptRejected, recorded["value_not_in_list: checkpoint missing"])
    unknown = wire.read(wire.PromptRejected, recorded["missing_node_type: unknown class"])
    guilty = {"4": frozenset({2, 3})}
    error = reports.rejection(missing, lambda node: guilty.get(node, frozenset()))
    assert error.params["node"] == "CheckpointLoaderSimple #4"
    assert "missing.safetensors" in str(error.params["reason"])
    assert error.params["guilty"] == 2
    assert reports.rejection(unknown).params["node"] == "KSamplerNope #3"
    assert "guilty" not in reports.rejection(unknown).params


def test_a_200_may_leave_some_outputs_out() -> None:
    [line] = [line for line in replies("post_prompt_rejections") if str(line["case"]).startswith("one output valid")]
    accepted = wire.read(wire.PromptAccepted, line["response"])
    assert reports.fallen_slots(accepted.node_errors, {"9": (0,), "91": (1, 2)}) == {1, 2}


def test_an_older_version_may_write_an_empty_list_for_no_errors() -> None:
    assert wire.read(wire.PromptAccepted, {"prompt_id": "x", "number": 1, "node_errors": []}).node_errors == {}
    assert (
        reports.rejection(wire.read(wire.PromptRejected, {"error": "no prompt", "node_errors": []})).params["reason"]
        == ": no prompt"
    )


@pytest.mark.parametrize(
    "line", [line for line in replies("upload_image") if line.get("status") == 200], ids=lambda line: str(line["case"])
)
def test_the_answer_to_an_upload_names_the_file_as_a_graph_wants_it(line: dict[str, object]) -> None:
    answer = wire.read(wire.UploadAnswer, line["response"])
    assert answer.reference == f"{answer.subfolder}/{answer.name}".removeprefix("/")


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    )
)
def test_nonsense_is_refused_with_our_own_error(body: object) -> None:
    for model in (wire.SystemStats, wire.QueueState, wire.JobInfo, wire.PromptAccepted, wire.PromptRejected, wire.UploadAnswer):
        with suppress(wire.UnreadableError):  # most nonsense is refused, some is harmless
            wire.read(model, body)


@pytest.mark.parametrize("milliseconds", [10**30, 1_764_000_000_000_000, -(10**30)])
def test_a_time_that_no_calendar_knows_is_not_told_and_costs_nobody_a_picture(milliseconds: int) -> None:
    """A version or an add-on that counts in microseconds, say."""
    job = wire.read(wire.JobInfo, {"id": "x", "status": "completed", "execution_start_time": milliseconds})
    assert reports.from_job(job) == RunReport(phase=RunPhase.SUCCEEDED)
