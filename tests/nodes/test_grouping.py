"""Who shares a pass with whom, and what is repeated for it."""

from typing import Any

import pytest
import torch
from comfy.conds import CONDConstant, CONDCrossAttn, CONDRegular
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_custom_nodes.core import SPECIAL, SlotConds, can_merge, merge_entries, plan_groups

pytestmark = pytest.mark.torch

Kind = type[CONDRegular]


def an_entry(tokens: int, kind: Kind = CONDRegular, **special: Any) -> dict[str, Any]:
    return {"model_conds": {"c_crossattn": kind(torch.randn(1, tokens, 4))}, **special}


def a_slot(tokens: int, negative: int = 5, cfg: float = 4.0, kind: Kind = CONDRegular, **special: Any) -> SlotConds:
    return SlotConds([an_entry(tokens, kind, **special)], [an_entry(negative, kind)], cfg)


slots = st.builds(
    a_slot,
    tokens=st.integers(1, 12),
    negative=st.integers(1, 3),
    cfg=st.sampled_from([1.0, 2.0, 5.0]),
    kind=st.sampled_from([CONDRegular, CONDCrossAttn]),
)


@settings(deadline=None)
@given(st.lists(slots, min_size=1, max_size=16), st.booleans())
def test_every_slot_is_in_one_group_and_every_group_can_be_joined(people: list[SlotConds], always: bool) -> None:
    groups = plan_groups(people, CONDCrossAttn, always_negative=always)
    assert sorted(row for group in groups for row in group) == list(range(len(people)))
    for group in groups:
        members = [people[row] for row in group]
        assert len({member.wants_negative(always) for member in members}) == 1
        assert len(members) == 1 or can_merge([member.positive for member in members], CONDCrossAttn)
        assert merge_entries([member.positive for member in members])[0]["model_conds"].keys() == {"c_crossattn"}


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=16))
def test_tokens_of_a_joint_attention_are_never_repeated(lengths: list[int]) -> None:
    for group in plan_groups([a_slot(length) for length in lengths], CONDCrossAttn):
        assert len({lengths[row] for row in group}) == 1


@settings(deadline=None)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=16))
def test_tokens_of_a_cross_attention_are_repeated_whole_and_at_most_four_times(lengths: list[int]) -> None:
    people = [a_slot(length, kind=CONDCrossAttn) for length in lengths]
    for group in plan_groups(people, CONDCrossAttn):
        joined = merge_entries([people[row].positive for row in group])[0]["model_conds"]["c_crossattn"].cond
        for place, row in enumerate(group):
            times, rest = divmod(joined.shape[1], lengths[row])
            assert rest == 0
            assert times <= 4
            mine = people[row].positive[0]["model_conds"]["c_crossattn"].cond
            assert torch.equal(joined[place : place + 1], mine.repeat(1, times, 1))


@pytest.mark.parametrize("name", sorted(SPECIAL))
def test_a_special_conditioning_gets_passes_of_its_own(name: str) -> None:
    people = [a_slot(5), SlotConds([an_entry(5) | {name: object()}], [an_entry(5)], 4.0), a_slot(5)]
    assert plan_groups(people, CONDCrossAttn) == [(0, 2), (1,)]


def test_several_entries_of_one_person_stay_together_and_apart_from_others() -> None:
    combined = SlotConds([an_entry(5), an_entry(5)], [an_entry(5)], 4.0)
    assert plan_groups([combined, a_slot(5), combined], CONDCrossAttn) == [(0,), (1,), (2,)]
    assert merge_entries([combined.positive]) is combined.positive


def test_a_scale_of_one_needs_no_negative_and_joins_its_like() -> None:
    people = [a_slot(5, cfg=1.0), a_slot(5, negative=9, cfg=3.0), a_slot(5, negative=3, cfg=1.0)]
    assert plan_groups(people, CONDCrossAttn) == [(0, 2), (1,)]
    assert plan_groups(people, CONDCrossAttn, always_negative=True) == [(0,), (1,), (2,)]


def test_different_values_or_keys_are_never_joined() -> None:
    def with_value(**conds: Any) -> SlotConds:
        entry = an_entry(5)
        entry["model_conds"] |= conds
        return SlotConds([entry], None, 1.0)

    people = [
        with_value(size=CONDConstant((1, 2))),
        with_value(size=CONDConstant((3, 4))),
        with_value(),
        with_value(size=CONDConstant((1, 2))),
    ]
    assert plan_groups(people, CONDCrossAttn) == [(0, 3), (1,), (2,)]


def test_a_conditioning_of_several_rows_counts_as_its_first() -> None:
    many = SlotConds([{"model_conds": {"c_crossattn": CONDRegular(torch.randn(3, 5, 4))}}], None, 1.0)
    joined = merge_entries([many.positive, a_slot(5).positive])[0]["model_conds"]["c_crossattn"].cond
    assert joined.shape == (2, 5, 4)
    assert torch.equal(joined[0], many.positive[0]["model_conds"]["c_crossattn"].cond[0])


def test_values_of_different_kinds_are_never_joined() -> None:
    assert plan_groups([a_slot(5), a_slot(5, kind=CONDCrossAttn)], CONDCrossAttn) == [(0,), (1,)]
    assert plan_groups([a_slot(5, kind=CONDCrossAttn), a_slot(5)], CONDCrossAttn) == [(0,), (1,)]
