"""Random numbers: one stream per slot, and what cannot have one is refused."""

from typing import Any

import comfy.sample
import comfy.samplers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comfy_custom_nodes.adapter import MergeCond, MergeGuider, SlotNoise, SlotSampler
from comfy_custom_nodes.protocol import MergeError

from .toy import SIZE, Patcher, Wish, together

pytestmark = pytest.mark.torch


@settings(deadline=None)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=16))
def test_a_row_of_noise_is_the_noise_of_its_seed(seeds: list[int]) -> None:
    noise = SlotNoise(seeds).generate_noise({"samples": torch.zeros(len(seeds), 4, 3, 3)})
    for row, seed in enumerate(seeds):
        assert torch.equal(noise[row : row + 1], comfy.sample.prepare_noise(torch.zeros(1, 4, 3, 3), seed))


def test_equal_seeds_give_equal_pictures_even_with_a_stochastic_sampler() -> None:
    twins = together(Patcher("cross"), [Wish(seed=5), Wish(seed=6), Wish(seed=5)], "euler_ancestral")
    assert torch.allclose(twins[0], twins[2], atol=1e-5)
    assert not torch.allclose(twins[0], twins[1], atol=0.1)


def test_as_many_seeds_as_latents() -> None:
    with pytest.raises(MergeError) as caught:
        SlotNoise([1, 2, 3]).generate_noise({"samples": torch.zeros(2, 4, 3, 3)})
    assert caught.value.code == "slot_count"


def a_custom_sampler(model: Any, x: Any, sigmas: Any, **_: Any) -> Any:
    return x


@pytest.mark.parametrize(
    "sampler",
    [
        comfy.samplers.KSAMPLER(a_custom_sampler),
        comfy.samplers.KSAMPLER(comfy.samplers.sampler_object("euler").sampler_function, {"s_churn": 0.1}),
        comfy.samplers.sampler_object("dpm_adaptive"),
        object(),
    ],
    ids=["of another pack", "s_churn", "steps that follow the whole batch", "no sampler of ComfyUI's"],
)
def test_a_sampler_that_might_mix_slots_is_refused_for_several_and_taken_for_one(sampler: Any) -> None:
    with pytest.raises(MergeError) as caught:
        SlotSampler(sampler, [1, 2])
    assert caught.value.code == "sampler_refused"
    assert SlotSampler(sampler, [1]).sampler is sampler


def test_one_random_noise_for_all_masks_is_refused() -> None:
    sampler = comfy.samplers.sampler_object("euler")
    sampler.inpaint_options = {"random": True}
    patcher = Patcher("cross")
    people = [Wish(seed=1), Wish(seed=2)]
    guider = MergeGuider(patcher, MergeCond(tuple(wish.positive for wish in people)), None, [1.0, 1.0])
    latent, noise = torch.zeros(2, 4, SIZE, SIZE), SlotNoise([1, 2])
    arguments = noise.generate_noise({"samples": latent}), latent, SlotSampler(sampler, [1, 2]), comfy.samplers.sigmas_for(2)
    assert guider.sample(*arguments, seed=noise.seed).shape == latent.shape
    with pytest.raises(MergeError) as caught:
        guider.sample(*arguments, denoise_mask=torch.ones(2, 1, SIZE, SIZE), seed=noise.seed)
    assert caught.value.code == "sampler_refused"


def test_noise_and_sampler_must_have_the_same_seeds() -> None:
    patcher = Patcher("cross")
    guider = MergeGuider(patcher, MergeCond((Wish(seed=1).positive, Wish(seed=2).positive)), None, [1.0, 1.0])
    latent, noise = torch.zeros(2, 4, SIZE, SIZE), SlotNoise([1, 2])
    sampler = SlotSampler(comfy.samplers.sampler_object("euler_ancestral"), [2, 1])
    with pytest.raises(MergeError) as caught:
        guider.sample(noise.generate_noise({"samples": latent}), latent, sampler, comfy.samplers.sigmas_for(2), seed=noise.seed)
    assert caught.value.code == "seeds_differ"
