"""A ComfyUI graph in API format, as values: nodes, links, and the few ways we walk and change them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Link(NamedTuple):
    """An input that takes output number `output` of another node; `["4", 0]` in the file."""

    node: str
    output: int


#: What stands at an input: a link, or a JSON value.
Value = object


@dataclass(frozen=True, slots=True)
class Node:
    """One node. Its title is only for finding it and is never sent to a server."""

    class_type: str
    inputs: Mapping[str, Value]
    title: str = ""

    def link(self, name: str) -> Link | None:
        """The link at an input; None when a value or nothing stands there."""
        value = self.inputs.get(name)
        return value if isinstance(value, Link) else None

    def literal(self, name: str) -> Value | None:
        """The value at an input; None when a link or nothing stands there."""
        value = self.inputs.get(name)
        return None if isinstance(value, Link) else value

    def links(self) -> Iterator[tuple[str, Link]]:
        """Every input that is a link."""
        return ((name, value) for name, value in self.inputs.items() if isinstance(value, Link))

    def having(self, **inputs: Value) -> Node:
        """The same node with these inputs set."""
        return Node(self.class_type, {**self.inputs, **inputs}, self.title)

    def relinked(self, change: Callable[[Link], Link]) -> Node:
        """The same node with every link passed through `change`."""
        moved = {name: change(value) if isinstance(value, Link) else value for name, value in self.inputs.items()}
        return Node(self.class_type, moved, self.title)


Graph = Mapping[str, Node]


class GraphError(Exception):
    """A file is no API-format graph. `what`, `name` and `field` are those of a TemplateProblem."""

    def __init__(self, what: str, name: str, field: str = "") -> None:
        super().__init__(what, name, field)
        self.what, self.name, self.field = what, name, field


def read_graph(text: str) -> dict[str, Node]:
    """Parse an export in API format. Raises GraphError naming the first thing that is wrong."""
    try:
        body = json.loads(text)
    except ValueError as error:
        raise GraphError("not_json", "the file", f"{error}"[:80]) from error
    if isinstance(body, dict) and isinstance(sent := body.get("prompt"), dict) and "class_type" not in sent:
        body = sent  # the body of POST /prompt, saved as it was sent
    if not isinstance(body, dict) or not body:
        raise GraphError("not_api_format", "the file")
    if isinstance(body.get("nodes"), list):
        raise GraphError("not_api_format", "nodes")  # "Save" writes this; "Export (API)" is what runs
    graph = {node_id: _read_node(node_id, entry) for node_id, entry in body.items()}
    for node_id, node in graph.items():
        for name, link in node.links():
            if link.node not in graph:
                raise GraphError("link_broken", node_id, name)
    _refuse_cycles(graph)
    return graph


def _read_node(node_id: str, entry: object) -> Node:
    if not isinstance(entry, dict) or not isinstance(entry.get("class_type"), str):
        raise GraphError("node_invalid", node_id, "class_type")
    inputs = entry.get("inputs")
    if not isinstance(inputs, dict):
        raise GraphError("node_invalid", node_id, "inputs")
    meta = entry.get("_meta")
    title = meta.get("title") if isinstance(meta, dict) else ""
    return Node(entry["class_type"], {name: _read_value(value) for name, value in inputs.items()}, str(title or ""))


def _read_value(value: object) -> Value:
    """ComfyUI takes every list of a text and a whole number for a link. Source: `is_link` in comfy_execution/graph_utils.py."""
    match value:
        case [str(node), int(output)] if not isinstance(output, bool):
            return Link(node, output)
        case _:
            return value


def _refuse_cycles(graph: Graph) -> None:
    done: set[str] = set()
    for start in graph:
        trail: list[str] = []
        on_trail: set[str] = set()
        stack: list[tuple[str, bool]] = [(start, False)]
        while stack:
            node_id, is_left = stack.pop()
            if is_left:
                on_trail.discard(trail.pop())
                done.add(node_id)
            elif node_id in on_trail:
                raise GraphError("graph_cycle", node_id)
            elif node_id not in done:
                trail.append(node_id)
                on_trail.add(node_id)
                stack.append((node_id, True))
                stack.extend((link.node, False) for _, link in graph[node_id].links())


def upstream(graph: Graph, *roots: str) -> list[str]:
    """These nodes and all they depend on, each after what it needs; the order is the same for the same graph."""
    ordered: dict[str, None] = {}
    stack: list[tuple[str, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node_id, is_ready = stack.pop()
        if node_id in ordered:
            continue
        if is_ready:
            ordered[node_id] = None
        else:
            stack.append((node_id, True))
            stack.extend((link.node, False) for _, link in reversed(list(graph[node_id].links())))
    return list(ordered)


def pruned(graph: Graph, *roots: str) -> dict[str, Node]:
    """Only what these nodes depend on, themselves included."""
    return {node_id: graph[node_id] for node_id in upstream(graph, *roots)}


def consumers(graph: Graph, source: Link) -> Iterator[tuple[str, str]]:
    """`(node, input)` of everything that takes this output."""
    for node_id, node in graph.items():
        for name, link in node.links():
            if link == source:
                yield node_id, name


def with_input(graph: dict[str, Node], node_id: str, name: str, value: Value) -> None:
    """Set one input in place."""
    graph[node_id] = graph[node_id].having(**{name: value})


def to_api(graph: Graph) -> dict[str, dict[str, object]]:
    """As `POST /prompt` takes it."""
    return {
        node_id: {
            "class_type": node.class_type,
            "inputs": {name: list(value) if isinstance(value, Link) else value for name, value in node.inputs.items()},
        }
        for node_id, node in graph.items()
    }
