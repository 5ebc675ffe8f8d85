"""The line of a manifest that mends a fault of a template, ready to be copied."""

from __future__ import annotations

from modules.ai.workflows.role_inputs import INPUT_NAMES, Role
from modules.domain.catalogue import TemplateProblem

#: Faults that are mended under [nodes], not under a role.
_UNDER_NODES = frozenset({"output", "sampler"})
_ANY_NODE = "NODE"


def manifest_line(problem: TemplateProblem) -> str:
    """TOML that names what could not be found; NODE stands for an id of the exported file. Empty where no line would help."""
    match problem.what:
        case "role_missing":
            return _where(problem.name, _ANY_NODE)
        case "role_duplicate":
            return _where(problem.name, problem.field.split(",")[0].strip())
        case "text_unassigned":
            return f'[nodes]\nfixed_text = ["{_node_of(problem.name)}"]'
        case "field_missing" if problem.server is None:
            return 'input = "NAME"'
        case _:
            return ""


def _where(name: str, node: str) -> str:
    if name in _UNDER_NODES:
        return f'[nodes]\n{name} = "{node}"'
    known = next((role for role in Role if role.value == name), None)
    usual = INPUT_NAMES[known][0] if known else name
    return f'[roles.{name}]\nnode = "{node}"\ninput = "{usual}"'


def _node_of(name: str) -> str:
    """`Class (6)` as problems of servers name a node, or the id itself."""
    return name.rpartition("(")[2].rstrip(")")
