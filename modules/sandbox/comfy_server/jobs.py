"""`/api/jobs`: queue and history as one list, the newer way to ask."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from modules.sandbox.comfy_server.process import Process
from modules.sandbox.comfy_server.prompt_queue import Done, Entry

Job = dict[str, Any]  # one job as the server sends it

STATUSES = ("pending", "in_progress", "completed", "failed", "cancelled")
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class BadQueryError(ValueError):
    """A query the server answers with 400 and this text."""


def is_prompt_id(value: object) -> bool:
    """Canonical: lower case, with hyphens."""
    return isinstance(value, str) and _UUID.fullmatch(value) is not None


def _base(entry: Entry, status: str) -> Job:
    return {"id": entry[1], "status": status, "priority": entry[0], "create_time": entry[3].get("create_time")}


def _waiting_job(entry: Entry, status: str) -> Job:
    return _base(entry, status) | {"outputs_count": 0, "previewable_outputs_count": 0} | _workflow_id(entry)


def _workflow_id(entry: Entry) -> Job:
    info = entry[3].get("extra_pnginfo")
    workflow = info.get("workflow") if isinstance(info, dict) else None
    return {"workflow_id": workflow["id"]} if isinstance(workflow, dict) and "id" in workflow else {}


def _done_job(done: Done) -> Job:
    messages = dict(done.status["messages"])
    if done.status["completed"]:
        status, last = "completed", messages.get("execution_success", {})
    elif "execution_interrupted" in messages:
        status, last = "cancelled", messages["execution_interrupted"]
    else:
        status, last = "failed", messages.get("execution_error", {})
    job = _base(done.prompt, status)
    job["execution_start_time"] = messages.get("execution_start", {}).get("timestamp")
    job["execution_end_time"] = last.get("timestamp")
    if status == "failed":
        job["execution_error"] = last
    pictures = [(node_id, image) for node_id, ui in done.outputs.items() for image in ui.get("images", ())]
    job["outputs_count"] = job["previewable_outputs_count"] = len(pictures)
    if pictures:
        node_id, image = pictures[0]
        job["preview_output"] = {**image, "nodeId": node_id, "mediaType": "images"}
    return job | _workflow_id(done.prompt)


def find_job(process: Process, prompt_id: str) -> Job | None:
    """One job; a finished one with its outputs, messages and graph."""
    queue = process.queue
    if queue.running is not None and queue.running[1] == prompt_id:
        return _waiting_job(queue.running, "in_progress")
    for entry in queue.pending:
        if entry[1] == prompt_id:
            return _waiting_job(entry, "pending")
    done = queue.history.get(prompt_id)
    if done is None:
        return None
    workflow = {"prompt": done.prompt[2], "extra_data": done.prompt[3]}
    return _done_job(done) | {"outputs": done.outputs, "execution_status": done.status, "workflow": workflow}


def list_jobs(process: Process, query: Mapping[str, str]) -> dict[str, Any]:
    """Raises `BadQueryError`."""
    wanted = _wanted_statuses(query.get("status"))
    offset = _whole(query, "offset") or 0
    limit = _whole(query, "limit")
    queue = process.queue
    jobs = [_waiting_job(entry, "pending") for entry in queue.pending]
    jobs += [_waiting_job(queue.running, "in_progress")] if queue.running is not None else []
    jobs += [_done_job(done) for done in queue.history.values()]
    jobs = [job for job in jobs if job["status"] in wanted]
    by_duration = query.get("sort_by") == "execution_duration"
    jobs.sort(key=_duration if by_duration else _created, reverse=query.get("sort_order", "desc") == "desc")
    page = jobs[offset : offset + limit if limit is not None else None]
    has_more = limit is not None and offset + len(page) < len(jobs)
    return {"jobs": page, "pagination": {"offset": offset, "limit": limit, "total": len(jobs), "has_more": has_more}}


def _wanted_statuses(given: str | None) -> tuple[str, ...]:
    if not given:
        return STATUSES
    asked = tuple(part.strip() for part in given.split(","))
    wrong = [part for part in asked if part not in STATUSES]
    if wrong:
        raise BadQueryError(f"Invalid status value(s): {', '.join(wrong)}. Valid values: {', '.join(STATUSES)}")
    return asked


def _whole(query: Mapping[str, str], name: str) -> int | None:
    if name not in query:
        return None
    try:
        return int(query[name])
    except ValueError:
        raise BadQueryError(f"{name} must be an integer") from None


def _created(job: Job) -> int:
    return int(job.get("create_time") or 0)


def _duration(job: Job) -> int:
    start, end = job.get("execution_start_time"), job.get("execution_end_time")
    return end - start if isinstance(start, int) and isinstance(end, int) else 0
