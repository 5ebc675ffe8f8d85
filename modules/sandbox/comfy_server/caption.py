"""The band at the foot of a placeholder picture that says what it stands for."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image, ImageDraw, ImageFilter, ImageFont

#: Tried in this order; found by name in the system's font folders. They have the letters of most European languages.
_FONTS = ("DejaVuSans.ttf", "LiberationSans-Regular.ttf", "Arial.ttf", "Helvetica.ttc")

_INK = (255, 255, 255)
_FAINT = (214, 220, 228)
_PAPER = (10, 14, 24)
MAX_PROMPT_LINES = 3


@dataclass(frozen=True, slots=True)
class _Font:
    """A font and what it can write: Pillow's built-in one, the last resort, has plain ASCII letters only."""

    face: ImageFont.FreeTypeFont | ImageFont.ImageFont
    ascii_only: bool

    def text(self, text: str) -> str:
        if not self.ascii_only:
            return text
        plain = unicodedata.normalize("NFKD", text.replace("×", "x").replace("·", "|").replace("…", "..."))
        return plain.encode("ascii", "ignore").decode("ascii")


@lru_cache(maxsize=32)
def _font(size: int) -> _Font:
    for name in _FONTS:
        try:
            return _Font(ImageFont.truetype(name, size), ascii_only=False)
        except OSError:
            continue
    return _Font(ImageFont.load_default(size), ascii_only=True)


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float, lines: int) -> list[str]:
    """At most so many lines; what does not fit ends in an ellipsis."""
    found: list[str] = []
    rest = " ".join(text.split())[:600]
    while rest and len(found) < lines:
        end = len(rest)
        while end > 1 and font.getlength(rest[:end]) > width:
            space = rest.rfind(" ", 0, end - 1)
            end = space if space > 0 else end - max(1, end // 8)
        found.append(rest[:end].strip())
        rest = rest[end:].strip()
    if rest and found:
        last = found[-1]
        while last and font.getlength(last + "…") > width:
            last = last[:-1]
        found[-1] = last.rstrip() + "…"
    return found


def write_caption(image: Image.Image, prompt: str, facts: Sequence[str]) -> None:
    """Draw prompt and facts onto the picture, in place."""
    short = min(image.size)
    margin, padding = round(short * 0.028), round(short * 0.024)
    large, small = _font(max(11, round(short * 0.030))), _font(max(9, round(short * 0.0195)))
    room = image.width - 2 * margin - 2 * padding
    lines = _wrapped(large.text(prompt) or "(no words)", large.face, room, MAX_PROMPT_LINES)
    fact_lines = _wrapped(small.text("  ·  ".join(facts)), small.face, room, 2)
    large_step, small_step = round(short * 0.040), round(short * 0.029)
    height = 2 * padding + large_step * len(lines) + round(small_step * 0.25) + small_step * len(fact_lines)
    left, top = margin, image.height - margin - height
    right, bottom = image.width - margin, image.height - margin
    panel = image.crop((left, top, right, bottom)).filter(ImageFilter.BoxBlur(padding))  # frosted: an older caption disappears
    shade = Image.new("L", panel.size, 0)
    ImageDraw.Draw(shade).rounded_rectangle((0, 0, panel.width - 1, panel.height - 1), radius=padding, fill=158)
    corners = shade.point([255 if value else 0 for value in range(256)])
    panel.paste(_PAPER, (0, 0), shade)
    draw = ImageDraw.Draw(panel)
    y = padding
    for line in lines:
        draw.text((padding, y), line, font=large.face, fill=_INK)
        y += large_step
    y += round(small_step * 0.25)
    for line in fact_lines:
        draw.text((padding, y), line, font=small.face, fill=_FAINT)
        y += small_step
    image.paste(panel, (left, top), corners)


def inset(image: Image.Image, references: Sequence[Image.Image]) -> None:
    """Small framed copies of the pictures an edit started from, in the upper left corner."""
    short = min(image.size)
    side, margin, frame = round(short * 0.17), round(short * 0.028), max(2, round(short * 0.005))
    x = margin
    for reference in references[:3]:
        small = reference.copy()
        small.thumbnail((side, side))
        ImageDraw.Draw(image).rectangle(
            (x - frame, margin - frame, x + small.width + frame - 1, margin + small.height + frame - 1), fill=_INK
        )
        image.paste(small, (x, margin))
        x += small.width + margin
