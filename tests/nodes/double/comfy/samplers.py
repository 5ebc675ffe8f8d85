"""Guidance and sampling for one person, as the stock nodes do it."""

import math
import uuid
from typing import Any

import torch

from .conds import CONDRegular
from .k_diffusion import sampling as k_diffusion

Entry = dict[str, Any]


class Sampler:
    pass


class KSAMPLER(Sampler):
    def __init__(self, sampler_function: Any, extra_options: Any = None, inpaint_options: Any = None) -> None:
        self.sampler_function, self.extra_options = sampler_function, extra_options or {}
        self.inpaint_options = inpaint_options or {}

    def sample(
        self, model_wrap: Any, sigmas: Any, extra_args: Any, callback: Any, noise: Any,
        latent_image: Any = None, denoise_mask: Any = None, disable_pbar: bool = False,
    ) -> torch.Tensor:  # fmt: skip
        def masked(x: torch.Tensor, sigma: torch.Tensor, **extra: Any) -> torch.Tensor:
            if denoise_mask is None:
                return model_wrap(x, sigma, **extra)
            kept = latent_image + noise * sigma.reshape(-1, 1, 1, 1)
            denoised = model_wrap(x * denoise_mask + kept * (1 - denoise_mask), sigma, **extra)
            return denoised * denoise_mask + latent_image * (1 - denoise_mask)

        def k_callback(state: dict[str, Any]) -> None:
            if callback is not None:
                callback(state["i"], state["denoised"], state["x"], len(sigmas) - 1)

        start = noise * sigmas[0] + latent_image
        return self.sampler_function(
            masked, start, sigmas, extra_args=extra_args, callback=k_callback, disable=disable_pbar, **self.extra_options
        )


def sampler_object(name: str) -> KSAMPLER:
    return KSAMPLER(getattr(k_diffusion, f"sample_{name}"))


class KSampler:
    SAMPLERS = ("euler", "euler_ancestral", "dpmpp_sde", "dpmpp_sde_gpu", "euler_cfg_pp", "dpm_adaptive")
    SCHEDULERS = ("simple",)

    def __init__(
        self, model: Any, steps: int, device: Any, sampler: str, scheduler: str, denoise: float, model_options: Any
    ) -> None:
        self.sampler, self.sigmas = sampler, sigmas_for(steps, denoise)


def sigmas_for(steps: int, denoise: float = 1.0) -> torch.Tensor:
    return torch.linspace(2.0 * denoise, 0.0, steps + 1)


def calc_cond_batch(model: Any, conds: list[Any], x: Any, timestep: Any, model_options: Any) -> list[torch.Tensor]:
    """Each list of entries on all rows; several entries of one list are averaged, which is why slots must not be entries."""
    out = []
    for entries in conds:
        predictions = [
            model.apply_model(
                x,
                timestep,
                **{name: cond.process_cond(batch_size=x.shape[0]).cond for name, cond in entry["model_conds"].items()},
            )
            for entry in entries or []
        ]
        out.append(torch.stack(predictions).mean(dim=0) if predictions else torch.zeros_like(x))
    return out


def cfg_function(
    model: Any,
    cond_pred: Any,
    uncond_pred: Any,
    cond_scale: Any,
    x: Any,
    timestep: Any,
    model_options: Any,
    cond: Any = None,
    uncond: Any = None,
) -> torch.Tensor:
    denoised = uncond_pred + (cond_pred - uncond_pred) * cond_scale
    for function in model_options.get("sampler_post_cfg_function", []):
        args = {"denoised": denoised, "cond_denoised": cond_pred, "uncond_denoised": uncond_pred, "cond_scale": cond_scale}
        denoised = function({**args, "input": x, "sigma": timestep, "model": model, "model_options": model_options})
    return denoised


def sampling_function(
    model: Any, x: Any, timestep: Any, uncond: Any, cond: Any, cond_scale: float, model_options: Any, seed: Any = None
) -> Any:
    skip = math.isclose(cond_scale, 1.0) and not model_options.get("disable_cfg1_optimization", False)
    positive, negative = calc_cond_batch(model, [cond, None if skip else uncond], x, timestep, model_options)
    return cfg_function(model, positive, negative, cond_scale, x, timestep, model_options)


def process_conds(
    model: Any,
    noise: Any,
    conds: dict[str, list[Entry]],
    device: Any,
    latent_image: Any,
    denoise_mask: Any,
    seed: Any,
    **kwargs: Any,
) -> dict[str, list[Entry]]:
    about = {"noise": noise, "latent_image": latent_image, "denoise_mask": denoise_mask, "seed": seed}
    return {
        name: [{**entry, "model_conds": model.extra_conds(**{**entry, **about, "prompt_type": name})} for entry in entries]
        for name, entries in conds.items()
    }


class CFGGuider:
    def __init__(self, model_patcher: Any) -> None:
        self.model_patcher, self.model_options = model_patcher, model_patcher.model_options
        self.original_conds: dict[str, list[Entry]] = {}
        self.cfg = 1.0
        self.conds: dict[str, list[Entry]] = {}

    def set_cfg(self, cfg: float) -> None:
        self.cfg = cfg

    def inner_set_conds(self, conds: dict[str, Any]) -> None:
        for name, conditioning in conds.items():
            self.original_conds[name] = [
                {**extra, "cross_attn": tensor, "model_conds": {}, "uuid": uuid.uuid4()} for tensor, extra in conditioning
            ]

    def __call__(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> torch.Tensor:
        return self.predict_noise(x, timestep, model_options or {}, seed)

    def predict_noise(self, x: Any, timestep: Any, model_options: Any = None, seed: Any = None) -> torch.Tensor:
        negative, positive = self.conds.get("negative"), self.conds["positive"]
        return sampling_function(self.inner_model, x, timestep, negative, positive, self.cfg, model_options, seed)

    def inner_sample(
        self,
        noise: Any,
        latent_image: Any,
        device: Any,
        sampler: Any,
        sigmas: Any,
        denoise_mask: Any,
        callback: Any,
        disable_pbar: Any,
        seed: Any,
    ) -> torch.Tensor:
        if latent_image.any():
            latent_image = self.inner_model.process_latent_in(latent_image)
        self.conds = process_conds(self.inner_model, noise, self.conds, device, latent_image, denoise_mask, seed)
        extra_args = {"model_options": {**self.model_options}, "seed": seed}
        return self.inner_model.process_latent_out(
            sampler.sample(self, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)
        )

    def sample(
        self, noise: Any, latent_image: Any, sampler: Any, sigmas: Any, denoise_mask: Any = None, callback: Any = None,
        disable_pbar: bool = False, seed: Any = None,
    ) -> torch.Tensor:  # fmt: skip
        self.inner_model = self.model_patcher.model
        self.conds = {name: [dict(entry) for entry in entries] for name, entries in self.original_conds.items()}
        return self.inner_sample(noise, latent_image, "cpu", sampler, sigmas, denoise_mask, callback, disable_pbar, seed)


__all__ = ["KSAMPLER", "CFGGuider", "CONDRegular", "KSampler", "Sampler"]
