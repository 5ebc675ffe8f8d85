"""The house's own templates, naming the tiny random models of a test server instead of the real ones, in a program of their own.

Only file names, loaders and sizes differ from `flujos/`: the roles, samplers and links are the ones people use.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modules.ai.listing import ServerListing

ROOT = Path(__file__).parents[2]
TEMPLATES = ("sdxl_image", "sdxl_vary", "z-image_imagine", "z-image_vary", "flux_image", "flux_edit", "flux_vary")
#: The real file -> what stands in for it. The tiny SD 1.5 is the only U-Net; SDXL's templates draw with it just as well.
TINY_FILES: Mapping[str, str] = {
    "sd_xl_base_1.0.safetensors": "tiny_sd15.safetensors",
    "z_image_turbo_bf16.safetensors": "tiny_z_image_turbo_fp8.safetensors",
    "flux-2-klein-4b-Q4_K_M.gguf": "tiny_flux2_Q8_0.gguf",
    "flux2-vae.safetensors": "tiny_flux2_vae.safetensors",
}
#: A loader that a test server may have for small text encoders, which the stock loaders build at full size.
TINY_LOADER = "LocalTinyCLIPLoader"
_TINY_TYPES = {"lumina2": "z_image", "flux2": "flux2"}
#: Small enough for a CPU; CLIP-L stands in for encoders this server cannot load.
_SIZE = {
    r'default = "\d+x\d+"': 'default = "64x64"',
    r"presets = \[.*\]": 'presets = ["64x64", "128x64"]',
    r"min_side = \d+": "min_side = 64",
}


def tiny_program(folder: Path, listing: ServerListing) -> Path:
    """`app.py` of a program in this folder: the house's code, with templates that this server can draw."""
    (folder / "flujos").mkdir(parents=True)
    shutil.copy(ROOT / "app.py", folder / "app.py")
    (folder / "modules").symlink_to(ROOT / "modules")
    for name in TEMPLATES:
        graph = tiny_graph(json.loads((ROOT / "flujos" / f"{name}.json").read_text("utf-8")), listing)
        said = (ROOT / "flujos" / f"{name}.manifest.toml").read_text("utf-8")
        for pattern, small in _SIZE.items():
            said = re.sub(pattern, small, said)
        (folder / "flujos" / f"{name}.json").write_text(json.dumps(graph), "utf-8")
        (folder / "flujos" / f"{name}.manifest.toml").write_text(said, "utf-8")
    return folder / "app.py"


def tiny_graph(graph: dict[str, dict[str, Any]], listing: ServerListing) -> dict[str, dict[str, Any]]:
    """The same graph with this server's tiny files."""
    return {node: _tiny_node(said, listing) for node, said in graph.items()}


def _tiny_node(said: dict[str, Any], listing: ServerListing) -> dict[str, Any]:
    inputs = {name: TINY_FILES.get(value, value) if isinstance(value, str) else value for name, value in said["inputs"].items()}
    if said["class_type"].startswith("CLIPLoader"):
        kind = _TINY_TYPES[inputs["type"]]
        if kind in listing.options(TINY_LOADER, "type"):
            return said | {"class_type": TINY_LOADER, "inputs": {"type": kind}}
        return said | {"class_type": "CLIPLoader", "inputs": {"clip_name": "clip_l.safetensors", "type": "stable_diffusion"}}
    if said["class_type"] == "ImageScaleToTotalPixels":
        inputs["megapixels"] = 0.01
    return said | {"inputs": inputs}
