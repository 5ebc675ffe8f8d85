"""What the nodes of our own pack do here, and the checks they make before a prompt is queued."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from modules.sandbox.comfy_server.call import Call, Evaluator, NodeFailedError, Result, Saving
from modules.sandbox.comfy_server.models import COSTS, shared_part
from modules.sandbox.comfy_server.objects import MAX_SLOTS
from modules.sandbox.comfy_server.sampling import guided_sampling
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

#: The one sampler whose step size is decided by the whole batch, so its slots cannot be exact.
UNMERGEABLE_SAMPLER = "dpm_adaptive"
#: Encoding is small matrices: several prompts share most of the encoder's start-up.
_ENCODE_MP = 0.0

# --- the JSON inputs ---------------------------------------------------------------------------------------------------


def _texts(text: str) -> list[str]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError("must be a JSON list of texts")
    return value


def _numbers(text: str) -> float | list[float]:
    value = json.loads(text)
    items = value if isinstance(value, list) else [value]
    if not items or not all(isinstance(item, int | float) and not isinstance(item, bool) for item in items):
        raise ValueError("must be a JSON number or a list of numbers")
    return value  # type: ignore[no-any-return]  # checked item by item above


def _seeds(text: str) -> list[int]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(item, int) and 0 <= item < 2**64 for item in value):
        raise ValueError("must be a JSON list of whole numbers from 0 to 2^64-1")
    return value


def _save_slots(text: str) -> list[tuple[str, str]]:
    value = json.loads(text)
    if not isinstance(value, list) or not all(isinstance(item, dict) and {"id", "prefix"} <= item.keys() for item in value):
        raise ValueError("must be a JSON list of {id, prefix}")
    return [(str(item["id"]), str(item["prefix"])) for item in value]


def _optional_numbers(text: str) -> float | list[float | None] | None:
    value = json.loads(text or "null")
    items = value if isinstance(value, list) else [value]
    if not all(item is None or (isinstance(item, int | float) and not isinstance(item, bool)) for item in items):
        raise ValueError("must be null, a JSON number or a list of numbers")
    return value  # type: ignore[no-any-return]  # checked item by item above


_JSON_INPUTS: Mapping[str, Mapping[str, Callable[[str], object]]] = {
    "CLIPTextEncodeBatch": {"prompts": _texts, "guidance": _optional_numbers},
    "MergeGuider": {"cfg": _numbers},
    "MergeNoise": {"seeds": _seeds},
    "MergeSampler": {"seeds": _seeds},
    "MergeKSampler": {"seeds": _seeds, "cfg": _numbers},
    "MergeSaveImage": {"slots": _save_slots},
}


def validate_pack_inputs(class_type: str, inputs: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """(input, what is wrong) for each JSON input that does not read; ValueError covers JSONDecodeError."""
    for name, read in _JSON_INPUTS.get(class_type, {}).items():
        if name in inputs and not isinstance(inputs[name], list):
            try:
                value = read(str(inputs[name]))
            except ValueError as problem:
                yield name, str(problem)
                continue
            if isinstance(value, list) and not 1 <= len(value) <= MAX_SLOTS:
                yield name, f"needs 1 to {MAX_SLOTS} entries, got {len(value)}"


def _spread(value: float | list[float] | list[float | None] | None, count: int, what: str) -> list[float | None]:
    """One value for every slot. Raises `NodeFailedError` when a list has another length."""
    if not isinstance(value, list):
        return [value] * count
    if len(value) != count:
        raise NodeFailedError(f"FuLLet merge: {len(value)} values of {what} for {count} slots", "ValueError")
    return [*value]


# --- nodes -------------------------------------------------------------------------------------------------------------


def encode_batch(call: Call) -> Result:
    encoder, prompts = call.value("clip", TextEncoder), _texts(call.text("prompts"))
    guidances = _spread(_optional_numbers(call.text("guidance", "null")), len(prompts), "guidance")
    slots = tuple(conditioning_of(encoder, prompt, guidance) for prompt, guidance in zip(prompts, guidances, strict=True))
    return Result((SlotConditionings(slots),), seconds=encode_seconds(encoder) * _together(len(slots)))


def _together(count: int) -> float:
    """How many times one prompt's encoding several prompts take in one pass."""
    shared = shared_part(next(iter(COSTS)), _ENCODE_MP)
    return shared + (1 - shared) * count


def encode_batch_of_another_pack(call: Call) -> Result:
    """All lines become one ordinary conditioning: the texts are blended, which is just what must not happen."""
    encoder = call.value("clip", TextEncoder)
    return Result((conditioning_of(encoder, " / ".join(call.text("texts").splitlines())),), seconds=encode_seconds(encoder))


def merge_conditioning(call: Call) -> Result:
    slots = tuple(call.numbered("cond", Conditioning))
    if not slots:
        raise NodeFailedError("FuLLet merge: cond_1 is missing", "ValueError")
    return Result((SlotConditionings(slots),))


def merge_select(call: Call) -> Result:
    slots, index = call.value("conditioning", SlotConditionings).slots, call.integer("index")
    if index >= len(slots):
        raise NodeFailedError(f"FuLLet merge: slot {index} of {len(slots)}", "ValueError")
    return Result((slots[index],))


def _merged_guider(call: Call) -> Guider:
    positive = call.value("positive", SlotConditionings).slots
    negative = call.optional("negative", SlotConditionings)
    if negative is not None and len(negative.slots) != len(positive):
        raise NodeFailedError(f"FuLLet merge: {len(negative.slots)} negatives for {len(positive)} slots", "ValueError")
    strengths = _spread(_numbers(call.text("cfg", "1.0")), len(positive), "cfg")
    slots = tuple(
        GuiderSlot(
            conditioning, negative.slots[index] if negative is not None else None, strength if strength is not None else 1.0
        )
        for index, (conditioning, strength) in enumerate(zip(positive, strengths, strict=True))
    )
    return Guider(call.value("model", Weights), slots, merged=True)


def merge_guider(call: Call) -> Result:
    return Result((_merged_guider(call),))


def merge_noise(call: Call) -> Result:
    return Result((Noise(tuple(_seeds(call.text("seeds"))), per_slot=True),))


def merge_sampler(call: Call) -> Result:
    chosen = call.value("sampler", SamplerChoice)
    _refuse_unmergeable(chosen.name, len(_seeds(call.text("seeds"))))
    return Result((replace(chosen, per_slot=True),))


def _refuse_unmergeable(sampler: str, slots: int) -> None:
    if sampler == UNMERGEABLE_SAMPLER and slots > 1:
        raise NodeFailedError(f"FuLLet merge: {sampler} cannot run several slots together", "ValueError")


def merge_ksampler(call: Call) -> Result:
    seeds = tuple(_seeds(call.text("seeds")))
    _refuse_unmergeable(call.text("sampler_name"), len(seeds))
    latent, sampling = guided_sampling(
        _merged_guider(call),
        Noise(seeds, per_slot=True),
        SamplerChoice(call.text("sampler_name"), per_slot=True),
        Sigmas(call.text("scheduler"), call.integer("steps", 20), call.number("denoise", 1.0)),
        call.value("latent_image", Latent),
    )
    return Result((latent,), sampling=sampling)


def merge_latents(call: Call) -> Result:
    latents = call.numbered("latent", Latent)
    if len({(latent.width, latent.height, latent.channels, latent.mask is None) for latent in latents}) != 1:
        raise NodeFailedError("FuLLet merge: latents of different shapes", "ValueError")
    return Result((replace(latents[0], rows=tuple(row for latent in latents for row in latent.rows)),))


def merge_save_image(call: Call) -> Result:
    pictures, slots = call.value("images", Images).pictures, _save_slots(call.text("slots"))
    if len(pictures) != len(slots):
        raise NodeFailedError(f"FuLLet merge: {len(pictures)} images for {len(slots)} slots", "ValueError")
    prefixes = tuple(prefix for _, prefix in slots)
    return Result(saving=Saving(pictures, prefixes, "temp" if call.text("type") == "temp" else "output", with_graph=False))


PACK: Mapping[str, Evaluator] = {
    "CLIPTextEncodeBatch": encode_batch,
    "MergeConditioning": merge_conditioning,
    "MergeSelect": merge_select,
    "MergeGuider": merge_guider,
    "MergeNoise": merge_noise,
    "MergeSampler": merge_sampler,
    "MergeKSampler": merge_ksampler,
    "MergeLatents": merge_latents,
    "MergeSaveImage": merge_save_image,
}
