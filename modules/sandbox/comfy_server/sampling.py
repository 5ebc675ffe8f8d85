"""A sampler pass, symbolically: what each row of the batch will show.

The rules are those measured on the real server: one seed gives every row of a batch its own draw (row 0 equals the solo
picture, the others do not); a slot of our pack has its own seed, so it equals its solo picture; a stochastic sampler
without a noise stream per slot spoils every row but the first.
"""

from __future__ import annotations

from modules.sandbox.comfy_server.call import Sampling
from modules.sandbox.comfy_server.models import COSTS, is_stochastic
from modules.sandbox.comfy_server.pictures import Masked, Painting
from modules.sandbox.comfy_server.slots import MergeFailedError, agree
from modules.sandbox.comfy_server.values import Guider, Latent, Noise, Picture, SamplerChoice, Sigmas

#: The one sampler whose step size is decided by the whole batch, so its slots cannot be exact.
REFUSED_SAMPLER = "dpm_adaptive"


def guided_sampling(
    guider: Guider, noise: Noise, sampler: SamplerChoice, sigmas: Sigmas, latent: Latent
) -> tuple[Latent, Sampling]:
    """The sampled latent and the pass that makes it. Raises `MergeFailedError` when slots and rows do not agree."""
    count = len(latent.rows)
    if guider.merged:
        _check_merge(guider, noise, sampler, latent)
    rows = tuple(_row(index, guider, noise, sampler, sigmas, latent) for index in range(count))
    sampled = Latent(latent.width, latent.height, rows, COSTS[guider.weights.family].latent_channels)
    sampling = Sampling(
        family=guider.weights.family,
        file=guider.weights.file,
        steps=sigmas.steps,
        rows=count,
        rows_a_pass=min(count, guider.max_rows) if guider.max_rows else count,
        megapixels=latent.width * latent.height / 1e6,
        evaluations=2 if any(slot.cfg != 1.0 for slot in guider.slots) else 1,
        shown=rows if guider.merged else rows[:1],
        merged=guider.merged,
    )
    return sampled, sampling


def _check_merge(guider: Guider, noise: Noise, sampler: SamplerChoice, latent: Latent) -> None:
    count = len(guider.slots)
    agree(len(latent.rows), count, "the latent batch")
    if noise.per_slot:
        agree(len(noise.seeds), count, "seeds")
    if sampler.seeds is not None and noise.per_slot and sampler.seeds != noise.seeds:
        raise MergeFailedError("seeds_differ", "the noise and the sampler were given different seeds.")
    if count > 1 and sampler.name == REFUSED_SAMPLER:
        raise MergeFailedError("sampler_refused", f"{sampler.name} cannot run more than one slot.")
    if len({row is None for row in latent.rows}) > 1:
        raise MergeFailedError("mixed_latents", "some slots start from an empty latent and others from a picture.")
    needs_negative = sampler.name.endswith("_cfg_pp") or any(slot.cfg != 1.0 for slot in guider.slots)
    if needs_negative and any(slot.negative is None for slot in guider.slots):
        raise MergeFailedError("negative_missing", "a cfg other than 1 needs a negative.")


def _row(index: int, guider: Guider, noise: Noise, sampler: SamplerChoice, sigmas: Sigmas, latent: Latent) -> Picture:
    slot = guider.slots[index] if guider.merged else guider.slots[0]
    start, mask = latent.rows[index], latent.row_mask(index)
    shares_stream = is_stochastic(sampler.name) and sampler.seeds is None
    painting = Painting(
        prompt=slot.positive.text,
        negative=slot.negative.text if slot.negative is not None else "",
        seed=noise.seeds[index] if noise.per_slot else noise.seeds[0],
        draw=0 if noise.per_slot and not shares_stream else index,
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
            mask.fingerprint if mask is not None else "",
        ),
    )
    return Masked(painting, start, mask) if mask is not None and start is not None else painting
