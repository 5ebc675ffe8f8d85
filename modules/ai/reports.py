"""What became of a prompt, in our words: phases, times by the server's clock, and the kinds of failure the queue tells apart."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from modules.ai import wire
from modules.ai.workflows.plan import BuiltWorkflow
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.jobs import Attempt
from modules.domain.servers import RunFailure, RunPhase, RunReport

#: The guilty slots of a failing node; empty when that cannot be told.
Guilt = Callable[[str], frozenset[int]]

#: By text as well as by type: "CUDA error: out of memory" comes as a plain RuntimeError, a failed host allocation too. Source:
#: recordings `execution_error_cuda_oom_text`, `execution_error_big_cpu_alloc`.
_OUT_OF_MEMORY = re.compile(r"out of memory|can't allocate memory|cannot allocate memory|OutOfMemoryError", re.IGNORECASE)
#: After one of these the CUDA context of the process is gone: every further prompt fails until ComfyUI restarts. Source: CUDA
#: runtime documentation, "sticky" errors; torch words them so.
_GPU_BROKEN = re.compile(
    r"CUDA error|CUDA driver|HIP error|device-side assert|illegal memory access|unspecified launch failure"
    r"|CUDNN_STATUS_(?:NOT_INITIALIZED|INTERNAL_ERROR|EXECUTION_FAILED)|cuBLAS.*NOT_INITIALIZED|AcceleratorError",
    re.IGNORECASE,
)
_DETAIL_CHARS = 500

_PHASES: Mapping[wire.JobStatus, RunPhase] = {
    wire.JobStatus.PENDING: RunPhase.PENDING,
    wire.JobStatus.IN_PROGRESS: RunPhase.RUNNING,
    wire.JobStatus.COMPLETED: RunPhase.SUCCEEDED,
    wire.JobStatus.FAILED: RunPhase.FAILED,
    wire.JobStatus.CANCELLED: RunPhase.INTERRUPTED,
}
UNKNOWN = RunReport(phase=RunPhase.UNKNOWN)


def nobody(_node: str) -> frozenset[int]:
    """Guilt where the workflow is not at hand."""
    return frozenset()


def guilt_in(attempt: Attempt, built: BuiltWorkflow) -> Guilt:
    """A node that draws for one job only names the guilty; one that serves several people names nobody."""
    job_of_slot = {slot.index: slot.job_id for slot in attempt.slots}

    def guilty(node: str) -> frozenset[int]:
        slots = built.slot_of_node.get(node, ())
        return frozenset(slots) if len({job_of_slot.get(slot) for slot in slots}) == 1 else frozenset()

    return guilty


def from_job(job: wire.JobInfo, guilty: Guilt = nobody) -> RunReport:
    """From `/api/jobs/{id}`."""
    phase = _PHASES[job.status]
    fault = job.execution_error or (job.execution_status.fault if job.execution_status else None)
    return RunReport(
        phase=phase,
        started_at=wire.instant(job.execution_start_time),
        ended_at=wire.instant(job.execution_end_time),
        failure=failure_from(fault, guilty) if phase is RunPhase.FAILED else None,
    )


def from_queue(queue: wire.QueueState, prompt_id: str) -> RunReport | None:
    """From `/queue`; None when it is not there (look at the history next)."""
    if queue.is_running(prompt_id):
        return RunReport(phase=RunPhase.RUNNING)
    return RunReport(phase=RunPhase.PENDING) if queue.is_pending(prompt_id) else None


def from_history(entry: wire.HistoryEntry | None, guilty: Guilt = nobody) -> RunReport:
    """From `/history/{id}`; no entry means UNKNOWN."""
    if entry is None:
        return UNKNOWN
    status = entry.status
    if status is None:  # versions before the status was kept: being in the history at all means that it ran to its end
        return RunReport(phase=RunPhase.SUCCEEDED)
    started_at = status.when("execution_start")
    ended_at = status.when("execution_success", "execution_error", "execution_interrupted")
    if status.status_str == "success":
        return RunReport(phase=RunPhase.SUCCEEDED, started_at=started_at, ended_at=ended_at)
    if status.was_interrupted:
        return RunReport(phase=RunPhase.INTERRUPTED, started_at=started_at, ended_at=ended_at)
    failure = failure_from(status.fault, guilty)
    return RunReport(phase=RunPhase.FAILED, started_at=started_at, ended_at=ended_at, failure=failure)


def failure_from(fault: wire.ExecutionFault | None, guilty: Guilt = nobody) -> RunFailure:
    """Sort a node's exception. Memory and GPU faults are nobody's guilt, whichever node they struck."""
    if fault is None:
        return RunFailure(code=ErrorCode.NODE_FAILED)
    said = f"{fault.exception_type}: {fault.exception_message.strip()}"
    node = f"{fault.node_type} #{fault.node_id}"
    if _OUT_OF_MEMORY.search(said):
        return RunFailure(code=ErrorCode.OUT_OF_MEMORY, node=node, detail=said[:_DETAIL_CHARS])
    if _GPU_BROKEN.search(said):
        return RunFailure(code=ErrorCode.GPU_BROKEN, node=node, detail=said[:_DETAIL_CHARS])
    return RunFailure(code=ErrorCode.NODE_FAILED, slots=guilty(fault.node_id), node=node, detail=said[:_DETAIL_CHARS])


def rejection(refused: wire.PromptRejected, guilty: Guilt = nobody) -> FulletError:
    """SERVER_REJECTED of a 400: `node`, `reason` (log and admins only), a slot as `guilty` where one job's node is at fault."""
    for node_id, entry in refused.node_errors.items():
        node, reason = f"{entry.class_type} #{node_id}", "; ".join(f"{fault.type}: {fault.details}" for fault in entry.errors)
        slots = guilty(node_id)
        if slots:
            return _rejected(node, reason, slots)
    if refused.node_errors:  # several faults, none of them one job's own: the last one read stands for all
        return _rejected(node, reason, ())
    about = refused.error.extra_info
    node_id = about.node_id or ""
    node = f"{about.class_type or 'unknown'} #{node_id}" if node_id else ""
    return _rejected(node, f"{refused.error.type}: {refused.error.message}", guilty(node_id))


def fallen_slots(errors: Mapping[str, wire.NodeErrors], save_nodes: Mapping[str, tuple[int, ...]]) -> frozenset[int]:
    """The slots that will not be drawn although the server said 200: those whose output node depends on a refused node."""
    fallen = {output for entry in errors.values() for output in entry.dependent_outputs} | set(errors)
    return frozenset(slot for node, slots in save_nodes.items() if node in fallen for slot in slots)


def _rejected(node: str, reason: str, slots: Iterable[int]) -> FulletError:
    guilty = min(slots, default=None)
    params: dict[str, str | int] = {"node": node, "reason": reason[:_DETAIL_CHARS]}
    return FulletError(ErrorCode.SERVER_REJECTED, **params, **({} if guilty is None else {"guilty": guilty}))
