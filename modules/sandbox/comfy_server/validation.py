"""Refuses what the real server refuses at `POST /prompt`, with the same bodies.

Every shape here comes from the recorded rejections; the few that were read about but never seen say so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from modules.sandbox.comfy_server.graph import Graph, as_link, class_of
from modules.sandbox.comfy_server.objects import LOADERS_OF_UPLOADS, Catalogue, InputSpec, NodeClass
from modules.sandbox.comfy_server.slots import refused_inputs
from modules.sandbox.comfy_server.storage import Storage

Reason = dict[str, Any]  # one entry of node_errors[id].errors: JSON as the server sends it

#: Longer lists are not repeated in an error, and `input_config` is null then.
LONGEST_LISTED = 20


class MalformedError(Exception):
    """A body the real server trips over: it answers 500 with plain text."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a graph: the outputs that will run, or the error of a 400; `node_errors` may come with either."""

    outputs: tuple[str, ...]
    error: Mapping[str, object] | None
    node_errors: Mapping[str, object]


def error(kind: str, message: str, details: str = "", extra_info: Mapping[str, object] | None = None) -> dict[str, object]:
    return {"type": kind, "message": message, "details": details, "extra_info": dict(extra_info or {})}


def validate(graph: object, catalogue: Catalogue, storage: Storage) -> Verdict:
    """Raises `MalformedError` where the real server answers 500."""
    if not isinstance(graph, dict):
        raise MalformedError
    for node_id, node in graph.items():
        missing = _unknown_class(node_id, node, catalogue)
        if missing is not None:
            return Verdict((), missing, {})
    outputs = [node_id for node_id in graph if _class(catalogue, graph, node_id).is_output]
    if not outputs:
        return Verdict((), error("prompt_no_outputs", "Prompt has no outputs"), {})
    return _Validation(graph, catalogue, storage).run(outputs)


def _unknown_class(node_id: str, node: object, catalogue: Catalogue) -> Mapping[str, object] | None:
    if not isinstance(node, dict):
        raise MalformedError
    meta = node.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else None
    if "class_type" not in node:
        message = f"Node 'ID #{node_id}' has no class_type. The workflow may be corrupted or a custom node is missing."
        info = {"node_id": node_id, "class_type": None, "node_title": title}
        return error("missing_node_type", message, f"Node ID '#{node_id}'", info)
    name = node["class_type"]
    if name not in catalogue:
        message = f"Node '{title or name}' not found. The custom node may not be installed."
        info = {"node_id": node_id, "class_type": name, "node_title": title or name}
        return error("missing_node_type", message, f"Node ID '#{node_id}'", info)
    return None


def _class(catalogue: Catalogue, graph: Graph, node_id: str) -> NodeClass:
    found = catalogue.get(class_of(graph, node_id))
    if found is None:  # classes were checked before anything else
        raise MalformedError
    return found


@dataclass(slots=True)
class _Validation:
    graph: dict[str, dict[str, Any]]
    catalogue: Catalogue
    storage: Storage
    _reasons: dict[str, list[Reason]] = field(default_factory=dict)  #: every node looked at so far, valid ones with []
    _valid: dict[str, bool] = field(default_factory=dict)
    _visiting: list[str] = field(default_factory=list)

    def run(self, outputs: list[str]) -> Verdict:
        good: list[str] = []
        node_errors: dict[str, dict[str, Any]] = {}
        details: list[str] = []
        for output in outputs:
            try:
                is_valid = self._check(output)
            except (KeyError, IndexError) as problem:
                self._valid[output] = is_valid = False
                self._reasons[output] = [self._trip("exception_during_validation", "Exception when validating node", problem)]
            if is_valid:
                good.append(output)
                continue
            details += [f"{reason['message']}: {reason['details']}" for reason in self._reasons[output]]
            for node_id, reasons in self._reasons.items():
                if reasons:
                    entry = node_errors.setdefault(
                        node_id, {"errors": reasons, "dependent_outputs": [], "class_type": class_of(self.graph, node_id)}
                    )
                    entry["dependent_outputs"].append(output)
        if good:
            return Verdict(tuple(good), None, node_errors)
        failed = error("prompt_outputs_failed_validation", "Prompt outputs failed validation", "\n".join(details))
        return Verdict((), failed, node_errors)

    @staticmethod
    def _trip(kind: str, message: str, problem: Exception, extra: Mapping[str, object] | None = None) -> Reason:
        info = {
            **(extra or {}),
            "exception_message": str(problem),
            "exception_type": type(problem).__name__,
            "traceback": ['  File "<comfyui>/execution.py", line 955, in validate_inputs\n'],
        }
        return error(kind, message, str(problem), info)

    def _check(self, node_id: str) -> bool:
        """Whether the node and all that feeds it may run. Raises KeyError for a link to a node that is not there."""
        if node_id in self._valid:
            return self._valid[node_id]
        if node_id in self._visiting:  # the type is in the server's source; no recording has it
            self._reasons[node_id] = [
                error("dependency_cycle", "Dependency cycle detected", " -> ".join([*self._visiting, node_id]))
            ]
            return False
        self._visiting.append(node_id)
        try:
            kind = _class(self.catalogue, self.graph, node_id)
            inputs: dict[str, Any] = self.graph[node_id].get("inputs") or {}
            reasons: list[Reason] = []
            upstream_is_valid = True
            for name, (is_required, spec) in kind.inputs().items():
                if name not in inputs:
                    if is_required:
                        reasons.append(error("required_input_missing", "Required input is missing", name, {"input_name": name}))
                elif isinstance(inputs[name], list):
                    upstream_is_valid &= self._check_link(name, spec, inputs[name], reasons)
                else:
                    self._check_literal(kind.name, name, spec, inputs, reasons)
            if not reasons and upstream_is_valid:
                reasons += self._check_custom(kind.name, inputs)
        finally:
            self._visiting.pop()
        self._reasons[node_id] = [*self._reasons.get(node_id, ()), *reasons]
        self._valid[node_id] = upstream_is_valid and not self._reasons[node_id]
        return self._valid[node_id]

    def _check_link(self, name: str, spec: InputSpec, value: list[object], reasons: list[Reason]) -> bool:
        link = as_link(value)
        if link is None:
            info = {"input_name": name, "input_config": spec, "received_value": value}
            reasons.append(
                error("bad_linked_input", "Bad linked input, must be a length-2 list of [node_id, slot_index]", name, info)
            )
            return True
        source, slot = link
        received = _class(self.catalogue, self.graph, source).outputs[slot]
        wanted = "COMBO" if isinstance(spec[0], list) else str(spec[0])
        if not _fits(received, wanted):
            info = {"input_name": name, "input_config": spec, "received_type": received, "linked_node": value}
            details = f"{name}, received_type({received}) mismatch input_type({wanted})"
            reasons.append(error("return_type_mismatch", "Return type mismatch between linked nodes", details, info))
            return True
        try:
            return self._check(source)
        except (KeyError, IndexError) as problem:
            extra = {"input_name": name, "input_config": spec}
            reason = self._trip("exception_during_inner_validation", "Exception when validating inner node", problem, extra)
            reason["extra_info"]["linked_node"] = value
            self._reasons[source], self._valid[source] = [reason], False
            return False

    def _check_literal(self, kind: str, name: str, spec: InputSpec, inputs: dict[str, Any], reasons: list[Reason]) -> None:
        """Converts numbers sent as text in place, as the server does."""
        info = {"input_name": name, "input_config": spec}
        try:
            value = inputs[name] = _converted(spec[0], inputs[name])
        except (ValueError, TypeError) as problem:
            details = f"{name}, {inputs[name]}, {problem}"
            message = f"Failed to convert an input value to a {spec[0]} value"
            info |= {"received_value": inputs[name], "exception_message": str(problem)}
            reasons.append(error("invalid_input_type", message, details, info))
            return
        if kind in LOADERS_OF_UPLOADS and name == "image":
            return  # its own check looks at the disk
        options = spec[1] if len(spec) > 1 else {}
        broken = _broken_limit(spec[0], value, options)
        if broken is not None:
            kind_of_error, message = broken
            reasons.append(error(kind_of_error, message, name, info | {"received_value": value}))
            return
        choices = spec[0] if isinstance(spec[0], list) else options.get("options") if spec[0] == "COMBO" else None
        if choices is not None and value not in choices:
            listed = f"(list of length {len(choices)})" if len(choices) > LONGEST_LISTED else str(choices)
            shown = None if len(choices) > LONGEST_LISTED else spec
            extra = {"input_name": name, "input_config": shown, "received_value": value}
            reasons.append(error("value_not_in_list", "Value not in list", f"{name}: {value!r} not in {listed}", extra))

    def _check_custom(self, kind: str, inputs: Mapping[str, object]) -> list[Reason]:
        """What a class checks itself: LoadImage its file, our pack its JSON."""
        if kind in LOADERS_OF_UPLOADS and self.storage.find(str(inputs.get("image"))) is None:
            return [_custom("image", f"Invalid image file: {inputs.get('image')}")]
        return [_custom(name, problem) for name, problem in refused_inputs(kind, inputs)]


def _custom(name: str, problem: str) -> Reason:
    return error("custom_validation_failed", "Custom validation failed for node", f"{name} - {problem}", {"input_name": name})


def _broken_limit(kind: object, value: Any, options: Mapping[str, Any]) -> tuple[str, str] | None:
    """Which limit of a number is broken, in the server's words."""
    if kind not in ("INT", "FLOAT"):
        return None
    if "min" in options and value < options["min"]:
        return "value_smaller_than_min", f"Value {value} smaller than min of {options['min']}"
    if "max" in options and value > options["max"]:
        return "value_bigger_than_max", f"Value {value} bigger than max of {options['max']}"
    return None


def _fits(received: str, wanted: str) -> bool:
    """Types match by name; `*` takes anything; a union is written with commas."""
    if "*" in (received, wanted):
        return True
    return set(received.split(",")) <= set(wanted.split(","))


def _converted(kind: object, value: object) -> Any:
    match kind:
        case "INT":
            return int(value)  # type: ignore[call-overload]  # a wrong type is the TypeError the caller reports
        case "FLOAT":
            return float(value)  # type: ignore[arg-type]  # as above
        case "STRING":
            return str(value)
        case "BOOLEAN":
            return bool(value)
        case _:
            return value
