"""Each fault of a template is told in a sentence of its own, with the line of the manifest that mends it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from modules.ai.listing import ServerListing
from modules.ai.workflows.template import Library, load_library
from modules.diagnosis import FILE_FAULTS, LACKS, mend, sentence, template_finding
from modules.domain.people import Language
from modules.utils.i18n import Phrasebook
from tests.support.graphs import ROOT, a_catalogue, an_object_info

RECORDED = ROOT / "tests" / "recordings" / "workflows"
PHRASES = Phrasebook.load()
MANIFEST = 'model = "m"\nkind = "imagine"\n{}\n[cost]\nseconds = 1.0\n'
ApiGraph = dict[str, dict[str, Any]]


def recorded(**changes: Mapping[str, object]) -> ApiGraph:
    """The recorded graph; `n6={"text": "x"}` changes inputs of node 6, `n6=None`-like removals are done by the tests."""
    graph: ApiGraph = json.loads((RECORDED / "sd15_txt2img.json").read_text("utf-8"))
    for node in graph.values():
        if node["class_type"] == "CheckpointLoaderSimple":
            node["inputs"]["ckpt_name"] = "other.safetensors"
    for node_id, inputs in changes.items():
        graph[node_id.removeprefix("n")]["inputs"].update(inputs)
    return graph


def told(folder: Path, graph: object, said: str = "", info: Mapping[str, Any] | None = None) -> list[tuple[str, str]]:
    """What the doctor says of a template `t` with this graph (or text) and these lines in its manifest."""
    (folder / "t.json").write_text(graph if isinstance(graph, str) else json.dumps(graph), "utf-8")
    (folder / "t.manifest.toml").write_text(MANIFEST.format(said), "utf-8")
    return doctor_on(load_library(folder), info)


def doctor_on(
    library: Library, info: Mapping[str, Any] | None = None, language: Language = Language.ENGLISH
) -> list[tuple[str, str]]:
    listings = [] if info is None else [ServerListing.from_object_info(info)]
    catalogue = a_catalogue(*listings, library=library)
    texts = PHRASES.texts(language)
    findings = [template_finding(problem, catalogue.where(problem)) for problem in catalogue.problems()]
    return [(sentence(finding, texts), mend(finding, texts)) for finding in findings]


TWO_ENCODERS = recorded() | {
    "20": {"class_type": "CLIPTextEncode", "inputs": {"text": "in this style", "clip": ["4", 1]}},
    "21": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": ["6", 0], "conditioning_2": ["20", 0]}},
}
TWO_ENCODERS["3"]["inputs"]["positive"] = ["21", 0]


@pytest.mark.parametrize(
    ("graph", "said", "words", "advice"),
    [
        ("{ broken", "", "flujos/t.json is no whole JSON file", "Export (API)"),
        ({"nodes": [], "links": []}, "", "not in API format", "Export (API), and put that file over flujos/t.json"),
        (TWO_ENCODERS, "", "several nodes may be meant for prompt: 20, 6", '[roles.prompt] / node = "20" / input = "text"'),
        (
            TWO_ENCODERS,
            '[roles.prompt]\nnode = "6"',
            "input text of node 20 holds a text of the author",
            '[nodes] / fixed_text = ["20"]',
        ),
        (recorded(n6={"text": ["4", 0]}), "", "nothing was found in the graph for prompt", '[roles.prompt] / node = "NODE"'),
        (
            {node: said for node, said in recorded().items() if node != "9"},
            "",
            "nothing was found in the graph for output",
            '[nodes] / output = "NODE"',
        ),
        (recorded(), '[nodes]\nlocked = ["77"]', "the manifest names node 77, which the graph does not have", "write the id"),
        (recorded(), '[roles.seed]\nnode = "5"', "node 5 has no value seed", 'input = "NAME"'),
        (recorded(), '[roles.source]\nnode = "5"', "takes no source from people", "Delete [roles.source]"),
        (recorded(), "colour = 3", "flujos/t.manifest.toml, colour", "Mend that field"),
        (recorded() | {"save_1": recorded()["5"]}, "", "begins with save_", "another id"),
        (recorded(n6={"clip": ["77", 0]}), "", "linked to a node that the file does not have", "Export (API)"),
    ],
)
def test_a_fault_of_the_files_is_told_with_what_mends_it(
    tmp_path: Path, graph: object, said: str, words: str, advice: str
) -> None:
    ((found, mended),) = told(tmp_path, graph, said)
    assert words in found
    assert advice in mended
    assert "ComfyUI/models" not in mended


def test_the_line_that_is_proposed_mends_the_fault(tmp_path: Path) -> None:
    """What stands behind the last colon is TOML as it is, but for the slashes between its lines."""
    said, faults = "", told(tmp_path, TWO_ENCODERS)
    while faults:
        line = faults[0][1].rpartition(": ")[2]
        said += line.replace(" / ", "\n") + "\n"
        assert said.count("[") < 9, said
        faults = told(tmp_path, TWO_ENCODERS, said)
    assert 'node = "20"' in said
    assert 'fixed_text = ["6"]' in said


def test_a_file_that_lacks_its_other_half_is_named_as_a_pair(tmp_path: Path) -> None:
    (tmp_path / "lonely.json").write_text(json.dumps(recorded()), "utf-8")
    ((found, mended),) = doctor_on(load_library(tmp_path))
    assert found == "flujos/lonely.manifest.toml is not there: every template is a pair of lonely.json and lonely.manifest.toml."
    assert "docs/workflows.md" in mended


def test_what_a_server_lacks_is_told_with_its_name(tmp_path: Path) -> None:
    info = an_object_info()
    info["KSampler"]["input"]["required"]["cfg"][1]["max"] = 5.0
    info["VAEDecode"]["input"]["required"]["added_later"] = ["INT", {}]
    info["KSampler"]["input"]["required"]["scheduler"][0] = ["karras"]
    found = told(tmp_path, recorded(n3={"cfg": 8.0, "scheduler": "normal"}), info=info)
    sentences = [words for words, _ in found]
    assert "gpu-1 does not take 8.0 for KSampler.cfg." in sentences
    assert "on gpu-1 the node VAEDecode (8) needs added_later, which the export does not have." in sentences
    assert "gpu-1 does not offer normal for KSampler.scheduler; it offers: karras." in sentences


def test_every_fault_that_can_be_found_has_its_sentences_in_both_languages() -> None:
    """The codes are read from the source, so that a new one cannot be forgotten."""
    sources = [path.read_text("utf-8") for path in (ROOT / "modules" / "ai" / "workflows").glob("*.py")]
    raised = {code for text in sources for code in re.findall(r'GraphError\(\s*"([a-z_]+)"', text)}
    lacking = {code for text in sources for code in re.findall(r'_Lack\(\s*"([a-z_]+)"', text)} | {
        "picture_missing",
        "file_missing",
    }
    assert raised <= FILE_FAULTS
    assert lacking <= LACKS
    for language in Language:
        sentences = PHRASES.texts(language).sentences
        for code in (*(f"template_{what}" for what in FILE_FAULTS), *LACKS):
            assert f"doctor.{code}" in sentences, code
            assert f"doctor.mend.{code}" in sentences, code
