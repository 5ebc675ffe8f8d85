"""Prompts of different lengths in one pass of a Z-Image model (NextDiT), exactly.

Such a model pads every prompt itself, up to the next multiple of `pad_tokens_multiple` tokens, with a learned
`cap_pad_token` that enters *after* `cap_embedder`. Two prompts of one bucket differ only in how many of these tokens they
get, so they can share a pass if the shorter one is lengthened beforehand and the added rows become `cap_pad_token`
behind the embedder. The added rows are NaN: that survives casts and any reordering of the batch on its way there.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

#: Pictures or vision features among the tokens: another layout, where the simple reasoning above does not hold.
#: A mask would have to grow with the tokens; stock text encoders for these models give none.
LEAVE_ALONE = frozenset({"attention_mask", "ref_latents", "ref_contexts", "siglip_feats", "clip_text_pooled"})


def bucket_size(diffusion_model: Any) -> int | None:
    """The model's bucket in tokens, or None where the trick does not apply."""
    multiple = getattr(diffusion_model, "pad_tokens_multiple", None)
    has_parts = all(hasattr(diffusion_model, name) for name in ("cap_pad_token", "cap_embedder"))
    return multiple if isinstance(multiple, int) and multiple > 1 and has_parts else None


def lengthen(entries: Sequence[dict[str, Any]], multiple: int) -> list[dict[str, Any]]:
    """Conditioning entries whose tokens fill their bucket; those with more than plain text stay as they are."""
    return [_lengthened(entry, multiple) if _is_plain(entry["model_conds"]) else entry for entry in entries]


@contextmanager
def padded_rows_become_pad_tokens(diffusion_model: Any) -> Iterator[None]:
    """While inside, rows of NaN leave `cap_embedder` as the model's own pad token."""
    seen: list[torch.Tensor] = []

    def hide(_module: object, args: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        # The embedder itself never sees a NaN: quantised layers scale by the largest value of the whole batch.
        padded = args[0].isnan().all(dim=-1, keepdim=True)
        seen[:] = [padded]
        return (args[0].masked_fill(padded, 0.0), *args[1:])

    def replace(_module: object, _args: object, embedded: torch.Tensor) -> torch.Tensor:
        pad_token = diffusion_model.cap_pad_token.to(device=embedded.device, dtype=embedded.dtype)
        return torch.where(seen.pop(), pad_token, embedded)

    embedder = diffusion_model.cap_embedder
    hooks = [embedder.register_forward_pre_hook(hide), embedder.register_forward_hook(replace)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_plain(model_conds: dict[str, Any]) -> bool:
    return {"c_crossattn", "num_tokens"} <= model_conds.keys() and not LEAVE_ALONE & model_conds.keys()


def _lengthened(entry: dict[str, Any], multiple: int) -> dict[str, Any]:
    conds = entry["model_conds"]
    tokens = conds["c_crossattn"].cond
    missing = -tokens.shape[1] % multiple
    padding = tokens.new_full((tokens.shape[0], missing, tokens.shape[2]), float("nan"))
    filled = torch.cat([tokens, padding], dim=1)
    changed = {
        "c_crossattn": type(conds["c_crossattn"])(filled),
        "num_tokens": type(conds["num_tokens"])(filled.shape[1]),
    }
    return {**entry, "model_conds": {**conds, **changed}}
