"""The promise: everybody's picture is the picture they would have had alone."""

import pytest
import torch

from .toy import SIZE, Patcher, Wish, alone, likeness_db, together

pytestmark = pytest.mark.torch

#: fp32 leaves about 120 dB after a few steps; a wrong row is below 40.
EXACT_DB = 100.0

PEOPLE = {
    "the same shape": [Wish(seed=seed) for seed in (1, 2, 3, 4)],
    "prompts of many lengths": [Wish(seed=seed, tokens=tokens) for seed, tokens in enumerate((5, 10, 7, 5, 16, 20), start=1)],
    "negatives of many lengths": [Wish(seed=seed, negative_tokens=tokens) for seed, tokens in enumerate((5, 10, 3, 5), start=1)],
    "everyone's own cfg": [Wish(seed=seed, cfg=cfg) for seed, cfg in enumerate((1.0, 4.0, 7.5, 1.0, 0.0, 4.0), start=1)],
    "everyone's own guidance": [Wish(seed=seed, guidance=value) for seed, value in enumerate((0.2, 1.5, None, 3.5), start=1)],
    "some with a pooled vector": [Wish(seed=seed, pooled=seed % 2 == 0) for seed in range(1, 6)],
    "reference pictures of many sizes": [Wish(seed=sum(sizes), references=sizes) for sizes in ((6,), (6, 6), (6,), (4,), ())],
    "one alone": [Wish(seed=9, tokens=11, cfg=3.0)],
    "sixteen": [Wish(seed=seed, tokens=5 + seed % 3, cfg=1.0 + seed % 4) for seed in range(16)],
    "a prompt for half of the steps": [Wish(seed=1), Wish(seed=2, extra={"start_percent": 0.5}), Wish(seed=3)],
    "a model that draws noise of its own": [Wish(seed=seed, extra={"augment": True}) for seed in (5, 6, 7)],
}  # fmt: skip


@pytest.mark.parametrize("people", PEOPLE.values(), ids=PEOPLE.keys())
@pytest.mark.parametrize("kind", ["cross", "joint", "bucket"])
def test_each_slot_equals_its_solo_run(kind: str, people: list[Wish]) -> None:
    patcher = Patcher(kind)
    merged = together(patcher, people)
    assert merged.shape[0] == len(people)
    for row, wish in enumerate(people):
        assert likeness_db(merged[row : row + 1], alone(patcher, wish)) > EXACT_DB


@pytest.mark.parametrize("sampler", ["euler", "euler_ancestral", "dpmpp_sde", "dpmpp_sde_gpu", "euler_cfg_pp"])
@pytest.mark.parametrize(
    "options", [{}, {"sampler_post_cfg_function": [lambda args: args["denoised"] * 0.9]}], ids=["plain", "patched"]
)
def test_every_sampler_treats_a_slot_as_alone(sampler: str, options: dict[str, object]) -> None:
    patcher = Patcher("cross", **options)
    people = [Wish(seed=3, cfg=1.0), Wish(seed=4, tokens=10), Wish(seed=2**64 - 2, cfg=6.0), Wish(seed=5, negative_tokens=10)]
    merged = together(patcher, people, sampler)
    for row, wish in enumerate(people):
        assert likeness_db(merged[row : row + 1], alone(patcher, wish, sampler)) > EXACT_DB


def test_input_pictures_and_masks_stay_with_their_slot() -> None:
    patcher = Patcher("joint")
    torch.manual_seed(1)
    people = [
        Wish(seed=seed, latent=torch.randn(1, 4, SIZE, SIZE), mask=(torch.rand(1, 1, SIZE, SIZE) > 0.5).float())
        for seed in (1, 2, 3)
    ]
    merged = together(patcher, people)
    for row, wish in enumerate(people):
        assert likeness_db(merged[row : row + 1], alone(patcher, wish)) > EXACT_DB


def test_a_neighbour_changes_nothing() -> None:
    patcher = Patcher("bucket")
    mine = Wish(seed=1, tokens=6)
    with_one = together(patcher, [mine, Wish(seed=2, tokens=3)])
    with_another = together(patcher, [mine, Wish(seed=77, tokens=7, cfg=9.0)])
    assert likeness_db(with_one[0], with_another[0]) > EXACT_DB
    assert likeness_db(with_one[1], with_another[1]) < 40


def test_equal_shapes_share_a_pass_and_a_patched_model_gets_one_pass_per_slot() -> None:
    plain, patched = Patcher("joint"), Patcher("joint", sampler_post_cfg_function=[lambda args: args["denoised"]])
    people = [Wish(seed=seed, cfg=cfg) for seed, cfg in ((1, 2.0), (2, 3.0), (3, 4.0))]
    together(plain, people, steps=1)
    together(patched, people, steps=1)
    assert plain.model.rows_seen == [3, 3]  # positives, negatives
    assert patched.model.rows_seen == [1] * 6
