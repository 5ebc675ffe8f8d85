"""Whether a graph takes the transparency of a picture as a mask."""

from __future__ import annotations

from collections.abc import Collection

from modules.ai.workflows.graph import Graph, Node

_LOAD_MASK = "LoadImageMask"


def reads_mask(graph: Graph, node_id: str, *, is_named_before: bool) -> bool:
    """Whether anything takes the mask of the picture whose name is written at this node: every output of a loader but its first.

    `is_named_before`: the name stands in a node of its own, before the loader. Source: `LoadImage` gives out IMAGE and MASK,
    `LoadImageMask` a MASK alone (ComfyUI's nodes.py).
    """
    loaders = {node_id}
    if is_named_before:
        loaders = {user for user, node in graph.items() if any(link.node == node_id for _, link in node.links())}
    if any(_loads_alpha(graph[loader]) for loader in loaders if loader in graph):
        return True
    return any(link.node in loaders and link.output > 0 for node in graph.values() for _, link in node.links())


def masks_of(graph: Graph, loaders: Collection[str]) -> list[str]:
    """The nodes that read a mask out of the very file that these load: the person's picture is meant there as well."""
    files = {graph[node_id].literal("image") for node_id in loaders} - {None}
    return [node_id for node_id, node in graph.items() if node.class_type == _LOAD_MASK and node.literal("image") in files]


def _loads_alpha(node: Node) -> bool:
    return node.class_type == _LOAD_MASK and node.literal("channel") == "alpha"
