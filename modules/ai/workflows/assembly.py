"""Several chains in one graph, with everything that is equal in them there only once.

Two nodes are the same when class, values and everything behind them are the same. So loaders, encoders of equal texts and
empty latents of equal size are shared by all slots, whatever the template looks like, and what differs stays apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from modules.ai.workflows.binding import free_id
from modules.ai.workflows.graph import Graph, Link, Node, to_api, upstream


class Assembly:
    """A graph under construction."""

    def __init__(self) -> None:
        self.graph: dict[str, Node] = {}
        self.slots: dict[str, set[int]] = {}  #: node -> the slots whose pictures depend on it
        self._known: dict[str, str] = {}

    def add_chain(self, chain: Graph, root: str, slot: int) -> Mapping[str, str]:
        """Add what `root` depends on; the answer maps the chain's node ids to those here."""
        names: dict[str, str] = {}
        for node_id in upstream(chain, root):
            node = chain[node_id].relinked(lambda link: Link(names[link.node], link.output))
            names[node_id] = self._place(node, node_id, slot)
        return names

    def add_node(self, node_id: str, node: Node, slots: Iterable[int]) -> Link:
        """Add a node under its own name; its first output."""
        node_id = free_id(self.graph, node_id)
        self.graph[node_id] = node
        self.slots[node_id] = set(slots)
        return Link(node_id, 0)

    def keep_only(self, *roots: str) -> None:
        """Drop what these nodes do not depend on."""
        kept = set(upstream(self.graph, *roots))
        self.graph = {node_id: node for node_id, node in self.graph.items() if node_id in kept}
        self.slots = {node_id: slots for node_id, slots in self.slots.items() if node_id in kept}

    def _place(self, node: Node, node_id: str, slot: int) -> str:
        signature = json.dumps(to_api({"": node}), sort_keys=True)
        if signature not in self._known:
            name = free_id(self.graph, node_id if node_id not in self.graph else f"{node_id}_s{slot}")
            self._known[signature] = name
            self.graph[name] = node
        name = self._known[signature]
        self.slots.setdefault(name, set()).add(slot)
        return name
