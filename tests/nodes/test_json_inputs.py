"""Per-slot values as JSON: anything may arrive, only what is described gets through."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_custom_nodes.protocol import ERROR_PREFIX, MAX_SLOTS, MergeError
from comfy_custom_nodes.slots import (
    agree,
    parse_cfg,
    parse_guidance,
    parse_prompts,
    parse_save_slots,
    parse_seeds,
    spread,
    verdict,
)

PARSERS: list[Callable[[str], Any]] = [parse_prompts, parse_seeds, parse_cfg, parse_guidance, parse_save_slots]

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@pytest.mark.parametrize("parse", PARSERS)
@settings(deadline=None)
@given(st.text() | any_json.map(json.dumps))
def test_whatever_arrives_is_read_or_refused_in_our_words(parse: Callable[[str], Any], text: str) -> None:
    said = verdict(parse, text)  # an exception of any other kind would end this test
    assert said is None or said.startswith(f"{ERROR_PREFIX}bad_json: ")


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=MAX_SLOTS))
def test_prompts_arrive_as_they_were_sent(prompts: list[str]) -> None:
    assert parse_prompts(json.dumps(prompts)) == tuple(prompts)
    assert parse_prompts(json.dumps(prompts, ensure_ascii=False)) == tuple(prompts)


def test_awkward_prompts_arrive_as_they_were_sent() -> None:
    prompts = ['"quoted"', "line\nline\r\n", '["a", {"b": 1}]', "🦊👩‍👩‍👧", "x" * 5000, "", "\u0000", "(weighted:1.2) \\( \\)"]
    assert parse_prompts(json.dumps(prompts)) == tuple(prompts)


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=MAX_SLOTS))
def test_seeds_keep_all_their_64_bits(seeds: list[int]) -> None:
    assert parse_seeds(json.dumps(seeds)) == tuple(seeds)


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_prompts, "[]"),
        (parse_prompts, json.dumps(["x"] * (MAX_SLOTS + 1))),
        (parse_prompts, '"just a text"'),
        (parse_prompts, "a fox in the snow"),
        (parse_prompts, '["half a character \\ud83e"]'),
        (parse_prompts, "[1]"),
        (parse_prompts, "[" * 100_000),
        (parse_seeds, "[1.0]"),
        (parse_seeds, "[true]"),
        (parse_seeds, "[-1]"),
        (parse_seeds, f"[{2**64}]"),
        (parse_seeds, f"[{'9' * 10_000}]"),
        (parse_seeds, "7"),
        (parse_cfg, "NaN"),
        (parse_cfg, "[1, Infinity]"),
        (parse_cfg, "1e999"),
        (parse_cfg, "-0.1"),
        (parse_cfg, "100.5"),
        (parse_cfg, "true"),
        (parse_cfg, "[null]"),
        (parse_cfg, ""),
        (parse_guidance, "[101]"),
        (parse_guidance, '"3.5"'),
        (parse_save_slots, '[{"id": "a"}]'),
        (parse_save_slots, '[{"id": "a", "prefix": "p", "more": 1}]'),
        (parse_save_slots, '[{"id": "a b", "prefix": "p"}]'),
        (parse_save_slots, '[{"id": "a", "prefix": "p"}, {"id": "a", "prefix": "q"}]'),
    ],
)
def test_what_is_not_described_is_refused(parse: Callable[[str], Any], text: str) -> None:
    with pytest.raises(MergeError) as caught:
        parse(text)
    assert caught.value.code == "bad_json"


@pytest.mark.parametrize("prefix", ["", "../up", "a/../../b", "/etc/x", "C:\\x", "a\\b", "a\nb", "a\x00b", "x" * 201, "a\x7fb"])
def test_a_prefix_cannot_leave_its_folder(prefix: str) -> None:
    with pytest.raises(MergeError):
        parse_save_slots(json.dumps([{"id": "a", "prefix": prefix}]))


def test_no_message_repeats_what_was_sent() -> None:
    for parse in PARSERS:
        said = verdict(parse, '["a secret prompt", 17, {"secret": "secret"}')
        assert said is not None
        assert "secret" not in said


def test_one_value_serves_all_and_a_list_must_fit() -> None:
    assert spread(parse_cfg("4"), 3, "cfg") == (4.0, 4.0, 4.0)
    assert spread(parse_cfg("[1, 2.5]"), 2, "cfg") == (1.0, 2.5)
    assert spread(parse_guidance("  "), 2, "guidance") == (None, None)
    assert spread(parse_guidance("[null, 3]"), 2, "guidance") == (None, 3.0)
    with pytest.raises(MergeError) as caught:
        spread(parse_cfg("[1, 2]"), 3, "cfg")
    assert caught.value.code == "slot_count"
    with pytest.raises(MergeError):
        agree(2, 3, "seeds")


def test_an_input_that_is_linked_is_judged_later() -> None:
    assert verdict(parse_prompts, None) is None
