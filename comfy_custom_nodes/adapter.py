"""Where the pack meets ComfyUI: a guider, a noise source and a sampler that treat every row of a batch as one person's run.

Only calls that ComfyUI has kept from 0.3.64 to 0.33 are used; `CFGGuider` is subclassed in two methods, nothing is patched.
"""

import inspect
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import comfy.conds
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.utils
import torch
from comfy.k_diffusion import sampling as k_diffusion

from .core import Conds, MergedDenoiser, PreviewTurn, RowLimit, SlotConds, scale_of
from .encode_cache import Conditioning, EncodeCache
from .protocol import MAX_SLOTS, MergeError
from .slots import agree
from .token_buckets import bucket_size, lengthen, padded_rows_become_pad_tokens

#: Model options that take part in classifier-free guidance. What they do is unknown here, so slots are not joined then.
CFG_PATCHES = (
    "sampler_cfg_function",
    "sampler_pre_cfg_function",
    "sampler_post_cfg_function",
    "sampler_calc_cond_batch_function",
)
POST_CFG = "sampler_post_cfg_function"
#: Patches whose memory between steps is shared by the whole batch (EasyCache and LazyCache use one key).
COUPLING_OPTION = "easycache"
COUPLING_MODULE = "nodes_apg"

#: Step sizes follow the error over the whole batch.
REFUSED_SAMPLER = "dpm_adaptive"
#: These draw from a Brownian tree that is made on the CPU, or on the device for the *_gpu forms; all other stochastic
#: samplers use `default_noise_sampler`. Source: comfy/k_diffusion/sampling.py.
BROWNIAN_ON_CPU = frozenset(f"sample_{name}" for name in ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde"))
BROWNIAN_ON_DEVICE = frozenset(f"{name}_gpu" for name in BROWNIAN_ON_CPU)
#: Made inside comfy.samplers / comfy.extra_samplers under names of their own.
OTHER_KNOWN_SAMPLERS = frozenset({"dpm_fast_function", "sample_unipc", "sample_unipc_bh2"})

#: Hints of an empty latent about its scale, which `fix_empty_latent_channels` of newer versions takes as arguments.
EMPTY_LATENT_HINTS = ("downscale_ratio_spacial", "downscale_ratio_temporal")


@dataclass(frozen=True, slots=True)
class MergeCond:
    """The value behind a MERGE_COND link: one CONDITIONING per slot. Deliberately no list: stock nodes must not read it."""

    slots: tuple[Conditioning, ...]

    def __len__(self) -> int:
        return len(self.slots)


class SlotSeeds(int):
    """Slot 0's seed, with all others along: ComfyUI hands a noise's seed from the noise to the sampler and the model."""

    seeds: tuple[int, ...]

    def __new__(cls, seeds: Sequence[int]) -> "SlotSeeds":
        made = super().__new__(cls, seeds[0])
        made.seeds = tuple(seeds)
        return made


class SlotNoise:
    """NOISE whose row i is exactly what seed i alone would have drawn."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.seed = SlotSeeds(seeds)

    def generate_noise(self, input_latent: dict[str, Any]) -> torch.Tensor:
        samples = _single_part(input_latent["samples"])
        agree(samples.shape[0], len(self.seed.seeds), "the latent")
        rows = [comfy.sample.prepare_noise(samples[row : row + 1], seed) for row, seed in enumerate(self.seed.seeds)]
        return torch.cat(rows)


class SlotSampler(comfy.samplers.Sampler):  # type: ignore[misc]  # ComfyUI has no types
    """A stock sampler whose random numbers come from one stream per slot."""

    def __init__(self, sampler: Any, seeds: Sequence[int]) -> None:
        self.sampler, self.seeds = sampler, tuple(seeds)
        if len(self.seeds) > 1:
            refuse_sampler(sampler)

    def sample(
        self, model_wrap: Any, sigmas: Any, extra_args: Any, callback: Any, noise: Any,
        latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        agree(noise.shape[0], len(self.seeds), "the latent")
        if getattr(extra_args["seed"], "seeds", self.seeds) != self.seeds:
            raise MergeError("seeds_differ", "the noise and the sampler were given different seeds.")
        if denoise_mask is not None and len(self.seeds) > 1 and self.sampler.inpaint_options.get("random", False):
            raise MergeError("sampler_refused", "this sampler draws one noise for the masked parts of all slots.")
        sampler = self._with_slot_noise(noise, sigmas) if len(self.seeds) > 1 else self.sampler
        return sampler.sample(model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)

    def _with_slot_noise(self, x: torch.Tensor, sigmas: torch.Tensor) -> Any:
        function = self.sampler.sampler_function
        if "noise_sampler" not in inspect.signature(function).parameters or len(sigmas) <= 1:
            return self.sampler
        streams = [_noise_stream(function.__name__, x[row : row + 1], sigmas, seed) for row, seed in enumerate(self.seeds)]

        def noise_sampler(sigma: Any, sigma_next: Any) -> torch.Tensor:
            return torch.cat([stream(sigma, sigma_next) for stream in streams])

        options = {**self.sampler.extra_options, "noise_sampler": noise_sampler}
        return comfy.samplers.KSAMPLER(function, options, self.sampler.inpaint_options)


class MergeGuider(comfy.samplers.CFGGuider):  # type: ignore[misc]  # ComfyUI has no types
    """CFGGuider for a list of slots: each has its own prompt, negative and scale; equal shapes share a pass."""

    def __init__(
        self, model: Any, positive: MergeCond, negative: MergeCond | None, cfgs: Sequence[float], max_rows: int = 0
    ) -> None:
        super().__init__(model)
        self.cfgs, self.max_rows = tuple(cfgs), max_rows or MAX_SLOTS
        self.has_negative = negative is not None
        self.set_cfg(self.cfgs[0])  # read by ComfyUI's log line
        if not self.has_negative and any(cfg != 1 for cfg in self.cfgs):
            raise MergeError("negative_missing", "a cfg other than 1 needs a negative.")
        if len(positive) > 1:
            refuse_model(self.model_options)
        self.inner_set_conds({f"positive_{row}": cond for row, cond in enumerate(positive.slots)})
        if negative is not None:
            shared = negative.slots * len(positive) if len(negative) == 1 else negative.slots
            agree(len(shared), len(positive), "the negative")
            self.inner_set_conds({f"negative_{row}": cond for row, cond in enumerate(shared)})

    def inner_sample(
        self, noise: Any, latent_image: Any, device: Any, sampler: Any, sigmas: Any, denoise_mask: Any,
        callback: Any, disable_pbar: Any, seed: Any, **newer: Any,
    ) -> torch.Tensor:  # fmt: skip
        """ComfyUI's sampling, with the conditionings prepared slot by slot, as if each ran alone."""
        agree(noise.shape[0], len(self.cfgs), "the latent")
        latent = self._latent_for_conds(latent_image, newer.get("latent_shapes"))
        slots = [self._slot(row, noise, latent, device, denoise_mask, seed, newer) for row in range(len(self.cfgs))]
        diffusion_model = getattr(self.inner_model, "diffusion_model", None)
        bucket = bucket_size(diffusion_model) if len(slots) > 1 and "multigpu_clones" not in self.model_options else None
        if bucket:
            slots = [_lengthened(slot, bucket) for slot in slots]
        limit = RowLimit(self.max_rows, is_out_of_memory, comfy.model_management.soft_empty_cache)
        self.denoiser = MergedDenoiser(slots, comfy.conds.CONDCrossAttn, limit)
        turn = PreviewTurn(callback, len(slots)) if callback is not None and len(slots) > 1 else None
        kept = self.conds
        self.conds: dict[str, Any] = {}  # the base class prepares what it finds here for the batch as a whole
        hooked: AbstractContextManager[None] = padded_rows_become_pad_tokens(diffusion_model) if bucket else nullcontext()
        try:
            with hooked:
                return super().inner_sample(
                    noise, latent_image, device, sampler, sigmas, denoise_mask, turn or callback, disable_pbar, seed, **newer
                )
        finally:
            self.conds = kept  # ComfyUI cleans up after these
            del self.denoiser
            if turn is not None:
                turn.settle()

    def predict_noise(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> torch.Tensor:
        """One prediction for all slots: joined passes where nothing but plain guidance is at work, else slot by slot."""
        options = model_options or {}
        if any(self.model_options.get(name) for name in CFG_PATCHES):
            return self._one_by_one(x, timestep, options, seed)

        def calc(conds: Conds, x: torch.Tensor, timestep: torch.Tensor) -> Any:
            return comfy.samplers.calc_cond_batch(self.inner_model, conds, x, timestep, options)

        always = bool(options.get("disable_cfg1_optimization", False))
        if always and not self.has_negative:
            raise MergeError("negative_missing", "this sampler needs a negative at every cfg.")
        positive, negative = self.denoiser.predict(x, timestep, calc, always_negative=always)
        scale = scale_of(self.cfgs, x)
        return comfy.samplers.cfg_function(self.inner_model, positive, negative, scale, x, timestep, model_options=options)

    def _one_by_one(self, x: torch.Tensor, timestep: torch.Tensor, options: dict[str, Any], seed: Any) -> torch.Tensor:
        """The model's own patches see one slot at a time; what the sampler added afterwards sees the whole batch."""
        everything = options.get(POST_CFG, [])
        patches = len(self.model_options.get(POST_CFG, []))
        seen: list[dict[str, Any]] = []

        def note(args: dict[str, Any]) -> torch.Tensor:
            seen.append(args)
            return args["denoised"]

        alone = {**options, POST_CFG: [*everything[:patches], note]}
        for row, slot in enumerate(self.denoiser.slots):
            one = slice(row, row + 1)
            comfy.samplers.sampling_function(
                self.inner_model, x[one], timestep[one], slot.negative, slot.positive, slot.cfg, model_options=alone, seed=seed
            )
        together = {name: torch.cat([args[name] for args in seen]) for name in ("denoised", "cond_denoised", "uncond_denoised")}
        about = {"model": self.inner_model, "input": x, "sigma": timestep, "model_options": options, "cond": None, "uncond": None}
        for function in everything[patches:]:
            together["denoised"] = function({**about, **together, "cond_scale": scale_of(self.cfgs, x)})
        return together["denoised"]

    def _latent_for_conds(self, latent_image: torch.Tensor, latent_shapes: Any) -> torch.Tensor:
        if len(self.cfgs) > 1 and len(latent_shapes or ()) > 1:
            raise MergeError("latent_shape", "a latent of several parts cannot be merged.")
        empty = {not row.any() for row in latent_image}
        if len(empty) > 1:
            raise MergeError("mixed_latents", "some slots start from an empty latent and others from a picture.")
        return latent_image if True in empty else self.inner_model.process_latent_in(latent_image)

    def _slot(
        self, row: int, noise: Any, latent: Any, device: Any, denoise_mask: Any, seed: Any, newer: dict[str, Any]
    ) -> SlotConds:
        one = slice(row, row + 1)
        conds = {"positive": self.conds[f"positive_{row}"]}
        if self.has_negative:
            conds["negative"] = self.conds[f"negative_{row}"]
        own = {name: [(1, *shape[1:]) for shape in shapes] for name, shapes in newer.items() if name == "latent_shapes"}
        mask = None if denoise_mask is None else denoise_mask[one]
        own_seed = seed.seeds[row] if isinstance(seed, SlotSeeds) else seed
        ready = comfy.samplers.process_conds(self.inner_model, noise[one], conds, device, latent[one], mask, own_seed, **own)
        return SlotConds(ready["positive"], ready.get("negative"), self.cfgs[row])


def sample_as_ksampler(
    guider: MergeGuider, seeds: Sequence[int], steps: int, sampler_name: str, scheduler: str, denoise: float,
    latent: dict[str, Any], callback: Any,
) -> dict[str, Any]:  # fmt: skip
    """What the stock KSampler node does, for all slots at once: its sigmas, its noise, its latent in and out."""
    model = guider.model_patcher
    hints = {name: latent[name] for name in EMPTY_LATENT_HINTS if name in latent}
    samples = comfy.sample.fix_empty_latent_channels(model, _single_part(latent["samples"]), **hints)
    stock = comfy.samplers.KSampler(
        model, steps=steps, device=model.load_device, sampler=sampler_name, scheduler=scheduler,
        denoise=denoise, model_options=model.model_options,
    )  # fmt: skip
    noise = SlotNoise(seeds)
    result = guider.sample(
        noise.generate_noise({"samples": samples}), samples, SlotSampler(comfy.samplers.sampler_object(stock.sampler), seeds),
        stock.sigmas, denoise_mask=latent.get("noise_mask"), callback=callback,
        disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED, seed=noise.seed,
    )  # fmt: skip
    out = {name: value for name, value in latent.items() if name not in EMPTY_LATENT_HINTS}
    return {**out, "samples": result.to(comfy.model_management.intermediate_device())}


def encode_prompts(clip: Any, prompts: Sequence[str], cache: EncodeCache | None) -> list[Conditioning]:
    """What the stock CLIPTextEncode gives for each prompt; equal prompts and known ones are not encoded again."""
    known: dict[str, Conditioning] = {}
    usable = cache if cache is not None and _is_cacheable(clip) else None
    owner, base = clip.cond_stage_model, _encoder_state(clip)
    for text in dict.fromkeys(prompts):
        found = usable.get(owner, (base, text)) if usable is not None else None
        if found is None:
            found = clip.encode_from_tokens_scheduled(clip.tokenize(text))
            if usable is not None:
                usable.put(owner, (base, text), found)
        known[text] = found
    return [[[tensor, dict(extra)] for tensor, extra in known[text]] for text in prompts]


def with_guidance(conditioning: Conditioning, guidance: float | None) -> Conditioning:
    """The same conditioning with a Flux guidance value, as the stock FluxGuidance node sets it."""
    if guidance is None:
        return conditioning
    return [[tensor, {**extra, "guidance": guidance}] for tensor, extra in conditioning]


def refuse_model(model_options: dict[str, Any]) -> None:
    """Raises MergeError("model_refused") for patches that let one slot's picture depend on another's."""
    functions = model_options.get("sampler_pre_cfg_function", [])
    has_momentum = any(function.__module__.endswith(COUPLING_MODULE) for function in functions)
    if has_momentum or COUPLING_OPTION in model_options.get("transformer_options", {}):
        raise MergeError("model_refused", "a patch of this model (EasyCache, LazyCache or APG) ties all slots together.")


def refuse_sampler(sampler: Any) -> None:
    """Raises MergeError("sampler_refused") for samplers that would mix slots or draw from the global generator."""
    function = getattr(sampler, "sampler_function", None)
    name = getattr(function, "__name__", "")
    if not isinstance(sampler, comfy.samplers.KSAMPLER) or not _is_known(function, name):
        raise MergeError("sampler_refused", "this sampler cannot be used with more than one slot.")
    if sampler.extra_options.get("s_churn", 0.0) > 0:
        raise MergeError("sampler_refused", "s_churn above 0 draws one noise for all slots.")


def is_out_of_memory(error: Exception) -> bool:
    """ComfyUI's own judgement where it has one; before 0.3.70 or so it only had the exception's class."""
    newer: Callable[[Exception], bool] | None = getattr(comfy.model_management, "is_oom", None)
    if newer is not None:
        return newer(error)
    return isinstance(error, torch.OutOfMemoryError)


def _is_known(function: Any, name: str) -> bool:
    stock = getattr(k_diffusion, name, None) if name.startswith("sample_") else None
    is_stock = stock is not None and inspect.unwrap(function) is inspect.unwrap(stock)
    listed = name.removeprefix("sample_") in comfy.samplers.KSampler.SAMPLERS
    return (is_stock and listed and REFUSED_SAMPLER not in name) or name in OTHER_KNOWN_SAMPLERS


def _noise_stream(function: str, x: torch.Tensor, sigmas: torch.Tensor, seed: int) -> Any:
    if function not in BROWNIAN_ON_CPU | BROWNIAN_ON_DEVICE:
        return k_diffusion.default_noise_sampler(x, seed=seed)
    low, high = sigmas[sigmas > 0].min(), sigmas.max()
    return k_diffusion.BrownianTreeNoiseSampler(x, low, high, seed=seed, cpu=function in BROWNIAN_ON_CPU)


def _lengthened(slot: SlotConds, bucket: int) -> SlotConds:
    negative = None if slot.negative is None else lengthen(slot.negative, bucket)
    return SlotConds(lengthen(slot.positive, bucket), negative, slot.cfg)


def _single_part(samples: torch.Tensor) -> torch.Tensor:
    if samples.is_nested:
        raise MergeError("latent_shape", "a latent of several parts cannot be merged.")
    return samples


def _is_cacheable(clip: Any) -> bool:
    """Hooks change what a text encoder does from step to step; their state is no part of the key."""
    return clip.patcher.forced_hooks is None and not clip.use_clip_schedule and clip.apply_hooks_to_conds is None


def _encoder_state(clip: Any) -> tuple[str, int | None, str]:
    """All that changes an encoder's output besides the text: LoRA and other patches, the layer, tokenizer options."""
    return str(clip.patcher.patches_uuid), clip.layer_idx, repr(sorted(clip.tokenizer_options.items()))
