"""Runs one prompt: which nodes, in which order, how long each, and what everybody is told.

The events and their order are those of the recordings. Time is spent by `Pace`; pictures are drawn in threads.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from modules.sandbox.comfy_server.bench import Bench, CachedNode
from modules.sandbox.comfy_server.call import Call, NodeFailedError, Result, Sampling, Saving
from modules.sandbox.comfy_server.faults import Fault, FaultKind, Moment
from modules.sandbox.comfy_server.graph import Order, as_link, class_of, inputs_of, shuffled, signatures, texts_of
from modules.sandbox.comfy_server.journal import PromptLife
from modules.sandbox.comfy_server.models import COSTS, step_seconds
from modules.sandbox.comfy_server.objects import LOADERS_OF_UPLOADS
from modules.sandbox.comfy_server.pack import PACK, encode_batch_of_another_pack
from modules.sandbox.comfy_server.previews import Previews
from modules.sandbox.comfy_server.prompt_queue import Done, Entry, timestamp_ms
from modules.sandbox.comfy_server.saving import picture_as_png, write_pictures
from modules.sandbox.comfy_server.settings import PREVIEW_METHODS
from modules.sandbox.comfy_server.stock import STOCK
from modules.sandbox.comfy_server.stock_pictures import PICTURES
from modules.sandbox.comfy_server.storage import OutsideFolderError
from modules.sandbox.comfy_server.values import Picture, Weights

#: What ComfyUI appends to the message of an out-of-memory error.
OOM_TIPS = (
    "This error means you ran out of memory on your GPU.\n\n"
    "TIPS: If the workflow worked before you might have accidentally set the batch_size to a large number."
)


EVALUATORS = {**STOCK, **PICTURES, **PACK}

#: Moving weights from memory to the card, as a part of reading them from disk.
TO_CARD_SHARE = 0.2


class InterruptedRunError(Exception):
    """Somebody asked this prompt to stop."""


@dataclass(slots=True)
class Run:
    """One prompt from `execution_start` to its entry in the history."""

    bench: Bench
    entry: Entry
    life: PromptLife
    interrupt: asyncio.Event = field(default_factory=asyncio.Event)
    current: str | None = None
    _messages: list[list[object]] = field(default_factory=list)
    _outputs: dict[str, Any] = field(default_factory=dict)
    _progress: dict[str, dict[str, object]] = field(default_factory=dict)
    _executed: list[str] = field(default_factory=list)
    _signatures: dict[str, str] = field(default_factory=dict)

    @property
    def prompt_id(self) -> str:
        return self.entry[1]

    @property
    def graph(self) -> dict[str, Any]:
        return self.entry[2]

    @property
    def client_id(self) -> str | None:
        value = self.entry[3].get("client_id")
        return value if isinstance(value, str) else None

    async def execute(self) -> Done:
        """Runs the prompt and says how it ended; only the cancellation of the whole server gets out of here."""
        self._tell("execution_start", {"prompt_id": self.prompt_id}, remember=True)
        self._signatures = signatures(self.graph, self.entry[4], self._changes)
        cached = [node_id for node_id in self.graph if self._signatures.get(node_id) in self.bench.cache]
        self.life.cached_nodes = len(cached)
        self._tell("execution_cached", {"nodes": cached, "prompt_id": self.prompt_id}, remember=True)
        succeeded = False
        try:
            await self._run_nodes()
            succeeded = True
        except InterruptedRunError:
            self._end_interrupted()
        except NodeFailedError as failure:
            self._end_failed(failure)
        self._forget_other_prompts()
        if succeeded:
            self._tell("execution_success", {"prompt_id": self.prompt_id}, remember=True)
            self.life.status = "success"
        self.current = None
        return self._done(succeeded)

    def _done(self, succeeded: bool) -> Done:
        meta = {node_id: _identity(node_id) for node_id in self._outputs}
        status = {"status_str": "success" if succeeded else "error", "completed": succeeded, "messages": self._messages}
        return Done(self.entry, self._outputs, status, meta)

    # --- nodes -----------------------------------------------------------------------------------------------------------

    async def _run_nodes(self) -> None:
        outputs = frozenset(self.entry[4])
        order = Order(self.graph, outputs, lambda node_id: self._signatures[node_id] in self.bench.cache)
        for output in shuffled(outputs, self.prompt_id):
            order.add(output)
        while (node_id := order.take()) is not None:
            self._stop_if_asked(node_id)
            cached = self.bench.cache.get(self._signatures[node_id])
            if cached is not None:
                self._reuse(node_id, cached)
            else:
                await self._run_node(node_id)
            order.done(node_id)

    def _reuse(self, node_id: str, cached: CachedNode) -> None:
        """An output node that need not run again still reports what it made the first time."""
        if cached.ui is not None:
            self._report_output(node_id, cached.ui)
        self._set_progress(node_id, 1, 1, "finished")

    async def _run_node(self, node_id: str) -> None:
        self.current = node_id
        self._set_progress(node_id, 0.0, 1.0, "running")
        self._tell("executing", {"node": node_id, "display_node": node_id, "prompt_id": self.prompt_id})
        class_type = class_of(self.graph, node_id)
        self._strike_before(class_type)
        result = await asyncio.to_thread(self._evaluate, node_id, class_type)
        await self._spend_load(result)
        await self._spend(result.seconds)
        if result.sampling is not None:
            await self._sample(node_id, result)
        ui = await self._save(node_id, result.saving) if result.saving is not None else None
        self.bench.cache[self._signatures[node_id]] = CachedNode(result.outputs, ui)
        if ui is not None:
            self._report_output(node_id, ui)
        self._executed.append(node_id)
        self.life.ran_nodes += 1
        self._finish_progress(node_id)

    def _evaluate(self, node_id: str, class_type: str) -> Result:
        inputs = {
            name: self._value(link[0], link[1]) if (link := as_link(value)) is not None else value
            for name, value in inputs_of(self.graph, node_id).items()
        }
        call = Call(node_id, class_type, inputs, self.bench.storage)
        if class_type == "CLIPTextEncodeBatch" and self.bench.catalogue.pack == "wrong":
            return encode_batch_of_another_pack(call)
        return EVALUATORS[class_type](call)

    def _value(self, node_id: str, slot: int) -> object:
        return self.bench.cache[self._signatures[node_id]].outputs[slot]

    # --- time ------------------------------------------------------------------------------------------------------------

    async def _spend(self, seconds: float) -> None:
        if seconds > 0:
            await asyncio.sleep(self.bench.settings.wall_seconds(seconds))

    async def _spend_step(self, seconds: float) -> None:
        """A step whose length was given from outside stands for many short ones: an interrupt ends it at once."""
        fixed = self.bench.step_seconds.get(self.prompt_id)
        if fixed is None:
            await self._spend(seconds)
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(fixed):
                await self.interrupt.wait()

    async def _spend_load(self, result: Result) -> None:
        if result.load_s <= 0:
            return
        for value in result.outputs:
            if isinstance(value, Weights):
                self.bench.resident.add(value.file)
                self.life.models.append(value.file)
        self.life.switch_seconds += self.bench.settings.wall_seconds(result.load_s)
        await self._spend(result.load_s)

    async def _sample(self, node_id: str, result: Result) -> None:
        sampling = result.sampling
        assert sampling is not None
        self._count(sampling)
        await self._bring_to_card(sampling)
        step_s = step_seconds(
            sampling.family,
            sampling.megapixels,
            evaluations=sampling.evaluations,
            groups=sampling.groups,
            shared=self.bench.settings.shared_part,
        )
        previews = Previews(sampling.shown, self.prompt_id) if self._wants_previews else None
        for step in range(1, sampling.steps + 1):
            await self._strike_in_step(node_id, step, sampling.rows)
            await self._spend_step(step_s * self._slowness(node_id))
            self._set_progress(node_id, step, sampling.steps, "running")
            frame = await asyncio.to_thread(previews.jpeg, step, sampling.steps) if previews is not None else None
            self._tell_step(node_id, step, sampling.steps, frame)
            await asyncio.sleep(0)
            self._stop_if_asked(node_id)

    def _tell_step(self, node_id: str, step: int, steps: int, frame: bytes | None) -> None:
        """`progress` and the preview. A frame with metadata comes before `progress`, one without comes after it."""
        if frame is not None:
            self._send_frame(node_id, frame, "image/jpeg", with_metadata=True)
        self._tell("progress", {"value": step, "max": steps, "prompt_id": self.prompt_id, "node": node_id}, broadcast=True)
        if frame is not None:
            self._send_frame(node_id, frame, "image/jpeg", with_metadata=False)

    def _send_frame(self, node_id: str, image: bytes, mime: str, *, with_metadata: bool) -> None:
        metadata = _identity(node_id, self.prompt_id)
        self.bench.hub.send_preview(image, mime, metadata, self.client_id, with_metadata=with_metadata)

    def _slowness(self, node_id: str) -> float:
        fault = self.bench.faults.peek(FaultKind.SLOW, self._moment(node=class_of(self.graph, node_id)))
        return fault.number("factor", 10.0) if fault is not None else 1.0

    async def _bring_to_card(self, sampling: Sampling) -> None:
        """After `/free` or an out-of-memory error the weights have to come back from memory, cached loaders or not."""
        if sampling.file not in self.bench.resident:
            seconds = COSTS[sampling.family].load_s * TO_CARD_SHARE
            self.life.switch_seconds += self.bench.settings.wall_seconds(seconds)
            await self._spend(seconds)
            self.bench.resident.add(sampling.file)

    def _count(self, sampling: Sampling) -> None:
        self.life.passes += 1
        self.life.rows += sampling.rows
        if self.life.passes > 1:
            self.life.form = "stacked"
        else:
            self.life.form = "batched" if sampling.merged and sampling.rows > 1 else "solo"

    # --- pictures --------------------------------------------------------------------------------------------------------

    @property
    def _wants_previews(self) -> bool:
        asked = self.entry[3].get("preview_method")
        method = asked if asked in PREVIEW_METHODS else self.bench.settings.preview_method
        return method != "none"

    async def _save(self, node_id: str, saving: Saving) -> Mapping[str, object] | None:
        if saving.to == "websocket":
            await self._send_pictures(node_id, saving.pictures)
            return None
        chunks: dict[str, object] = {}
        if saving.with_graph:
            chunks = {"prompt": self.graph, **(self.entry[3].get("extra_pnginfo") or {})}
        try:
            stored = await asyncio.to_thread(write_pictures, saving, chunks, self.bench, self._moment())
        except OutsideFolderError as problem:
            raise NodeFailedError(str(problem), "Exception") from problem
        except OSError as problem:
            raise NodeFailedError(f"{problem}\n", type(problem).__name__) from problem
        self.life.images += [image.as_json() for image in stored]
        labels = saving.labels or ({},) * len(stored)
        return {"images": [image.as_json() | dict(label) for image, label in zip(stored, labels, strict=False)]}

    async def _send_pictures(self, node_id: str, pictures: tuple[Picture, ...]) -> None:
        """SaveImageWebsocket: PNG frames in the place of previews, nothing on the disk."""
        for index, picture in enumerate(pictures):
            content = await asyncio.to_thread(picture_as_png, picture)
            self._set_progress(node_id, index, len(pictures), "running")
            for with_metadata in (True, False):
                self._send_frame(node_id, content, "image/png", with_metadata=with_metadata)
            data = {"value": index, "max": len(pictures), "prompt_id": self.prompt_id, "node": node_id}
            self._tell("progress", data, broadcast=True)

    # --- faults and stopping ---------------------------------------------------------------------------------------------

    def _moment(self, *, node: str | None = None, rows: int | None = None, step: int | None = None) -> Moment:
        return Moment(texts=texts_of(self.graph), prompt_id=self.prompt_id, node=node, rows=rows, step=step)

    def _strike_before(self, class_type: str) -> None:
        """A node error that names no node strikes the first sampler, where real ones mostly happen."""
        moment = self._moment(node=class_type)
        waiting = self.bench.faults.peek(FaultKind.NODE_ERROR, moment)
        if waiting is None or (waiting.match.node is None and "Sampler" not in class_type):
            return
        fault = self.bench.faults.strike([FaultKind.NODE_ERROR], moment)
        if fault is not None:
            raise NodeFailedError(
                fault.text("message", "a fault was asked for") + "\n", fault.text("exception_type", "RuntimeError")
            )

    async def _strike_in_step(self, node_id: str, step: int, rows: int) -> None:
        kinds = (FaultKind.OOM, FaultKind.CUDA_ERROR, FaultKind.HANG, FaultKind.CRASH, FaultKind.WS_DROP)
        fault = self.bench.faults.strike(kinds, self._moment(node=class_of(self.graph, node_id), rows=rows, step=step))
        if fault is None:
            return
        if fault.kind is FaultKind.WS_DROP:
            self.bench.hub.drop_all()
            return
        if fault.kind is FaultKind.CRASH:
            self.bench.crash(fault.seconds(1.0))
            await asyncio.Event().wait()  # until the crash takes this task down
        if fault.kind is FaultKind.OOM:
            self.bench.resident.clear()
            raise NodeFailedError(f"CUDA out of memory. Tried to allocate 20.00 GiB.\n{OOM_TIPS}", "torch.OutOfMemoryError")
        if fault.kind is FaultKind.CUDA_ERROR:
            raise NodeFailedError("CUDA error: an illegal memory access was encountered\n", "torch.AcceleratorError")
        await self._hang(fault)

    async def _hang(self, fault: Fault) -> None:
        """Nothing moves any more; `deaf: true` is a kernel that never returns, otherwise an interrupt ends it."""
        if fault.details.get("deaf"):
            await asyncio.Event().wait()
        await self.interrupt.wait()
        raise InterruptedRunError

    def _stop_if_asked(self, node_id: str) -> None:
        if self.interrupt.is_set():
            self.current = node_id
            raise InterruptedRunError

    def _end_interrupted(self) -> None:
        self.life.status = "interrupted"
        node_id = self.current or ""
        data = {
            "prompt_id": self.prompt_id,
            "node_id": node_id,
            "node_type": class_of(self.graph, node_id),
            "executed": self._executed,
        }
        self._tell("execution_interrupted", data, remember=True, broadcast=True)

    def _end_failed(self, failure: NodeFailedError) -> None:
        self.life.status = "error"
        node_id = self.current or ""
        data = {
            "prompt_id": self.prompt_id,
            "node_id": node_id,
            "node_type": class_of(self.graph, node_id),
            "executed": self._executed,
            "exception_message": failure.message,
            "exception_type": failure.exception_type,
            "traceback": ['  File "<comfyui>/execution.py", line 545, in execute\n    <source line removed>\n'],
            "current_inputs": {name: [str(value)] for name, value in inputs_of(self.graph, node_id).items()},
            "current_outputs": list(self.graph),
        }
        self._tell("execution_error", data, remember=True)

    # --- telling ---------------------------------------------------------------------------------------------------------

    def _tell(self, event: str, data: Mapping[str, object], *, remember: bool = False, broadcast: bool = False) -> None:
        """Most events go to the prompt's client only; a few go to everybody when it named none."""
        if remember:
            data = {**data, "timestamp": timestamp_ms()}
            self._messages.append([event, data])
        if self.client_id is not None or broadcast:
            self.bench.hub.send(event, data, self.client_id)

    def _set_progress(self, node_id: str, value: float, maximum: float, state: str) -> None:
        self._progress[node_id] = {"value": value, "max": maximum, "state": state, **_identity(node_id, self.prompt_id)}
        self._tell("progress_state", {"prompt_id": self.prompt_id, "nodes": dict(self._progress)}, broadcast=True)

    def _finish_progress(self, node_id: str) -> None:
        """A node ends at its own maximum: a sampler at its steps, others at 1."""
        maximum = self._progress[node_id]["max"]
        assert isinstance(maximum, int | float)
        self._set_progress(node_id, maximum, maximum, "finished")

    def _report_output(self, node_id: str, ui: Mapping[str, object]) -> None:
        self._outputs[node_id] = ui
        self._tell("executed", {"node": node_id, "display_node": node_id, "output": ui, "prompt_id": self.prompt_id})

    # --- cache -----------------------------------------------------------------------------------------------------------

    def _changes(self, node_id: str) -> str:
        """What the inputs do not show: a loaded file's content; and SaveImageWebsocket is always new."""
        class_type = class_of(self.graph, node_id)
        if class_type == "SaveImageWebsocket":
            return uuid.uuid4().hex
        if class_type in LOADERS_OF_UPLOADS:
            path = self.bench.storage.find(str(inputs_of(self.graph, node_id).get("image")))
            return json.dumps([str(path), path.stat().st_mtime_ns, path.stat().st_size]) if path is not None else ""
        return ""

    def _forget_other_prompts(self) -> None:
        """The default cache keeps only what the latest prompt used."""
        kept = set(self._signatures.values())
        for signature in [signature for signature in self.bench.cache if signature not in kept]:
            del self.bench.cache[signature]


def _identity(node_id: str, prompt_id: str | None = None) -> dict[str, object]:
    """Who a node is. There are no expanded sub-nodes here, so all names are the node's own."""
    if prompt_id is None:
        return {"node_id": node_id, "display_node": node_id, "parent_node": None, "real_node_id": node_id}
    return {
        "node_id": node_id,
        "prompt_id": prompt_id,
        "display_node_id": node_id,
        "parent_node_id": None,
        "real_node_id": node_id,
    }
