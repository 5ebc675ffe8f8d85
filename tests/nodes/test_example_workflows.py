"""The examples open: both formats say the same, and use the nodes as they are."""

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from comfy_custom_nodes import nodes
from comfy_custom_nodes.slots import parse_prompts, parse_save_slots, parse_seeds

#: Of a node in ComfyUI's editor, above its position, in the units of a workflow.
TITLE_HEIGHT = 30
EXAMPLES = Path(nodes.__file__).parent / "example_workflows"
NAMES = sorted(path.name for path in EXAMPLES.glob("*.json"))
pytestmark = [pytest.mark.torch, pytest.mark.parametrize("name", NAMES)]


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_both_formats_say_the_same(name: str) -> None:
    editor, api = read(EXAMPLES / name), read(EXAMPLES / "api" / name)
    links = {link[0]: link for link in editor["links"]}
    drawn = {str(node["id"]): node for node in editor["nodes"] if node["type"] != "Note"}
    assert drawn.keys() == api.keys()
    for node_id, node in drawn.items():
        inputs = api[node_id]["inputs"]
        assert node["type"] == api[node_id]["class_type"]
        assert node["widgets_values"] == [value for value in inputs.values() if not isinstance(value, list)]
        for socket in node["inputs"]:
            link = links[socket["link"]]
            assert [str(link[1]), link[2]] == inputs[socket["name"]]
            assert socket["link"] in drawn[str(link[1])]["outputs"][link[2]]["links"]


def test_our_nodes_get_what_they_ask_for(name: str) -> None:
    api = read(EXAMPLES / "api" / name)
    for node in api.values():
        known = nodes.NODE_CLASS_MAPPINGS.get(node["class_type"])
        if known is None:
            continue
        wanted = known.INPUT_TYPES()
        everything = [*wanted["required"], *wanted.get("optional", {})]
        assert set(wanted["required"]) <= node["inputs"].keys() <= set(everything)
        typed = [input_name for input_name, value in node["inputs"].items() if not isinstance(value, list)]
        assert typed == [input_name for input_name in everything if input_name in typed]  # the order of the editor's fields


def test_everybody_is_in_every_list(name: str) -> None:
    parsers = {"prompts": parse_prompts, "seeds": parse_seeds, "slots": parse_save_slots}
    counts = [
        len(parsers[input_name](value))
        for node in read(EXAMPLES / "api" / name).values()
        for input_name, value in node["inputs"].items()
        if input_name in parsers
    ]
    assert set(counts) == {2}


def test_no_node_lies_on_another(name: str) -> None:
    boxes = [(*node["pos"], *node["size"], node["type"]) for node in read(EXAMPLES / name)["nodes"]]
    for (left, top, width, height, one), (x, y, w, h, other) in combinations(boxes, 2):
        is_apart = left + width <= x or x + w <= left or top + height <= y - TITLE_HEIGHT or y + h <= top - TITLE_HEIGHT
        assert is_apart, f"{one} and {other}"
