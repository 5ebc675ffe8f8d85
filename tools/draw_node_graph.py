"""Draws a ComfyUI workflow (the format its editor saves) as a picture for a README.

The fields' names come from the same workflow in API format, which lies beside it in the folder `api`. Usage:
python -m tools.draw_node_graph comfy_custom_nodes/example_workflows/two_people_one_ksampler.json OUT.png
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SCALE = 2
MARGIN = 40
TITLE_HEIGHT = 30
ROW_HEIGHT = 22
BACKGROUND, BODY, TITLE, TEXT, FAINT, FIELD = "#1b1d23", "#2c2f38", "#3a3f4c", "#f2f3f5", "#aab0bd", "#20232a"
OURS = "#5b3f8c"
#: The colours that ComfyUI's editor gives to its link types, near enough.
LINKS = {
    "MODEL": "#b39ddb", "CLIP": "#ffd500", "VAE": "#ff6e6e", "LATENT": "#ff9cf9", "IMAGE": "#64b5f6", "MERGE_COND": "#ffa931",
    "NOISE": "#b0b0b0", "GUIDER": "#66ffff", "SAMPLER": "#ecb4b4", "SIGMAS": "#cdffcd",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fonts:
    """DejaVu where it is installed, Pillow's own otherwise."""

    title: ImageFont.ImageFont | ImageFont.FreeTypeFont
    text: ImageFont.ImageFont | ImageFont.FreeTypeFont

    @classmethod
    def load(cls) -> "Fonts":
        try:
            return cls(ImageFont.truetype("DejaVuSans-Bold", 12 * SCALE), ImageFont.truetype("DejaVuSans", 11 * SCALE))
        except OSError:
            return cls(ImageFont.load_default(12 * SCALE), ImageFont.load_default(11 * SCALE))


def draw(workflow: dict[str, Any], api: dict[str, Any]) -> Image.Image:
    """The picture of a workflow; nodes of this project have a title of their own colour."""
    nodes = {
        node["id"]: {**node, "fields": _fields(api[str(node["id"])])} for node in workflow["nodes"] if node["type"] != "Note"
    }
    left = min(node["pos"][0] for node in nodes.values()) - MARGIN
    top = min(node["pos"][1] for node in nodes.values()) - MARGIN
    right = max(node["pos"][0] + node["size"][0] for node in nodes.values()) + MARGIN
    bottom = max(node["pos"][1] + _height(node) for node in nodes.values()) + MARGIN
    picture = Image.new("RGB", ((right - left) * SCALE, (bottom - top) * SCALE), BACKGROUND)
    pen, fonts = ImageDraw.Draw(picture), Fonts.load()
    for link in workflow["links"]:
        _draw_link(pen, nodes[link[1]], link[2], nodes[link[3]], link[4], link[5], (left, top))
    for node in nodes.values():
        _draw_node(pen, fonts, node, (left, top))
    return picture


def _rows(node: dict[str, Any]) -> int:
    return max(len(node["inputs"]), len(node["outputs"]))


def _fields(api_node: dict[str, Any]) -> list[tuple[str, str]]:
    """Names and values that are typed in, not linked."""
    return [(name, str(value)) for name, value in api_node["inputs"].items() if not isinstance(value, list)]


def _height(node: dict[str, Any]) -> int:
    return TITLE_HEIGHT + (_rows(node) + len(node["fields"])) * ROW_HEIGHT + 10


def _socket(node: dict[str, Any], row: int, is_output: bool, origin: tuple[int, int]) -> tuple[float, float]:
    x = node["pos"][0] + (node["size"][0] if is_output else 0) - origin[0]
    y = node["pos"][1] + TITLE_HEIGHT + (row + 0.5) * ROW_HEIGHT - origin[1]
    return x * SCALE, y * SCALE


def _draw_link(
    pen: ImageDraw.ImageDraw,
    source: dict[str, Any],
    output: int,
    target: dict[str, Any],
    row: int,
    kind: str,
    origin: tuple[int, int],
) -> None:
    (x0, y0), (x1, y1) = _socket(source, output, True, origin), _socket(target, row, False, origin)
    bend = max(40.0 * SCALE, abs(x1 - x0) / 2)
    points = []
    for step in range(41):  # a cubic curve that leaves and arrives horizontally
        t = step / 40
        a, b, c, d = (1 - t) ** 3, 3 * (1 - t) ** 2 * t, 3 * (1 - t) * t**2, t**3
        points.append((a * x0 + b * (x0 + bend) + c * (x1 - bend) + d * x1, a * y0 + b * y0 + c * y1 + d * y1))
    pen.line(points, fill=LINKS.get(kind, FAINT), width=2 * SCALE, joint="curve")


def _draw_node(pen: ImageDraw.ImageDraw, fonts: Fonts, node: dict[str, Any], origin: tuple[int, int]) -> None:
    x, y, width = (node["pos"][0] - origin[0]) * SCALE, (node["pos"][1] - origin[1]) * SCALE, node["size"][0] * SCALE
    is_ours = node["type"].startswith("FuLLet") or node["type"] == "CLIPTextEncodeBatch"
    pen.rounded_rectangle((x, y, x + width, y + _height(node) * SCALE), 8 * SCALE, fill=BODY)
    pen.rounded_rectangle((x, y, x + width, y + TITLE_HEIGHT * SCALE), 8 * SCALE, fill=OURS if is_ours else TITLE)
    pen.text((x + 12 * SCALE, y + 7 * SCALE), node["type"], font=fonts.title, fill=TEXT)
    for is_output, sockets in ((False, node["inputs"]), (True, node["outputs"])):
        for row, socket in enumerate(sockets):
            sx, sy = _socket(node, row, is_output, origin)
            pen.ellipse((sx - 5 * SCALE, sy - 5 * SCALE, sx + 5 * SCALE, sy + 5 * SCALE), fill=LINKS.get(socket["type"], FAINT))
            anchor, tx = ("rm", sx - 12 * SCALE) if is_output else ("lm", sx + 12 * SCALE)
            pen.text((tx, sy), socket["name"], font=fonts.text, fill=FAINT, anchor=anchor)
    for row, (name, value) in enumerate(node["fields"], start=_rows(node)):
        fy = y + (TITLE_HEIGHT + row * ROW_HEIGHT + 2) * SCALE
        box = (x + 12 * SCALE, fy, x + width - 12 * SCALE, fy + (ROW_HEIGHT - 4) * SCALE)
        pen.rounded_rectangle(box, 4 * SCALE, fill=FIELD)
        middle, name_width = (box[1] + box[3]) / 2, pen.textlength(name, font=fonts.text)
        shown = _fitting(pen, value, fonts, box[2] - box[0] - name_width - 28 * SCALE)
        pen.text((box[0] + 8 * SCALE, middle), name, font=fonts.text, fill=FAINT, anchor="lm")
        pen.text((box[2] - 8 * SCALE, middle), shown, font=fonts.text, fill=TEXT, anchor="rm")


def _fitting(pen: ImageDraw.ImageDraw, value: str, fonts: Fonts, room: float) -> str:
    if pen.textlength(value, font=fonts.text) <= room:
        return value
    while value and pen.textlength(value + "…", font=fonts.text) > room:
        value = value[:-1]
    return value + "…"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workflow", type=Path)
    parser.add_argument("picture", type=Path)
    chosen = parser.parse_args()
    api = chosen.workflow.parent / "api" / chosen.workflow.name
    pictured = draw(*(json.loads(path.read_text(encoding="utf-8")) for path in (chosen.workflow, api)))
    pictured.quantize(64).save(chosen.picture, optimize=True)  # flat colours: a third of the size


if __name__ == "__main__":
    main()
