"""What the nodes of our own pack do here; comfy_custom_nodes/PROTOCOL.md is their contract."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from modules.sandbox.comfy_server.call import Call, Evaluator, Result, Saving
from modules.sandbox.comfy_server.models import UNET_SHARED
from modules.sandbox.comfy_server.sampling import guided_sampling
from modules.sandbox.comfy_server.slots import (
    MergeFailedError,
    agree,
    read_cfg,
    read_guidance,
    read_prompts,
    read_save_slots,
    read_seeds,
    spread,
)
from modules.sandbox.comfy_server.stock import conditioning_of, encode_seconds
from modules.sandbox.comfy_server.values import (
    Conditioning,
    Guider,
    GuiderSlot,
    Images,
    Latent,
    Noise,
    SamplerChoice,
    Sigmas,
    SlotConditionings,
    TextEncoder,
    Weights,
)

T = TypeVar("T")


def encode_batch(call: Call) -> Result:
    """All prompts through the encoder in one go, which shares its start-up like a small sampling batch."""
    encoder, prompts = call.value("clip", TextEncoder), read_prompts(call.text("prompts"))
    guidances = spread(read_guidance(call.text("guidance")), len(prompts), "guidance")
    slots = tuple(conditioning_of(encoder, prompt, guidance) for prompt, guidance in zip(prompts, guidances, strict=True))
    together = UNET_SHARED + (1 - UNET_SHARED) * len(slots)
    return Result((SlotConditionings(slots),), seconds=encode_seconds(encoder) * together)


def encode_batch_of_another_pack(call: Call) -> Result:
    """All lines become one ordinary conditioning: the texts are blended, which is just what must not happen."""
    encoder = call.value("clip", TextEncoder)
    blended = " / ".join(call.text("texts").splitlines())
    return Result((conditioning_of(encoder, blended),), seconds=encode_seconds(encoder))


def merge_conditioning(call: Call) -> Result:
    return Result((SlotConditionings(tuple(_without_gaps(call, "cond", Conditioning))),))


def _without_gaps(call: Call, prefix: str, kind: type[T]) -> list[T]:
    used = sorted(int(name.removeprefix(f"{prefix}_")) for name in call.inputs if name.startswith(f"{prefix}_"))
    if used != list(range(len(used))):
        raise MergeFailedError("slot_gap", f"the inputs {prefix}_0, {prefix}_1, ... must be used without gaps.")
    return [call.value(f"{prefix}_{index}", kind) for index in used]


def merge_select(call: Call) -> Result:
    slots, index = call.value("conds", SlotConditionings).slots, call.integer("index")
    if index >= len(slots):
        raise MergeFailedError("slot_index", f"slot {index} was asked for, there are {len(slots)}.")
    return Result((slots[index],))


def _guider(call: Call) -> Guider:
    positive = call.value("positive", SlotConditionings).slots
    given = call.optional("negative", SlotConditionings)
    negative: tuple[Conditioning | None, ...] = (None,) * len(positive)
    if given is not None:
        negative = given.slots * len(positive) if len(given.slots) == 1 else given.slots
        agree(len(negative), len(positive), "negative")
    scales = spread(read_cfg(call.text("cfg")), len(positive), "cfg")
    slots = tuple(GuiderSlot(*parts) for parts in zip(positive, negative, scales, strict=True))
    return Guider(call.value("model", Weights), slots, merged=True, max_rows=call.integer("max_rows"))


def merge_guider(call: Call) -> Result:
    return Result((_guider(call),))


def merge_noise(call: Call) -> Result:
    return Result((Noise(tuple(read_seeds(call.text("seeds"))), per_slot=True),))


def merge_sampler(call: Call) -> Result:
    chosen = call.value("sampler", SamplerChoice)
    return Result((replace(chosen, seeds=tuple(read_seeds(call.text("seeds")))),))


def merge_ksampler(call: Call) -> Result:
    seeds = tuple(read_seeds(call.text("seeds")))
    guider = _guider(call)
    agree(len(seeds), len(guider.slots), "seeds")
    latent, sampling = guided_sampling(
        guider,
        Noise(seeds, per_slot=True),
        SamplerChoice(call.text("sampler_name"), seeds),
        Sigmas(call.text("scheduler"), call.integer("steps", 20), call.number("denoise", 1.0)),
        call.value("latent_image", Latent),
    )
    return Result((latent,), sampling=sampling)


def merge_latents(call: Call) -> Result:
    latents = _without_gaps(call, "latent", Latent)
    if any(len(latent.rows) != 1 for latent in latents) or len({(latent.width, latent.height) for latent in latents}) != 1:
        raise MergeFailedError("latent_shape", "every slot needs exactly one picture, all of one size.")
    masks = tuple(latent.row_mask(0) for latent in latents)
    rows = tuple(latent.rows[0] for latent in latents)
    return Result((Latent(latents[0].width, latents[0].height, rows, latents[0].channels, masks),))


def merge_save_image(call: Call) -> Result:
    pictures, slots = call.value("images", Images).pictures, read_save_slots(call.text("slots"))
    agree(len(pictures), len(slots), "the picture batch")
    saving = Saving(
        pictures,
        tuple(prefix for _, prefix in slots),
        "temp" if call.text("type") == "temp" else "output",
        with_graph=False,
        labels=tuple({"slot": index, "id": name} for index, (name, _) in enumerate(slots)),
    )
    return Result(saving=saving)


PACK: Mapping[str, Evaluator] = {
    "CLIPTextEncodeBatch": encode_batch,
    "FuLLetMergeConditioning": merge_conditioning,
    "FuLLetMergeSelect": merge_select,
    "FuLLetMergeGuider": merge_guider,
    "FuLLetMergeNoise": merge_noise,
    "FuLLetMergeSampler": merge_sampler,
    "FuLLetMergeKSampler": merge_ksampler,
    "FuLLetMergeLatents": merge_latents,
    "FuLLetMergeSaveImage": merge_save_image,
}
