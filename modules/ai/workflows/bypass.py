"""A graph without one of its input pictures, as ComfyUI's own "bypass" makes it: nodes that only hand on are passed by."""

from __future__ import annotations

from collections.abc import Collection

from modules.ai.workflows.graph import Graph, GraphError, Link, Node, pruned, upstream
from modules.ai.workflows.role_inputs import CONDITIONING_INPUTS


def without(graph: Graph, lost: Collection[str], picture: Link) -> dict[str, Node]:
    """What is left for `picture` when the nodes `lost` are not there.

    Whatever needs one of them goes as well, up to a node that hands a conditioning on (such as ReferenceLatent): that one is
    passed by. Raises GraphError where the picture itself cannot do without them.
    """
    gone = set(lost)
    passed: dict[str, Link] = {}

    def onward(link: Link) -> Link:
        return passed.get(link.node, link)

    left: dict[str, Node] = {}
    for node_id in upstream(graph, picture.node):
        node = graph[node_id]
        if node_id in gone:
            continue
        if all(onward(link).node not in gone for _, link in node.links()):
            left[node_id] = node.relinked(onward)
            continue
        handed = [onward(link) for name in CONDITIONING_INPUTS if (link := node.link(name))]
        kept = next((link for link in handed if link.node not in gone), None)
        if kept is None:
            gone.add(node_id)
        else:
            passed[node_id] = kept
    if picture.node not in left:
        raise GraphError("picture_needed", ", ".join(sorted(lost)))
    return pruned(left, picture.node)
