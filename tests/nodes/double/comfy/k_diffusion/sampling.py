"""A deterministic sampler, three stochastic ones, one that looks at the negative, one that adapts its steps."""

from collections.abc import Callable
from typing import Any

import torch

NoiseSampler = Callable[[Any, Any], torch.Tensor]


def default_noise_sampler(x: torch.Tensor, seed: int | None = None) -> NoiseSampler:
    generator = torch.Generator().manual_seed(0 if seed is None else seed + 1)
    return lambda sigma, sigma_next: torch.randn(x.shape, generator=generator)


class BrownianTreeNoiseSampler:
    """Noise that depends on the seed and the span, and on where it is made."""

    def __init__(self, x: torch.Tensor, sigma_min: Any, sigma_max: Any, seed: Any = None, cpu: bool = False) -> None:
        self._shape, self._span, self._seed, self._cpu = x.shape, (float(sigma_min), float(sigma_max)), seed, cpu

    def __call__(self, sigma: Any, sigma_next: Any) -> torch.Tensor:
        key = hash((self._span, int(self._seed), self._cpu, float(sigma), float(sigma_next))) % 2**31
        return torch.randn(self._shape, generator=torch.Generator().manual_seed(key))


def _steps(
    model: Any, x: torch.Tensor, sigmas: torch.Tensor, extra_args: Any, callback: Any, renoise: NoiseSampler | None
) -> torch.Tensor:
    times = x.new_ones(x.shape[0])
    for step in range(len(sigmas) - 1):
        denoised = model(x, sigmas[step] * times, **extra_args)
        callback({"i": step, "denoised": denoised, "x": x})
        x = x + (x - denoised) / sigmas[step] * (sigmas[step + 1] - sigmas[step])
        if renoise is not None and sigmas[step + 1] > 0:
            x = x + 0.3 * sigmas[step + 1] * renoise(sigmas[step], sigmas[step + 1])
    return x


def sample_euler(
    model: Any, x: Any, sigmas: Any, extra_args: Any = None, callback: Any = None, disable: Any = None, s_churn: float = 0.0
) -> Any:
    return _steps(model, x, sigmas, extra_args, callback, None)


def sample_euler_ancestral(
    model: Any, x: Any, sigmas: Any, extra_args: Any = None, callback: Any = None, disable: Any = None, noise_sampler: Any = None
) -> Any:
    return _steps(model, x, sigmas, extra_args, callback, noise_sampler or default_noise_sampler(x, extra_args["seed"]))


def sample_dpmpp_sde(
    model: Any, x: Any, sigmas: Any, extra_args: Any = None, callback: Any = None, disable: Any = None, noise_sampler: Any = None
) -> Any:
    tree = BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), seed=extra_args["seed"], cpu=True)
    return _steps(model, x, sigmas, extra_args, callback, noise_sampler or tree)


def sample_dpmpp_sde_gpu(
    model: Any, x: Any, sigmas: Any, extra_args: Any = None, callback: Any = None, disable: Any = None, noise_sampler: Any = None
) -> Any:
    tree = BrownianTreeNoiseSampler(x, sigmas[sigmas > 0].min(), sigmas.max(), seed=extra_args["seed"], cpu=False)
    return _steps(model, x, sigmas, extra_args, callback, noise_sampler or tree)


def sample_euler_cfg_pp(
    model: Any, x: Any, sigmas: Any, extra_args: Any = None, callback: Any = None, disable: Any = None
) -> Any:
    """Steps away from the negative prediction, which it learns through a function of its own after guidance."""
    seen: dict[str, torch.Tensor] = {}

    def note(args: dict[str, Any]) -> Any:
        seen.update(negative=args["uncond_denoised"])
        return args["denoised"]

    options = extra_args["model_options"]
    posts = [*options.get("sampler_post_cfg_function", []), note]
    extra = {**extra_args, "model_options": {**options, "sampler_post_cfg_function": posts, "disable_cfg1_optimization": True}}
    times = x.new_ones(x.shape[0])
    for step in range(len(sigmas) - 1):
        denoised = model(x, sigmas[step] * times, **extra)
        callback({"i": step, "denoised": denoised, "x": x})
        x = denoised + (x - seen["negative"]) / sigmas[step] * sigmas[step + 1]
    return x


def sample_dpm_adaptive(
    model: Any, x: Any, sigmas: Any, extra_args: Any = None, callback: Any = None, disable: Any = None
) -> Any:
    return _steps(model, x, sigmas, extra_args, callback, None)
