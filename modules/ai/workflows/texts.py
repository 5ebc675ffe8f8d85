"""Texts of a template that nobody replaces: whatever its author left in an encoder would be in every member's picture."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from modules.ai.workflows.graph import Graph, Link, Node, upstream
from modules.ai.workflows.role_inputs import NEGATIVE_INPUTS, TEXT_INPUTS, ZERO_OUT, Role, Target

_ENCODER_INPUTS = (*TEXT_INPUTS, *NEGATIVE_INPUTS)
#: How nodes that put texts together call the pieces: `string_a` (StringConcatenate), `text1`, `prefix`. Names of files and words
#: of lists stand in the same graph and are none.
_PIECES = ("string", "text", "value", "prompt", "prefix", "suffix", "words", "wildcard")


def unassigned_texts(
    graph: Graph, picture: Link, targets: Mapping[Role, tuple[Target, ...]], fixed: Collection[str]
) -> Iterator[Target]:
    """Every text that reaches the picture and is written by no role, in the order of the walk.

    `fixed`: nodes whose texts are meant to stay. A text behind a zeroed conditioning reaches nothing.
    """
    assigned = {target for found in targets.values() for target in found}
    effective = _effective(graph)
    seen: set[Target] = set()
    for node_id in upstream(effective, picture.node):
        node = effective[node_id]
        if node.link("clip") is None:
            continue  # encodes nothing
        for name in _ENCODER_INPUTS:
            for target in _texts_behind(effective, Target(node_id, name)):
                if target not in assigned and target not in seen and target.node not in fixed:
                    seen.add(target)
                    yield target


def effective_nodes(graph: Graph, picture: Link) -> frozenset[str]:
    """The nodes whose texts reach the picture: none that is only behind a zeroed conditioning."""
    return frozenset(upstream(_effective(graph), picture.node))


def _effective(graph: Graph) -> dict[str, Node]:
    return {node_id: Node(node.class_type, {}) if node.class_type == ZERO_OUT else node for node_id, node in graph.items()}


def _texts_behind(graph: Graph, target: Target) -> Iterator[Target]:
    """The text at an encoder's input, or every text it is put together from."""
    link = graph[target.node].link(target.input)
    if link is None:
        if is_text(graph[target.node].literal(target.input)):
            yield target
        return
    for node_id in upstream(graph, link.node):
        for name, value in graph[node_id].inputs.items():
            if is_text(value) and (name in _ENCODER_INPUTS or name.startswith(_PIECES)):
                yield Target(node_id, name)


def is_text(value: object) -> bool:
    """Whether it says anything: blanks and separators do not."""
    return isinstance(value, str) and any(character.isalnum() for character in value)
