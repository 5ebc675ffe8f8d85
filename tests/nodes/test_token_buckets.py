"""Prompts of different lengths in one pass of a model that fills its tokens itself."""

import pytest
import torch
from comfy.conds import CONDConstant, CONDList, CONDRegular

from comfy_custom_nodes.token_buckets import bucket_size, lengthen, padded_rows_become_pad_tokens

from .toy import BUCKET, WIDTH, Patcher, ToyModel, Wish, alone, likeness_db, together

pytestmark = pytest.mark.torch


def an_entry(tokens: int, **more: CONDRegular) -> dict[str, dict[str, CONDRegular]]:
    conds = {"c_crossattn": CONDRegular(torch.randn(1, tokens, WIDTH)), "num_tokens": CONDConstant(tokens)}
    return {"model_conds": {**conds, **more}}


def test_prompts_of_one_bucket_share_a_pass_and_stay_exact() -> None:
    patcher = Patcher("bucket")
    people = [Wish(seed=seed, tokens=tokens, cfg=1.0) for seed, tokens in enumerate((3, 8, 5, 9, 16), start=1)]
    merged = together(patcher, people, steps=2)
    assert patcher.model.rows_seen == [3, 2, 3, 2]
    for row, wish in enumerate(people):
        assert likeness_db(merged[row : row + 1], alone(patcher, wish, steps=2)) > 100


def test_the_embedder_sees_no_nan_and_the_padding_is_the_models_own() -> None:
    model = ToyModel("bucket").requires_grad_(False)
    seen: list[bool] = []
    model.cap_embedder[0].register_forward_pre_hook(lambda _module, args: seen.append(bool(args[0].isnan().any())))
    filled = lengthen([an_entry(5)], BUCKET)[0]["model_conds"]
    assert filled["num_tokens"].cond == BUCKET
    with padded_rows_become_pad_tokens(model):
        embedded = model.cap_embedder(filled["c_crossattn"].cond)
    assert seen == [False]
    assert torch.equal(embedded[0, 5:], model.cap_pad_token.expand(3, WIDTH))
    assert not embedded.isnan().any()


def test_the_hooks_are_gone_afterwards_even_after_a_failure() -> None:
    model = ToyModel("bucket").requires_grad_(False)

    def fails() -> None:
        with padded_rows_become_pad_tokens(model):
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        fails()
    assert model.cap_embedder(torch.full((1, 1, WIDTH), float("nan"))).isnan().all()


@pytest.mark.parametrize("name", ["attention_mask", "ref_latents", "siglip_feats"])
def test_more_than_plain_text_is_left_alone(name: str) -> None:
    entry = an_entry(5, **{name: CONDList([torch.ones(1, 1)])})
    assert lengthen([entry], BUCKET) == [entry]


def test_only_models_that_fill_tokens_themselves_have_buckets() -> None:
    assert bucket_size(ToyModel("bucket")) == BUCKET
    assert bucket_size(ToyModel("joint")) is None
    assert bucket_size(None) is None
