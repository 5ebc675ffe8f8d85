"""Model files a stand-in pretends to have, which family each belongs to, and what work with it costs.

The seconds are those of an imagined mid-range card at `speed=1.0`; they were chosen, not measured. Their proportions
follow the design study: a switch costs more than a picture, few-step models take many seconds a step, and a batch of
`n` rows takes `t1 * (a + (1 - a) * n)`, where `a` is small for large pictures of transformer models and large for
small pictures and for U-Nets.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Folder = str
ModelFiles = Mapping[Folder, Sequence[str]]


class Family(StrEnum):
    FLUX2 = "flux2"
    FLUX1 = "flux1"
    Z_IMAGE = "z-image"
    SDXL = "sdxl"
    SD15 = "sd15"


@dataclass(frozen=True, slots=True)
class FamilyCost:
    """Seconds at `speed=1.0`, and the traits that change what a graph may do with the family."""

    step_s_per_mp: float  #: one sampling step, one row, one megapixel, one model evaluation
    encode_s: float  #: one prompt through the text encoder
    decode_s_per_mp: float
    load_s: float  #: all files of the family from disk; loaders share it
    latent_channels: int
    is_unet: bool


COSTS: Mapping[Family, FamilyCost] = {
    Family.FLUX2: FamilyCost(1.80, 0.30, 0.25, 9.0, 128, False),
    Family.FLUX1: FamilyCost(1.80, 0.40, 0.25, 9.0, 16, False),
    Family.Z_IMAGE: FamilyCost(0.32, 0.20, 0.20, 6.0, 16, False),
    Family.SDXL: FamilyCost(0.09, 0.10, 0.30, 5.0, 4, True),
    Family.SD15: FamilyCost(0.06, 0.05, 0.30, 2.0, 4, True),
}

#: Share of a single picture's time that a batch pays once, at the two ends of the range; between them it falls in a line.
#: Transformers fill the card at one megapixel, so almost nothing is shared there; U-Nets are launch-bound at every size.
UNET_SHARED = 0.40
DIT_SHARED_SMALL, DIT_SMALL_MP = 0.40, 0.30
DIT_SHARED_LARGE, DIT_LARGE_MP = 0.05, 1.00


def shared_part(family: Family, megapixels: float) -> float:
    """`a` in `t1 * (a + (1 - a) * n)`."""
    if COSTS[family].is_unet:
        return UNET_SHARED
    if megapixels <= DIT_SMALL_MP:
        return DIT_SHARED_SMALL
    if megapixels >= DIT_LARGE_MP:
        return DIT_SHARED_LARGE
    way = (megapixels - DIT_SMALL_MP) / (DIT_LARGE_MP - DIT_SMALL_MP)
    return DIT_SHARED_SMALL + way * (DIT_SHARED_LARGE - DIT_SHARED_SMALL)


def step_seconds(
    family: Family, megapixels: float, *, evaluations: int, groups: Sequence[int], shared: float | None = None
) -> float:
    """One sampling step at `speed=1.0`: every group of rows is one pass of the model and takes `t1 * (a + (1 - a) * n)`.

    `shared` is `a` when it is given from outside.
    """
    alone = COSTS[family].step_s_per_mp * megapixels * evaluations
    part = shared if shared is not None else shared_part(family, megapixels)
    return sum(alone * (part + (1 - part) * rows) for rows in groups)


_FAMILY_BY_NAME = (
    (re.compile(r"flux[-_.]?2|klein", re.I), Family.FLUX2),
    (re.compile(r"flux|kontext|schnell", re.I), Family.FLUX1),
    (re.compile(r"z[-_]?image", re.I), Family.Z_IMAGE),
    (re.compile(r"xl|pony|illustrious", re.I), Family.SDXL),
)


def family_of(file: str) -> Family:
    """The family a file name speaks of; what names none is taken for SD 1.5."""
    return next((family for pattern, family in _FAMILY_BY_NAME if pattern.search(file)), Family.SD15)


def vae_channels(file: str) -> int:
    """Latent channels of a stand-alone VAE file."""
    lowered = file.lower()
    if "flux2" in lowered:
        return COSTS[Family.FLUX2].latent_channels
    if "sdxl" in lowered or "840000" in lowered or lowered == "taesd":
        return COSTS[Family.SDXL].latent_channels
    return COSTS[Family.FLUX1].latent_channels


def upscale_factor(file: str) -> int:
    """`4x-UltraSharp.pth` -> 4, `RealESRGAN_x2plus.pth` -> 2; 4 when the name does not say."""
    found = re.search(r"(?<!\d)([248])x|x([248])(?!\d)", file, re.I)
    return int(found.group(1) or found.group(2)) if found else 4


#: What the product's own templates need, and a little to choose from.
DEFAULT_MODELS: ModelFiles = {
    "checkpoints": ["dreamshaper_8.safetensors", "juggernautXL_ragnarok.safetensors", "sd_xl_base_1.0.safetensors"],
    "diffusion_models": ["z_image_turbo_bf16.safetensors"],
    "unet_gguf": ["flux-2-klein-4b-Q4_K_M.gguf", "flux1-kontext-dev-Q4_K_S.gguf", "flux1-schnell-Q4_K_S.gguf"],
    "text_encoders": ["clip_l.safetensors", "qwen_3_4b.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
    "clip_gguf": ["Qwen3-4B-Q4_K_M.gguf", "t5-v1_1-xxl-encoder-Q4_K_M.gguf"],
    "vae": ["ae.safetensors", "flux2-vae.safetensors", "sdxl_vae.safetensors"],
    "loras": [
        "detail_tweaker_xl.safetensors",
        "flux2_klein_watercolour.safetensors",
        "pixel_art_xl.safetensors",
        "z_image_film_grain.safetensors",
    ],
    "upscale_models": ["4x-UltraSharp.pth", "RealESRGAN_x2plus.pth", "RealESRGAN_x4plus.pth"],
    "controlnet": ["controlnet-union-sdxl-1.0.safetensors"],
    "embeddings": ["easynegative"],
}

#: Over 25 checkpoints: more than one page of a Discord select menu.
LARGE_MODELS: ModelFiles = {
    **DEFAULT_MODELS,
    "checkpoints": sorted(
        [*DEFAULT_MODELS["checkpoints"], *(f"community_mix_xl_v{number:02}.safetensors" for number in range(1, 38))]
    ),
    "loras": sorted([*DEFAULT_MODELS["loras"], *(f"style_{number:02}_xl.safetensors" for number in range(1, 41))]),
}

#: `GET /models`, as a 0.33 server lists it.
FOLDERS = (
    "checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision", "style_models",
    "embeddings", "diffusers", "vae_approx", "controlnet", "gligen", "upscale_models", "latent_upscale_models",
    "custom_nodes", "datasets", "hypernetworks", "photomaker", "classifiers", "model_patches", "audio_encoders",
    "background_removal", "frame_interpolation", "geometry_estimation", "optical_flow", "detection",
)  # fmt: skip
#: The two folders ComfyUI-GGUF adds.
GGUF_FOLDERS = ("unet_gguf", "clip_gguf")
#: Always in VAELoader's list, files or not.
BUILT_IN_VAES = ("taesd", "taef1", "pixel_space")

SAMPLERS = (
    "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0",
    "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm",
    "ipndm", "ipndm_v", "deis", "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp", "gradient_estimation", "gradient_estimation_cfg_pp", "er_sde", "seeds_2", "seeds_3",
    "sa_solver", "sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2",
)  # fmt: skip
SCHEDULERS = (
    "simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic", "kl_optimal",
)  # fmt: skip

_STOCHASTIC = re.compile(r"ancestral|sde|^(ddpm|lcm|seeds_\d|sa_solver(_pece)?)$")


def is_stochastic(sampler: str) -> bool:
    """Whether the sampler draws noise at every step, so that rows of one batch share its stream."""
    return bool(_STOCHASTIC.search(sampler))
