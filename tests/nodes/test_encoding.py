"""Prompts encoded once, kept within bounds, and never mixed up between encoders."""

import gc
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_custom_nodes.adapter import encode_prompts, with_guidance
from comfy_custom_nodes.encode_cache import EncodeCache

pytestmark = pytest.mark.torch


class Encoder:
    """Stands for a text encoder's weights."""


class Clip:
    """What a CLIP link carries; `encoded` lists the texts it really encoded."""

    def __init__(self, encoder: Encoder | None = None) -> None:
        self.cond_stage_model = encoder or Encoder()
        self.patcher = SimpleNamespace(patches_uuid="base", forced_hooks=None)
        self.layer_idx: int | None = None
        self.use_clip_schedule = False
        self.apply_hooks_to_conds: object | None = None
        self.tokenizer_options: dict[str, Any] = {}
        self.encoded: list[str] = []

    def tokenize(self, text: str) -> str:
        return text

    def encode_from_tokens_scheduled(self, tokens: str) -> list[list[Any]]:
        self.encoded.append(tokens)
        tensor = torch.full((1, 4, 8), float(len(tokens)))
        return [[tensor, {"pooled_output": tensor.mean(dim=1)}]]


def a_conditioning(size: int = 8) -> list[list[Any]]:
    return [[torch.ones(1, size), {}]]


def test_equal_prompts_of_one_run_are_encoded_once_and_come_in_order() -> None:
    clip = Clip()
    found = encode_prompts(clip, ["aa", "b", "aa", ""], None)
    assert clip.encoded == ["aa", "b", ""]
    assert [conditioning[0][0][0, 0, 0].item() for conditioning in found] == [2.0, 1.0, 2.0, 0.0]


def test_a_known_prompt_is_not_encoded_again() -> None:
    clip, cache = Clip(), EncodeCache()
    first = encode_prompts(clip, ["a fox"], cache)
    again = encode_prompts(clip, ["a fox", "a cat"], cache)
    assert clip.encoded == ["a fox", "a cat"]
    assert torch.equal(first[0][0][0], again[0][0][0])
    assert torch.equal(first[0][0][1]["pooled_output"], again[0][0][1]["pooled_output"])


@pytest.mark.parametrize("change", ["patches", "layer", "tokenizer", "encoder"])
def test_anything_that_changes_the_encoder_is_a_miss(change: str) -> None:
    clip, cache = Clip(), EncodeCache()
    encode_prompts(clip, ["a fox"], cache)
    if change == "patches":
        clip.patcher.patches_uuid = "with a LoRA"
    elif change == "layer":
        clip.layer_idx = -2
    elif change == "tokenizer":
        clip.tokenizer_options = {"min_length": 512}
    else:
        clip.cond_stage_model = Encoder()
    encode_prompts(clip, ["a fox"], cache)
    assert clip.encoded == ["a fox", "a fox"]


@pytest.mark.parametrize("name", ["use_clip_schedule", "apply_hooks_to_conds", "forced_hooks"])
def test_an_encoder_with_hooks_is_never_cached(name: str) -> None:
    clip, cache = Clip(), EncodeCache()
    setattr(clip.patcher if name == "forced_hooks" else clip, name, True)
    encode_prompts(clip, ["a fox"], cache)
    encode_prompts(clip, ["a fox"], cache)
    assert clip.encoded == ["a fox", "a fox"]
    assert len(cache) == 0


def test_guidance_of_one_slot_does_not_stick_to_the_cached_prompt() -> None:
    clip, cache = Clip(), EncodeCache()
    first = with_guidance(encode_prompts(clip, ["a fox"], cache)[0], 2.0)
    first[0][1]["guidance"] = 9.0
    assert "guidance" not in encode_prompts(clip, ["a fox"], cache)[0][0][1]


def test_two_slots_with_one_prompt_share_no_settings() -> None:
    first, second = encode_prompts(Clip(), ["a fox", "a fox"], None)
    first[0][1]["guidance"] = 9.0
    assert "guidance" not in second[0][1]


def test_an_entry_dies_with_its_encoder() -> None:
    cache = EncodeCache()
    reborn = next((one for one in (_with_the_id_of_a_dead_one(cache) for _ in range(100)) if one is not None), None)
    assert reborn is not None, "Python gave no old id to anybody: this test proves nothing"
    assert cache.get(reborn, "a fox") is None
    cache.put(reborn, "a cat", a_conditioning())
    assert len(cache) == 1


def _with_the_id_of_a_dead_one(cache: EncodeCache) -> Encoder | None:
    """An encoder where another one was, whose prompt the cache has kept; None when Python put it elsewhere."""
    encoder = Encoder()
    cache.put(encoder, "a fox", a_conditioning())
    old_id = id(encoder)
    del encoder
    gc.collect()
    others: list[Encoder] = []
    while len(others) < 1_000:
        others.append(Encoder())
        if id(others[-1]) == old_id:
            return others[-1]
    return None


def test_the_least_recently_used_goes_first() -> None:
    cache, encoder = EncodeCache(max_bytes=3 * 32), Encoder()
    for name in ("a", "b", "c"):
        cache.put(encoder, name, a_conditioning())
    assert cache.get(encoder, "a") is not None
    cache.put(encoder, "d", a_conditioning())
    assert [name for name in "abcd" if cache.get(encoder, name) is not None] == ["a", "c", "d"]


def test_what_is_larger_than_the_cache_is_not_kept_and_pushes_nothing_out() -> None:
    cache, encoder = EncodeCache(max_bytes=100), Encoder()
    cache.put(encoder, "small", a_conditioning())
    cache.put(encoder, "large", a_conditioning(1000))
    assert cache.get(encoder, "small") is not None
    assert cache.get(encoder, "large") is None


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 60)), max_size=60))
def test_the_cache_stays_within_its_bounds_and_counts_right(puts: list[tuple[str, int]]) -> None:
    cache, encoder = EncodeCache(max_bytes=400, max_entries=4), Encoder()
    for name, size in puts:
        cache.put(encoder, name, a_conditioning(size))
        kept = [cache.get(encoder, key) for key in "abcdef"]
        assert cache.size_bytes == sum(found[0][0].nbytes for found in kept if found is not None) <= 400
        assert len(cache) <= 4
