"""A sampler pass, symbolically: what each row of the batch will show.

The rules are those measured on the real server: one seed gives every row of a batch its own draw (row 0 equals the solo
picture, the others do not); a slot of our pack has its own seed, so it equals its solo picture; a stochastic sampler
without a noise stream per slot spoils every row but the first.
"""

from __future__ import annotations

from modules.sandbox.comfy_server.call import NodeFailedError, Sampling
from modules.sandbox.comfy_server.models import COSTS, is_stochastic
from modules.sandbox.comfy_server.pictures import Masked, Painting
from modules.sandbox.comfy_server.values import Guider, GuiderSlot, Latent, Noise, Picture, SamplerChoice, Sigmas


def guided_sampling(
    guider: Guider, noise: Noise, sampler: SamplerChoice, sigmas: Sigmas, latent: Latent
) -> tuple[Latent, Sampling]:
    """The sampled latent and the pass that makes it. Raises `NodeFailedError` when slots and rows do not agree."""
    _check_counts(guider, noise, latent)
    rows = tuple(_row(index, guider, noise, sampler, sigmas, latent) for index in range(len(latent.rows)))
    sampled = Latent(latent.width, latent.height, rows, COSTS[guider.weights.family].latent_channels)
    sampling = Sampling(
        family=guider.weights.family,
        file=guider.weights.file,
        steps=sigmas.steps,
        rows=len(rows),
        megapixels=latent.width * latent.height / 1e6,
        evaluations=2 if any(slot.cfg != 1.0 for slot in guider.slots) else 1,
        preview=rows[0],
        merged=guider.merged,
    )
    return sampled, sampling


def _check_counts(guider: Guider, noise: Noise, latent: Latent) -> None:
    count = len(latent.rows)
    if guider.merged and len(guider.slots) != count:
        raise NodeFailedError(f"FuLLet merge: {len(guider.slots)} slots for {count} rows of latent", "ValueError")
    if noise.per_slot and len(noise.seeds) != count:
        raise NodeFailedError(f"FuLLet merge: {len(noise.seeds)} seeds for {count} rows of latent", "ValueError")


def _row(index: int, guider: Guider, noise: Noise, sampler: SamplerChoice, sigmas: Sigmas, latent: Latent) -> Picture:
    slot: GuiderSlot = guider.slots[index] if guider.merged else guider.slots[0]
    start = latent.rows[index]
    shares_stream = is_stochastic(sampler.name) and not sampler.per_slot
    draw = 0 if noise.per_slot and not shares_stream else index
    negative = slot.negative
    painting = Painting(
        prompt=slot.positive.text,
        negative=negative.text if negative is not None else "",
        seed=noise.seeds[index] if noise.per_slot else noise.seeds[0],
        draw=draw,
        model=guider.weights.file,
        loras=guider.weights.loras,
        width=latent.width,
        height=latent.height,
        steps=sigmas.steps,
        cfg=slot.cfg,
        guidance=slot.positive.guidance,
        denoise=sigmas.denoise,
        start=start,
        references=slot.positive.references,
        details=(
            sampler.name,
            sigmas.schedule,
            *guider.weights.patches,
            *slot.positive.encoder,
            *slot.positive.controls,
            latent.mask.fingerprint if latent.mask is not None else "",
        ),
    )
    if latent.mask is not None and start is not None:
        return Masked(painting, start, latent.mask)
    return painting
