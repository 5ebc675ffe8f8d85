"""What ComfyUI's own nodes (and the GGUF loaders) do here, symbolically."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from modules.sandbox.comfy_server.call import Call, Evaluator, NodeFailedError, Result
from modules.sandbox.comfy_server.models import COSTS, family_of, upscale_factor, vae_channels
from modules.sandbox.comfy_server.pictures import Scaled, fitted
from modules.sandbox.comfy_server.sampling import guided_sampling
from modules.sandbox.comfy_server.values import (
    Conditioning,
    ControlNet,
    Guider,
    GuiderSlot,
    Images,
    Latent,
    Mask,
    Noise,
    SamplerChoice,
    Sigmas,
    TextEncoder,
    UpscaleModel,
    Vae,
    Weights,
)

#: Latents are one eighth of the picture: sizes are rounded down in silence (250 gives 248).
LATENT_GRID_PX = 8
#: How a family's loading time is shared between its files.
UNET_SHARE, CLIP_SHARE, VAE_SHARE = 0.70, 0.25, 0.05


def on_grid(pixels: int) -> int:
    return pixels // LATENT_GRID_PX * LATENT_GRID_PX


# --- loaders -----------------------------------------------------------------------------------------------------------


def checkpoint(call: Call) -> Result:
    file = call.text("ckpt_name")
    family = family_of(file)
    cost = COSTS[family]
    outputs: tuple[object, ...] = (Weights(file, family), TextEncoder((file,)), Vae(file, cost.latent_channels))
    if call.class_type == "CheckpointLoaderSimpleMikey":
        outputs += (file, "")
    return Result(outputs, load_s=cost.load_s)


def diffusion_model(call: Call) -> Result:
    file = call.text("unet_name")
    family = family_of(file)
    return Result((Weights(file, family),), load_s=COSTS[family].load_s * UNET_SHARE)


def text_encoder(call: Call) -> Result:
    files = tuple(call.text(name) for name in ("clip_name", "clip_name1", "clip_name2", "clip_name3") if name in call.inputs)
    big = any(part in file.lower() for file in files for part in ("t5", "qwen"))
    return Result((TextEncoder(files, (call.text("type"),)),), load_s=2.0 * CLIP_SHARE * (4.0 if big else 1.0))


def vae(call: Call) -> Result:
    file = call.text("vae_name")
    return Result((Vae(file, vae_channels(file)),), load_s=5.0 * VAE_SHARE)


def lora(call: Call) -> Result:
    name, strength = call.text("lora_name"), call.number("strength_model")
    weights = call.value("model", Weights).with_lora(name, strength)
    encoder = call.optional("clip", TextEncoder)
    if encoder is None:
        return Result((weights,), load_s=0.2)
    changed = replace(encoder, options=(*encoder.options, f"{name}@{call.number('strength_clip')}"))
    return Result((weights, changed), load_s=0.2)


def upscale_model(call: Call) -> Result:
    file = call.text("model_name")
    return Result((UpscaleModel(file, upscale_factor(file)),), load_s=0.3)


def control_net(call: Call) -> Result:
    return Result((ControlNet(call.text("control_net_name")),), load_s=1.0)


# --- model and text patches --------------------------------------------------------------------------------------------


def model_patch(call: Call) -> Result:
    """ModelSampling*: every literal input changes the picture, so all of them become part of the weights."""
    literals = ",".join(f"{name}={value}" for name, value in sorted(call.inputs.items()) if name != "model")
    return Result((call.value("model", Weights).patched(f"{call.class_type}({literals})"),))


def clip_layer(call: Call) -> Result:
    encoder = call.value("clip", TextEncoder)
    return Result((replace(encoder, options=(*encoder.options, f"layer{call.integer('stop_at_clip_layer', -1)}")),))


# --- conditioning ------------------------------------------------------------------------------------------------------


def encode_seconds(encoder: TextEncoder) -> float:
    return max(COSTS[family_of(file)].encode_s for file in encoder.files) if encoder.files else 0.0


def conditioning_of(encoder: TextEncoder, text: str, guidance: float | None = None) -> Conditioning:
    return Conditioning(text, guidance=guidance, encoder=(*encoder.files, *encoder.options))


def encode(call: Call) -> Result:
    encoder = call.value("clip", TextEncoder)
    return Result((conditioning_of(encoder, call.text("text")),), seconds=encode_seconds(encoder))


def encode_flux(call: Call) -> Result:
    encoder = call.value("clip", TextEncoder)
    text = call.text("t5xxl") or call.text("clip_l")
    return Result((conditioning_of(encoder, text, call.number("guidance", 3.5)),), seconds=encode_seconds(encoder))


def guidance(call: Call) -> Result:
    return Result((replace(call.value("conditioning", Conditioning), guidance=call.number("guidance", 3.5)),))


def zero_out(call: Call) -> Result:
    """All words are gone; what was attached stays."""
    return Result((replace(call.value("conditioning", Conditioning), text=""),))


def reference(call: Call) -> Result:
    conditioning, latent = call.value("conditioning", Conditioning), call.optional("latent", Latent)
    if latent is None or latent.rows[0] is None:
        return Result((conditioning,))
    return Result((replace(conditioning, references=(*conditioning.references, latent.rows[0])),))


def apply_control_net(call: Call) -> Result:
    net, hint = call.value("control_net", ControlNet), call.value("image", Images).pictures[0]
    mark = f"{net.file}@{call.number('strength', 1.0)}:{hint.fingerprint}"
    changed = tuple(
        replace(conditioning, controls=(*conditioning.controls, mark))
        for conditioning in (call.value("positive", Conditioning), call.value("negative", Conditioning))
    )
    return Result(changed)


# --- latents -----------------------------------------------------------------------------------------------------------


def empty_latent(call: Call) -> Result:
    width, height = on_grid(call.integer("width")), on_grid(call.integer("height"))
    return Result((Latent(width, height, (None,) * call.integer("batch_size", 1)),))


def vae_encode(call: Call) -> Result:
    pictures, coder = call.value("pixels", Images).pictures, call.value("vae", Vae)
    width, height = on_grid(pictures[0].width), on_grid(pictures[0].height)
    mask = call.optional("mask", Mask)
    rows = tuple(fitted(picture, width, height) for picture in pictures)
    return Result(
        (Latent(width, height, rows, coder.channels, (mask,) if mask is not None else ()),), seconds=0.2 * width * height / 1e6
    )


def noise_mask(call: Call) -> Result:
    return Result((replace(call.value("samples", Latent), masks=(call.value("mask", Mask),)),))


def vae_decode(call: Call) -> Result:
    latent, coder = call.value("samples", Latent), call.value("vae", Vae)
    if latent.channels is not None and latent.channels != coder.channels:
        shape = f"[{len(latent.rows)}, {latent.channels}, {latent.height // 8}, {latent.width // 8}]"
        raise NodeFailedError(
            f"Given groups=1, weight of size [128, {coder.channels}, 3, 3], expected input{shape} "
            f"to have {coder.channels} channels, but got {latent.channels} channels instead\n"
        )
    pictures = tuple(row if row is not None else fitted(None, latent.width, latent.height) for row in latent.rows)
    return Result((Images(pictures),), seconds=0.25 * len(pictures) * latent.width * latent.height / 1e6)


def repeat_latent(call: Call) -> Result:
    latent = call.value("samples", Latent)
    return Result((replace(latent, rows=latent.rows * call.integer("amount", 1)),))


def latent_from_batch(call: Call) -> Result:
    latent = call.value("samples", Latent)
    start = min(call.integer("batch_index"), len(latent.rows) - 1)
    return Result((replace(latent, rows=latent.rows[start : start + call.integer("length", 1)]),))


def given_or_kept(width: int, height: int, wanted_width: int, wanted_height: int) -> tuple[int, int]:
    """A zero keeps the proportions; both zero keep the size."""
    if wanted_width == 0 and wanted_height == 0:
        return width, height
    if wanted_width == 0:
        return max(1, round(width * wanted_height / height)), wanted_height
    if wanted_height == 0:
        return wanted_width, max(1, round(height * wanted_width / width))
    return wanted_width, wanted_height


def latent_upscale(call: Call) -> Result:
    latent = call.value("samples", Latent)
    if "scale_by" in call.inputs:
        factor = call.number("scale_by", 1.5)
        width, height = on_grid(round(latent.width * factor)), on_grid(round(latent.height * factor))
    else:
        width, height = given_or_kept(latent.width, latent.height, call.integer("width"), call.integer("height"))
    rows = tuple(Scaled(row, width, height) if row is not None else None for row in latent.rows)
    return Result((replace(latent, width=width, height=height, rows=rows),))


# --- sampling ----------------------------------------------------------------------------------------------------------


def ksampler(call: Call) -> Result:
    steps = call.integer("steps", 20)
    if "end_at_step" in call.inputs:
        start, end = call.integer("start_at_step"), min(call.integer("end_at_step", 10000), steps)
        steps = max(end - start, 0)
    slot = GuiderSlot(call.value("positive", Conditioning), call.value("negative", Conditioning), call.number("cfg", 8.0))
    seed = call.integer("noise_seed") if "noise_seed" in call.inputs else call.integer("seed")
    latent, sampling = guided_sampling(
        Guider(call.value("model", Weights), (slot,)),
        Noise((seed,)),
        SamplerChoice(call.text("sampler_name")),
        Sigmas(call.text("scheduler"), steps, call.number("denoise", 1.0)),
        call.value("latent_image", Latent),
    )
    return Result((latent,), sampling=sampling)


def sampler_choice(call: Call) -> Result:
    return Result((SamplerChoice(call.text("sampler_name")),))


def random_noise(call: Call) -> Result:
    return Result((Noise((call.integer("noise_seed"),)),))


def basic_scheduler(call: Call) -> Result:
    return Result((Sigmas(call.text("scheduler"), call.integer("steps", 20), call.number("denoise", 1.0)),))


def flux2_scheduler(call: Call) -> Result:
    return Result((Sigmas(f"flux2:{call.integer('width')}x{call.integer('height')}", call.integer("steps", 20)),))


def basic_guider(call: Call) -> Result:
    slot = GuiderSlot(call.value("conditioning", Conditioning), None, 1.0)
    return Result((Guider(call.value("model", Weights), (slot,)),))


def cfg_guider(call: Call) -> Result:
    slot = GuiderSlot(call.value("positive", Conditioning), call.value("negative", Conditioning), call.number("cfg", 8.0))
    return Result((Guider(call.value("model", Weights), (slot,)),))


def sampler_custom_advanced(call: Call) -> Result:
    latent, sampling = guided_sampling(
        call.value("guider", Guider),
        call.value("noise", Noise),
        call.value("sampler", SamplerChoice),
        call.value("sigmas", Sigmas),
        call.value("latent_image", Latent),
    )
    return Result((latent, latent), sampling=sampling)


def primitive(call: Call) -> Result:
    return Result((call.inputs.get("value"),))


STOCK: Mapping[str, Evaluator] = {
    "CheckpointLoaderSimple": checkpoint,
    "CheckpointLoaderSimpleMikey": checkpoint,
    "UNETLoader": diffusion_model,
    "UnetLoaderGGUF": diffusion_model,
    "CLIPLoader": text_encoder,
    "CLIPLoaderGGUF": text_encoder,
    "DualCLIPLoader": text_encoder,
    "DualCLIPLoaderGGUF": text_encoder,
    "TripleCLIPLoader": text_encoder,
    "VAELoader": vae,
    "LoraLoader": lora,
    "LoraLoaderModelOnly": lora,
    "UpscaleModelLoader": upscale_model,
    "ControlNetLoader": control_net,
    "ModelSamplingFlux": model_patch,
    "ModelSamplingAuraFlow": model_patch,
    "ModelSamplingSD3": model_patch,
    "CLIPSetLastLayer": clip_layer,
    "CLIPTextEncode": encode,
    "CLIPTextEncodeFlux": encode_flux,
    "FluxGuidance": guidance,
    "ConditioningZeroOut": zero_out,
    "ReferenceLatent": reference,
    "ControlNetApplyAdvanced": apply_control_net,
    "EmptyLatentImage": empty_latent,
    "EmptySD3LatentImage": empty_latent,
    "EmptyFlux2LatentImage": empty_latent,
    "VAEEncode": vae_encode,
    "VAEEncodeForInpaint": vae_encode,
    "SetLatentNoiseMask": noise_mask,
    "VAEDecode": vae_decode,
    "VAEDecodeTiled": vae_decode,
    "RepeatLatentBatch": repeat_latent,
    "LatentFromBatch": latent_from_batch,
    "LatentUpscale": latent_upscale,
    "LatentUpscaleBy": latent_upscale,
    "KSampler": ksampler,
    "KSamplerAdvanced": ksampler,
    "KSamplerEfficient": ksampler,
    "KSamplerAdvancedEfficient": ksampler,
    "KSamplerSelect": sampler_choice,
    "RandomNoise": random_noise,
    "BasicScheduler": basic_scheduler,
    "Flux2Scheduler": flux2_scheduler,
    "BasicGuider": basic_guider,
    "CFGGuider": cfg_guider,
    "SamplerCustomAdvanced": sampler_custom_advanced,
    "PrimitiveInt": primitive,
    "PrimitiveString": primitive,
}
