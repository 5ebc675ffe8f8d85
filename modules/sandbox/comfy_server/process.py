"""One life of a server: from its start to its end or crash. The next life knows nothing of it but the files."""

from __future__ import annotations

import asyncio
import copy
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from modules.sandbox.comfy_server.bench import Bench
from modules.sandbox.comfy_server.executor import Run
from modules.sandbox.comfy_server.faults import FaultKind, Faults, Moment
from modules.sandbox.comfy_server.foreign import FOREIGN_STEPS, foreign_graph
from modules.sandbox.comfy_server.hub import Hub
from modules.sandbox.comfy_server.journal import Journal
from modules.sandbox.comfy_server.objects import Catalogue
from modules.sandbox.comfy_server.prompt_queue import Done, Entry, PromptQueue, timestamp_ms
from modules.sandbox.comfy_server.settings import SandboxSettings
from modules.sandbox.comfy_server.storage import Storage


@dataclass(slots=True)
class Process:
    """Queue, history, cache, sockets and the one worker of a running server."""

    settings: SandboxSettings
    storage: Storage
    faults: Faults
    journal: Journal
    crash: Callable[[float | None], None]  #: how a fault kills this life in the middle of a run
    hub: Hub = field(default_factory=Hub)
    run: Run | None = None
    _queue: PromptQueue | None = None
    _bench: Bench | None = None
    _free_memory: bool = False
    _unload_models: bool = False

    def __post_init__(self) -> None:
        self._queue = PromptQueue(self.tell_status)
        self._bench = Bench(self.settings, self._new_catalogue(), self.storage, self.hub, self.faults, self.crash)

    @property
    def queue(self) -> PromptQueue:
        assert self._queue is not None
        return self._queue

    @property
    def bench(self) -> Bench:
        assert self._bench is not None
        return self._bench

    @property
    def catalogue(self) -> Catalogue:
        return self.bench.catalogue

    def _new_catalogue(self) -> Catalogue:
        return Catalogue(
            self.settings.files,
            self.storage.input_files,
            self.settings.pack,
            self.settings.community_nodes,
            self.settings.hidden_classes,
        )

    def configure(self, settings: SandboxSettings) -> None:
        """A change while running: new files on the disk, another pack after a restart that kept the queue, other speeds."""
        self.settings = settings
        self.bench.settings = settings
        self.bench.catalogue = self._new_catalogue()

    # --- status ----------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        return {"exec_info": {"queue_remaining": self.queue.remaining}}

    def tell_status(self) -> None:
        self.hub.send("status", {"status": self.status()}, None)

    # --- the worker ------------------------------------------------------------------------------------------------------

    async def work(self) -> None:
        """Runs prompts one at a time, for ever; ends only when the worker thread of the real server would."""
        while True:
            try:
                entry = await self._next()
            except TypeError:
                return  # two pending entries with equal number and id: the thread is dead, HTTP stays
            if entry is None:
                return
            await self._work_on(entry)

    async def _next(self) -> Entry | None:
        """The next prompt; None when the `dead_worker` fault strikes instead."""
        while not self.queue.pending:
            await self.queue.arrival()
        if self.faults.strike([FaultKind.DEAD_WORKER], Moment()) is not None:
            return None
        return self.queue.take()

    async def _work_on(self, entry: Entry) -> None:
        self._do_deferred()
        life = self.journal.waiting(entry[1], entry[0]) or self.journal.posted(entry[1], entry[0], None)
        self.run = Run(self.bench, entry, life)
        life.started, life.status = time.time(), "running"
        done = await self.run.execute()
        await self._write_history_late(entry, done)
        life.ended = time.time()
        client_id = self.run.client_id
        self.run = None
        if client_id is not None:
            self.hub.send("executing", {"node": None, "prompt_id": entry[1]}, client_id)

    async def _write_history_late(self, entry: Entry, done: Done) -> None:
        """Between `execution_success` and the history there is a gap; clients that ask within it find nothing."""
        fault = self.faults.strike([FaultKind.DELAY_HISTORY], Moment(prompt_id=entry[1]))
        await asyncio.sleep(fault.seconds(2.0) if fault is not None else self.settings.history_delay_s)
        self.queue.finish(done)

    # --- somebody else's prompts -----------------------------------------------------------------------------------------

    def add_foreign(self, *, count: int, seconds: float) -> list[str]:
        """Queue prompts of somebody who uses the same ComfyUI in a browser, each of which samples so many wall-clock seconds.

        They carry no `client_id`: their progress and previews therefore go to everybody who is connected. Returns their ids.
        """
        graph = foreign_graph(self.settings.files, uuid.uuid4().int % 2**32)
        ids = []
        for index in range(count):
            prompt_id = str(uuid.uuid4())
            posted = copy.deepcopy(graph)
            posted["sample"]["inputs"]["seed"] += index  # an equal graph would be answered from the cache
            self.bench.step_seconds[prompt_id] = seconds / FOREIGN_STEPS
            entry: Entry = (self.queue.next_number(front=False), prompt_id, posted, {"create_time": timestamp_ms()}, ["save"])
            self.journal.posted(prompt_id, entry[0], None)
            self.queue.put(entry)
            ids.append(prompt_id)
        return ids

    # --- what people ask of it -------------------------------------------------------------------------------------------

    def free(self, *, unload_models: bool, free_memory: bool) -> None:
        """Acts before the next prompt, not at once."""
        self._unload_models |= unload_models
        self._free_memory |= free_memory

    def _do_deferred(self) -> None:
        if self._unload_models or self._free_memory:
            self.bench.resident.clear()
        if self._free_memory:
            self.bench.cache.clear()
        self._unload_models = self._free_memory = False

    def interrupt(self, prompt_id: str | None) -> bool:
        """Stop what runs, if it is the one that is meant; whether it was."""
        if self.run is None or (prompt_id is not None and self.run.prompt_id != prompt_id):
            return False
        self.run.interrupt.set()
        return True

    def cancel(self, prompt_id: str) -> bool:
        """Take a pending prompt back or stop a running one."""
        if self.delete(prompt_id):
            return True
        return self.interrupt(prompt_id)

    def delete(self, prompt_id: str) -> bool:
        entry = self.queue.delete(prompt_id)
        if entry is None:
            return False
        self._mark_deleted(entry)
        return True

    def clear(self) -> None:
        for entry in self.queue.clear():
            self._mark_deleted(entry)

    def _mark_deleted(self, entry: Entry) -> None:
        life = self.journal.waiting(entry[1], entry[0])
        if life is not None:
            life.status, life.ended = "deleted", time.time()
