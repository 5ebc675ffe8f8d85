"""Noise as ComfyUI draws it: one generator for the whole batch."""

from typing import Any

import torch


def prepare_noise(latent_image: torch.Tensor, seed: int, noise_inds: Any = None) -> torch.Tensor:
    return torch.randn(latent_image.shape, generator=torch.Generator().manual_seed(seed))


def fix_empty_latent_channels(model: Any, latent_image: torch.Tensor, downscale_ratio_spacial: Any = None) -> torch.Tensor:
    return latent_image
