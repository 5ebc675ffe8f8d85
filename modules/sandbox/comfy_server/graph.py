"""A posted graph: who feeds whom, what may be reused, and what runs next.

The order is that of the recordings: outputs are taken from a set, so not in the order posted; each one's chain is walked
depth-first, last input first; among the nodes that are free to run an output node goes first, else what was found first.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

Graph = Mapping[str, Mapping[str, object]]


def as_link(value: object) -> tuple[str, int] | None:
    """`["4", 1]` -> ("4", 1); None for a literal."""
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and isinstance(value[1], int | float):
        return value[0], int(value[1])
    return None


def class_of(graph: Graph, node_id: str) -> str:
    return str(graph[node_id]["class_type"])


def inputs_of(graph: Graph, node_id: str) -> Mapping[str, object]:
    inputs = graph[node_id].get("inputs")
    return inputs if isinstance(inputs, Mapping) else {}


def links_of(graph: Graph, node_id: str) -> list[str]:
    """The nodes whose outputs this one takes, in the order of its inputs."""
    return [link[0] for value in inputs_of(graph, node_id).values() if (link := as_link(value)) is not None]


def texts_of(graph: Graph) -> tuple[str, ...]:
    """Every literal text of the graph: what a fault may look for."""
    return tuple(value for node_id in graph for value in inputs_of(graph, node_id).values() if isinstance(value, str))


def signatures(graph: Graph, outputs: Collection[str], changed: Callable[[str], str]) -> dict[str, str]:
    """Cache key of each node the outputs need: its class, its literal inputs and the keys of what feeds it.

    `changed(node_id)` adds what the values do not show: the content of a loaded file, or something new each time.
    """
    known: dict[str, str] = {}

    def of(node_id: str) -> str:
        if node_id not in known:
            parts: list[object] = [class_of(graph, node_id), changed(node_id)]
            for name, value in sorted(inputs_of(graph, node_id).items()):
                link = as_link(value)
                parts.append([name, [of(link[0]), link[1]] if link and link[0] in graph else value])
            known[node_id] = hashlib.sha256(json.dumps(parts, default=repr).encode("utf-8", "surrogatepass")).hexdigest()
        return known[node_id]

    for output in outputs:
        of(output)
    return known


def shuffled(outputs: Collection[str], salt: str) -> list[str]:
    """The server keeps outputs in a set; this order is as arbitrary but the same for the same prompt id."""
    return sorted(outputs, key=lambda node_id: hashlib.sha256(f"{salt}{node_id}".encode()).digest())


@dataclass(slots=True)
class Order:
    """The nodes that still have to run for some outputs, handed out one by one."""

    graph: Graph
    outputs: Collection[str]
    is_cached: Callable[[str], bool]
    _waiting: dict[str, set[str]] = field(default_factory=dict)  #: node -> what it waits for, in the order found
    _feeds: dict[str, list[str]] = field(default_factory=dict)

    def add(self, output: str) -> None:
        found = [output]
        while found:
            node_id = found.pop()
            if node_id in self._waiting:
                continue
            needed = [source for source in links_of(self.graph, node_id) if not self.is_cached(source)]
            self._waiting[node_id] = set(needed)
            for source in needed:
                self._feeds.setdefault(source, []).append(node_id)
            found.extend(needed)

    def take(self) -> str | None:
        """The next node to run, or None when all have run."""
        free = [node_id for node_id, needed in self._waiting.items() if not needed]
        if not free:
            return None
        chosen = self._preferred(free)
        del self._waiting[chosen]
        return chosen

    def done(self, node_id: str) -> None:
        for fed in self._feeds.get(node_id, ()):
            if fed in self._waiting:
                self._waiting[fed].discard(node_id)

    def _preferred(self, free: Sequence[str]) -> str:
        for node_id in free:
            if node_id in self.outputs:
                return node_id
        return free[0]
