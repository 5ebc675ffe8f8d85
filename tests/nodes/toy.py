"""Toy models with the traits that make merging hard, and the people who use them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import comfy.conds
import comfy.sample
import comfy.samplers
import torch
from torch import nn

from comfy_custom_nodes.adapter import MergeCond, MergeGuider, SlotNoise, SlotSampler

WIDTH = 16
SIZE = 6
#: Like Z-Image's 32, smaller.
BUCKET = 8


class ToyModel(nn.Module):  # type: ignore[misc]  # PyTorch is not installed everywhere mypy runs
    """A denoiser with attention. `kind` is what happens to the text:

    cross: pixels look at the tokens (SD1.5, SDXL);  joint: pixels and tokens look at each other (Flux);
    bucket: joint, and the model fills the tokens up to a multiple of BUCKET with a learned one (Z-Image).
    """

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.kind = kind
        self.diffusion_model = self  # ComfyUI's models hold the network under this name
        self.to_tokens, self.to_pixels = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.query, self.key, self.value = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.cap_embedder = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WIDTH))
        if kind == "bucket":
            self.pad_tokens_multiple = BUCKET
            self.cap_pad_token = nn.Parameter(torch.randn(1, WIDTH))
        self.rows_seen: list[int] = []
        self.most_rows = 10**6

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "diffusion_model":  # the network is itself: no child module
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def extra_conds(self, **about: Any) -> dict[str, Any]:
        text = about["cross_attn"]
        out: dict[str, Any] = {
            "c_crossattn": (comfy.conds.CONDCrossAttn if self.kind == "cross" else comfy.conds.CONDRegular)(text)
        }
        if self.kind == "bucket":
            out["num_tokens"] = comfy.conds.CONDConstant(text.shape[1])
        if about.get("pooled_output") is not None:
            out["y"] = comfy.conds.CONDRegular(about["pooled_output"])
        if about.get("guidance") is not None:
            out["guidance"] = comfy.conds.CONDRegular(torch.tensor([about["guidance"]]))
        if about.get("reference_latents"):
            out["ref_latents"] = comfy.conds.CONDList([self.process_latent_in(latent) for latent in about["reference_latents"]])
        if about.get("denoise_mask") is not None:
            out["c_concat"] = comfy.conds.CONDRegular(about["denoise_mask"] * about["latent_image"])
        if about.get("augment"):
            out["augment"] = comfy.conds.CONDRegular(
                torch.randn(1, WIDTH, generator=torch.Generator().manual_seed(int(about["seed"])))
            )
        return out

    def apply_model(self, x: torch.Tensor, timestep: torch.Tensor, **conds: Any) -> torch.Tensor:
        self.rows_seen.append(x.shape[0])
        if x.shape[0] > self.most_rows:
            raise torch.OutOfMemoryError("CUDA out of memory")
        time = timestep.reshape(-1, 1, 1)
        pixels = self.to_tokens((x / (1 + timestep.reshape(-1, 1, 1, 1))).flatten(2).transpose(1, 2))
        for extra in (conds.get("y"), conds.get("augment")):
            if extra is not None:
                pixels = pixels + extra[:, None, :]
        if conds.get("guidance") is not None:
            pixels = pixels * torch.tanh(conds["guidance"]).reshape(-1, 1, 1)
        if conds.get("c_concat") is not None:
            pixels = pixels + self.to_tokens(conds["c_concat"].flatten(2).transpose(1, 2))
        references = [self.to_tokens(latent.flatten(2).transpose(1, 2)) for latent in conds.get("ref_latents", [])]
        seen = self._with_text(pixels, conds["c_crossattn"], references)
        out = self.to_pixels(torch.tanh(seen) * torch.exp(-time))
        return out.transpose(1, 2).reshape(x.shape) + 0.5 * x / (1 + timestep.reshape(-1, 1, 1, 1))

    def _with_text(self, pixels: torch.Tensor, text: torch.Tensor, references: list[torch.Tensor]) -> torch.Tensor:
        if self.kind == "cross":
            return pixels + self._attend(pixels, text)
        text = self.cap_embedder(text)
        if self.kind == "bucket":
            missing = -text.shape[1] % BUCKET
            text = torch.cat([text, self.cap_pad_token.expand(text.shape[0], missing, WIDTH)], dim=1)
        places = torch.arange(text.shape[1])[:, None] / 10 + torch.arange(WIDTH)[None, :] / WIDTH
        everything = torch.cat([text + places.sin(), *references, pixels], dim=1)
        return (everything + self._attend(everything, everything))[:, -pixels.shape[1] :]

    def _attend(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        weights = self.query(one) @ self.key(other).transpose(1, 2) / math.sqrt(WIDTH)
        return weights.softmax(dim=-1) @ self.value(other)

    def process_latent_in(self, latent: torch.Tensor) -> torch.Tensor:
        return latent * 0.6

    def process_latent_out(self, latent: torch.Tensor) -> torch.Tensor:
        return latent / 0.6


class Patcher:
    """What a MODEL link carries."""

    def __init__(self, kind: str, **model_options: Any) -> None:
        self.model = ToyModel(kind).requires_grad_(False)
        self.model_options: dict[str, Any] = {"transformer_options": {}, **model_options}
        self.load_device = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What one person asks of a toy model."""

    seed: int
    tokens: int = 5
    negative_tokens: int = 5
    cfg: float = 4.0
    pooled: bool = False
    guidance: float | None = None
    references: tuple[int, ...] = ()
    latent: torch.Tensor | None = None
    mask: torch.Tensor | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    def conditioning(self, tokens: int, side: int) -> list[list[Any]]:
        generator = torch.Generator().manual_seed((1000 * self.seed + side) % 2**63)
        about: dict[str, Any] = dict(self.extra)
        if self.pooled:
            about["pooled_output"] = torch.randn(1, WIDTH, generator=generator)
        if self.guidance is not None:
            about["guidance"] = self.guidance
        if self.references:
            about["reference_latents"] = [torch.randn(1, 4, size, size, generator=generator) for size in self.references]
        return [[torch.randn(1, tokens, WIDTH, generator=generator), about]]

    @property
    def positive(self) -> list[list[Any]]:
        return self.conditioning(self.tokens, 1)

    @property
    def negative(self) -> list[list[Any]]:
        return self.conditioning(self.negative_tokens, 2)

    @property
    def start(self) -> torch.Tensor:
        return torch.zeros(1, 4, SIZE, SIZE) if self.latent is None else self.latent


def alone(patcher: Patcher, wish: Wish, sampler: str = "euler", steps: int = 4) -> torch.Tensor:
    """The stock run of one person."""
    guider = comfy.samplers.CFGGuider(patcher)
    guider.inner_set_conds({"positive": wish.positive, "negative": wish.negative})
    guider.set_cfg(wish.cfg)
    noise = comfy.sample.prepare_noise(wish.start, wish.seed)
    sigmas = comfy.samplers.sigmas_for(steps)
    return guider.sample(noise, wish.start, comfy.samplers.sampler_object(sampler), sigmas, wish.mask, seed=wish.seed)


def together(
    patcher: Patcher, wishes: Sequence[Wish], sampler: str = "euler", steps: int = 4, max_rows: int = 0, callback: Any = None
) -> torch.Tensor:
    """The same people in one run of the pack."""
    seeds = [wish.seed for wish in wishes]
    positive, negative = (MergeCond(tuple(getattr(wish, side) for wish in wishes)) for side in ("positive", "negative"))
    guider = MergeGuider(patcher, positive, negative, [wish.cfg for wish in wishes], max_rows)
    noise = SlotNoise(seeds)
    latent = torch.cat([wish.start for wish in wishes])
    masks = [wish.mask for wish in wishes if wish.mask is not None]
    return guider.sample(
        noise.generate_noise({"samples": latent}), latent, SlotSampler(comfy.samplers.sampler_object(sampler), seeds),
        comfy.samplers.sigmas_for(steps), torch.cat(masks) if masks else None, callback, seed=noise.seed,
    )  # fmt: skip


def likeness_db(one: torch.Tensor, other: torch.Tensor) -> float:
    """Peak signal to noise in dB against the largest value of `other`; 999 for equality."""
    error = (one - other).double().pow(2).mean().sqrt().item()
    return 999.0 if error == 0 else 20 * math.log10(other.abs().max().item() / error)
