"""Draws a quiet landscape instead of running a diffusion model.

Everything is placed in parts of the picture's size, so a preview of 256 px shows the same scene as the result. The
tricks that keep a megapixel under 60 ms: soft things (sky, clouds, glow) are made small and enlarged; hard edges are
drawn at double size into one grey map of *depth* (0 sky, 255 nearest), which is reduced once and coloured by a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random

from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

from modules.sandbox.comfy_server.palettes import Colour, Kind, Palette, kind_for, palette_for

_SOFT = 8  #: soft layers are drawn this many times smaller
_SHARP = 2  #: and edges this many times larger


def _mix(a: Colour, b: Colour, part: float) -> Colour:
    return (round(a[0] + (b[0] - a[0]) * part), round(a[1] + (b[1] - a[1]) * part), round(a[2] + (b[2] - a[2]) * part))


def _ramp(stops: Sequence[tuple[float, Colour]], at: float) -> Colour:
    for (low, first), (high, second) in pairwise(stops):
        if at <= high:
            return _mix(first, second, (at - low) / (high - low) if high > low else 1.0)
    return stops[-1][1]


def _column(stops: Sequence[tuple[float, Colour]], size: tuple[int, int]) -> Image.Image:
    """A vertical gradient."""
    height = 256
    strip = Image.new("RGB", (1, height))
    strip.putdata([_ramp(stops, row / (height - 1)) for row in range(height)])
    return strip.resize(size, Image.Resampling.BILINEAR)


def _noise(rng: Random, size: tuple[int, int], cells: tuple[int, int]) -> Image.Image:
    """Smooth grey noise: random cells, enlarged."""
    image = Image.frombytes("L", cells, rng.randbytes(cells[0] * cells[1]))
    return image.resize(size, Image.Resampling.BICUBIC)


def _clouds(rng: Random, size: tuple[int, int], *, threshold: int, strength: float) -> Image.Image:
    """A mask of drifting clouds: two octaves of noise, stretched sideways, above a threshold."""
    coarse, fine = _noise(rng, size, (5, 9)), _noise(rng, size, (14, 26))
    both = Image.blend(coarse, fine, 0.42)
    return both.point([max(0, min(255, round((value - threshold) * 2.6 * strength))) for value in range(256)])


def _glow(size: tuple[int, int], centre: tuple[float, float], radius: float, strength: float) -> Image.Image:
    """A mask that fades from a centre outwards."""
    width, height = size
    diameter = max(2, round(radius * 2 * width))
    spot = ImageOps.invert(Image.radial_gradient("L")).resize((diameter, diameter), Image.Resampling.BILINEAR)
    spot = spot.point([round((value / 255) ** 2 * 255 * strength) for value in range(256)])
    mask = Image.new("L", size, 0)
    mask.paste(spot, (round(centre[0] * width - diameter / 2), round(centre[1] * height - diameter / 2)))
    return mask


def _sky(rng: Random, palette: Palette, size: tuple[int, int], horizon: float, sun: tuple[float, float]) -> Image.Image:
    small = (max(2, size[0] // _SOFT), max(2, size[1] // _SOFT))
    stops = [(0.0, palette.zenith), (horizon * 0.55, palette.sky), (horizon, palette.horizon), (1.0, palette.horizon)]
    sky = _column(stops, small)
    sky.paste(palette.light, (0, 0), _glow(small, sun, 0.62, 0.55))
    dark = _clouds(rng, small, threshold=132, strength=0.5)
    sky.paste(_mix(palette.sky, palette.zenith, 0.55), (0, 0), dark)
    bright = _clouds(rng, small, threshold=138, strength=0.8)
    sky.paste(_mix(palette.horizon, palette.light, 0.6), (0, 0), bright)
    return sky.resize(size, Image.Resampling.BICUBIC)


def _disc(image: Image.Image, centre: tuple[float, float], radius: float, colour: Colour) -> None:
    """A filled circle with smooth edges."""
    width, height = image.size
    side = max(4, round(radius * 2 * min(width, height)))
    mask = Image.new("L", (side * 4, side * 4), 0)
    ImageDraw.Draw(mask).ellipse((2, 2, side * 4 - 3, side * 4 - 3), fill=255)
    corner = (round(centre[0] * width - side / 2), round(centre[1] * height - side / 2))
    image.paste(colour, (*corner, corner[0] + side, corner[1] + side), mask.reduce(4))


def _stars(rng: Random, image: Image.Image, below: float, count: int) -> None:
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(count):
        x, y, size = rng.random() * width, rng.random() ** 1.4 * below * height, rng.random()
        radius = 0.0004 * width * (1 + 2.2 * size**4)
        shade = 150 + round(105 * rng.random())
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=(shade, shade, min(255, shade + 15)))


def _ridge(rng: Random, base: float, height: float, roughness: int) -> Callable[[float], float]:
    """A skyline as a sum of waves: x in 0..1 -> y in 0..1."""
    waves = [(rng.uniform(0.7, 1.3) * 2**octave, rng.random() * math.tau, 0.52**octave) for octave in range(roughness)]

    def at(x: float) -> float:
        value = sum(share * math.sin(x * frequency * math.tau * 0.8 + phase) for frequency, phase, share in waves)
        return base - height * (0.5 + 0.5 * value)

    return at


def _peaks(rng: Random, base: float, height: float) -> Callable[[float], float]:
    """Pointed mountains: a broken line refined by halving, so slopes stay straight between the teeth."""
    points = [rng.uniform(0.25, 1.0) * (1.0 if index % 2 else 0.45) for index in range(rng.choice((5, 7, 9)))]
    jag = 0.28
    while len(points) < 120:
        finer = []
        for left, right in pairwise(points):
            finer += [left, (left + right) / 2 + rng.uniform(-jag, jag) * 0.5]
        points = [*finer, points[-1]]
        jag *= 0.5

    def at(x: float) -> float:
        place = min(max(x, 0.0), 1.0) * (len(points) - 1)
        index = min(int(place), len(points) - 2)
        return base - height * (points[index] + (points[index + 1] - points[index]) * (place - index))

    return at


class _Depth:
    """The grey map of edges, drawn at double size."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.size = size
        self.width, self.height = size[0] * _SHARP, size[1] * _SHARP
        self.image = Image.new("L", (self.width, self.height), 0)
        self.draw = ImageDraw.Draw(self.image)

    def land(self, skyline: Callable[[float], float], depth: int, points: int = 220) -> None:
        outline = [(index / points * self.width, skyline(index / points) * self.height) for index in range(points + 1)]
        self.draw.polygon([*outline, (self.width, self.height), (0, self.height)], fill=depth)

    def shape(self, points: Sequence[tuple[float, float]], depth: int) -> None:
        self.draw.polygon([(x * self.width, y * self.height) for x, y in points], fill=depth)

    def spruce(self, x: float, foot: float, tall: float, depth: int) -> None:
        """A conifer of four tiers."""
        aspect = self.height / self.width
        for tier in range(4):
            top = foot - tall * (1 - tier * 0.2)
            half = tall * aspect * (0.075 + 0.055 * tier)
            bottom = top + tall * (0.3 + 0.045 * tier)
            self.shape([(x, top), (x + half, bottom), (x - half, bottom)], depth)
        trunk = tall * aspect * 0.025
        self.shape([(x - trunk, foot - tall * 0.1), (x + trunk, foot - tall * 0.1), (x + trunk, foot), (x - trunk, foot)], depth)

    def finish(self) -> Image.Image:
        return self.image.reduce(_SHARP)


def _colour_by_depth(depth: Image.Image, palette: Palette) -> Image.Image:
    far = _mix(palette.far, palette.horizon, 0.45)
    table = [_mix(far, palette.near, (value / 255) ** 0.9) for value in range(256)]
    return Image.merge("RGB", [depth.point([colour[band] for colour in table]) for band in range(3)])


def _with_mist(land: Image.Image, palette: Palette, top: float, bottom: float, strength: float) -> Image.Image:
    """Haze that lies on the ground between two heights."""
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    shades = [round(255 * strength * max(0.0, 1 - (abs(row / 63 - middle) / half) ** 2)) for row in range(64)]
    strip = Image.new("L", (1, 64))
    strip.putdata(shades)
    mask = strip.resize(land.size, Image.Resampling.BICUBIC)
    return Image.composite(Image.new("RGB", land.size, _mix(palette.horizon, palette.light, 0.25)), land, mask)


# --- kinds of scene ----------------------------------------------------------------------------------------------------


def _mountains(rng: Random, depth: _Depth, horizon: float) -> None:
    depth.land(_peaks(rng, horizon + 0.05, rng.uniform(0.22, 0.34)), 40)
    depth.land(_peaks(rng, horizon + 0.11, rng.uniform(0.16, 0.24)), 85)
    depth.land(_ridge(rng, horizon + 0.16, 0.12, 5), 130)
    depth.land(_ridge(rng, horizon + 0.25, 0.10, 4), 180)
    near = _ridge(rng, 0.93, 0.09, 3)
    _trees(rng, depth, near, count=26, tall=(0.05, 0.13), depth_value=235)
    depth.land(near, 235)


def _trees(
    rng: Random, depth: _Depth, ground: Callable[[float], float], *, count: int, tall: tuple[float, float], depth_value: int
) -> None:
    gap = rng.uniform(0.2, 0.8)  # a clearing, so that the view stays open
    for _ in range(count):
        x = rng.random()
        if abs(x - gap) > 0.13:
            depth.spruce(x, ground(x) + 0.01, rng.uniform(*tall), depth_value)


def _lake(rng: Random, depth: _Depth, horizon: float) -> None:
    depth.land(_peaks(rng, horizon + 0.02, rng.uniform(0.2, 0.32)), 50)
    depth.land(_ridge(rng, horizon + 0.03, 0.10, 5), 100)
    shore = _ridge(rng, horizon + 0.035, 0.03, 4)
    _trees(rng, depth, shore, count=40, tall=(0.02, 0.06), depth_value=150)
    depth.land(shore, 150)


def _dunes(rng: Random, depth: _Depth, horizon: float) -> None:
    depth.land(_ridge(rng, horizon + 0.06, 0.14, 4), 30)
    for step, value in enumerate((60, 100, 140, 185, 230)):
        depth.land(_ridge(rng, horizon + 0.12 + step * 0.10, 0.12 - step * 0.008, 2), value)


def _forest(rng: Random, depth: _Depth, horizon: float) -> None:
    depth.land(_ridge(rng, horizon, 0.16, 5), 30)
    for step, value in enumerate((70, 115, 165, 225)):
        ground = _ridge(rng, horizon + 0.12 + step * 0.13, 0.08, 3)
        _trees(rng, depth, ground, count=46 - step * 9, tall=(0.07 + step * 0.05, 0.12 + step * 0.085), depth_value=value)
        depth.land(ground, value)


def _sea(rng: Random, depth: _Depth, horizon: float) -> None:
    for _ in range(rng.choice((1, 2, 2))):
        x, half, tall = rng.random(), rng.uniform(0.08, 0.2), rng.uniform(0.03, 0.09)
        outline = [
            (x - half + 2 * half * part / 12, horizon + 0.004 - tall * math.sin(part / 12 * math.pi) * rng.uniform(0.7, 1.0))
            for part in range(13)
        ]
        depth.shape([*outline, (x + half, horizon + 0.006), (x - half, horizon + 0.006)], 90)
    x, y, size = rng.uniform(0.2, 0.8), horizon + rng.uniform(0.10, 0.2), rng.uniform(0.05, 0.08)
    depth.shape(
        [(x - size * 0.6, y), (x + size * 0.6, y), (x + size * 0.4, y + size * 0.22), (x - size * 0.4, y + size * 0.22)], 245
    )
    depth.shape([(x, y - size * 1.5), (x + size * 0.55, y - size * 0.1), (x, y - size * 0.1)], 215)
    depth.shape([(x - size * 0.05, y - size * 1.25), (x - size * 0.05, y - size * 0.1), (x - size * 0.4, y - size * 0.1)], 235)


def _city(rng: Random, depth: _Depth, horizon: float) -> None:
    for base, low, high, value, count in ((0.0, 0.08, 0.34, 60, 34), (0.10, 0.12, 0.36, 120, 22), (0.22, 0.10, 0.30, 200, 14)):
        x = -0.02
        while x < 1.0:
            width = rng.uniform(0.6, 1.5) / count
            top = horizon + base + 0.05 - rng.uniform(low, high) * (0.6 + 0.4 * math.sin(x * math.pi))
            depth.shape([(x, top), (x + width, top), (x + width, 1.0), (x, 1.0)], value)
            if rng.random() < 0.3:
                middle = x + width / 2
                depth.shape(
                    [(middle - 0.002, top - 0.05), (middle + 0.002, top - 0.05), (middle + 0.002, top), (middle - 0.002, top)],
                    value,
                )
            x += width * rng.uniform(1.0, 1.12)


def _space(rng: Random, depth: _Depth, horizon: float) -> None:
    depth.land(_ridge(rng, 0.86, 0.10, 4), 170)
    depth.land(_ridge(rng, 0.95, 0.08, 3), 240)


_GROUND: Mapping[Kind, Callable[[Random, _Depth, float], None]] = {
    Kind.MOUNTAINS: _mountains,
    Kind.LAKE: _lake,
    Kind.DUNES: _dunes,
    Kind.FOREST: _forest,
    Kind.SEA: _sea,
    Kind.CITY: _city,
    Kind.SPACE: _space,
}


def paint(key: str, prompt: str, size: tuple[int, int]) -> Image.Image:
    """The scene of one picture: `key` decides the composition, words of the prompt the kind and the colours."""
    rng, palette, kind = Random(key), palette_for(prompt), kind_for(prompt)
    horizon = rng.uniform(0.46, 0.58)
    sun = (rng.uniform(0.18, 0.82), rng.uniform(0.16, horizon - 0.12))
    image = _sky(rng, palette, size, horizon, sun)
    if palette.is_night or kind is Kind.SPACE:
        _stars(rng, image, 0.95 if kind is Kind.SPACE else horizon, 420 if kind is Kind.SPACE else 190)
    if kind is Kind.SPACE:
        _planet(rng, image, palette, sun)
    else:
        _disc(image, sun, rng.uniform(0.035, 0.075), _mix(palette.light, (255, 255, 255), 0.35))
    if kind in (Kind.LAKE, Kind.SEA):
        _water(rng, image, palette, horizon, sun[0])
    depth = _Depth(size)
    _GROUND[kind](rng, depth, horizon)
    edges = depth.finish()
    land = _with_mist(_colour_by_depth(edges, palette), palette, horizon - 0.12, horizon + 0.3, 0.40)
    image.paste(land, (0, 0), edges.point([0 if value == 0 else min(255, value * 8) for value in range(256)]))
    if kind is Kind.LAKE:
        _reflect(image, palette, horizon + 0.035)
    if kind is Kind.CITY:
        _windows(rng, image, edges, palette, horizon)
    elif kind is not Kind.SPACE and not palette.is_night:
        _birds(rng, image, palette, horizon)
    return image


def _planet(rng: Random, image: Image.Image, palette: Palette, centre: tuple[float, float]) -> None:
    radius = rng.uniform(0.14, 0.24)
    _disc(image, centre, radius, palette.far)
    side = round(radius * 2 * min(image.size))
    corner = (round(centre[0] * image.width - side / 2), round(centre[1] * image.height - side / 2))
    lamp = ImageOps.invert(Image.radial_gradient("L")).resize((side * 2, side * 2), Image.Resampling.BICUBIC)
    shine = lamp.crop((round(side * 0.75), round(side * 0.75), round(side * 1.75), round(side * 1.75))).resize((side, side))
    round_mask = Image.new("L", (side * 2, side * 2), 0)
    ImageDraw.Draw(round_mask).ellipse((2, 2, side * 2 - 3, side * 2 - 3), fill=255)
    image.paste(palette.horizon, (*corner, corner[0] + side, corner[1] + side), ImageChops.multiply(shine, round_mask.reduce(2)))


def _water(rng: Random, image: Image.Image, palette: Palette, horizon: float, sun_x: float) -> None:
    width, height = image.size
    top = round(horizon * height)
    water = _column(
        [(0.0, _mix(palette.horizon, palette.sky, 0.5)), (0.35, palette.sky), (1.0, _mix(palette.near, palette.sky, 0.25))],
        (width, height - top),
    )
    image.paste(water, (0, top))
    draw = ImageDraw.Draw(image)
    for _ in range(150):
        deep = rng.random() ** 1.6
        y = top + deep * (height - top) + 1
        glitter = rng.random() < 0.55
        middle = (sun_x + rng.gauss(0, 0.03 + 0.10 * deep) if glitter else rng.random()) * width
        half = width * (0.004 + 0.035 * deep * rng.random())
        colour = _mix(palette.sky, palette.light, 0.85) if glitter else _mix(palette.sky, palette.horizon, rng.random() * 0.8)
        draw.line((middle - half, y, middle + half, y), fill=colour, width=max(1, round(height * 0.0016 * (1 + 2 * deep))))


def _reflect(image: Image.Image, palette: Palette, shore: float) -> None:
    """The upper part upside down below the shore, blurred and darkened: still water."""
    width, height = image.size
    top = round(shore * height)
    below = height - top
    above = image.crop((0, max(0, top - below), width, top))
    mirror = (
        ImageOps.flip(above)
        .resize((max(1, width // 4), max(1, below // 10)), Image.Resampling.BOX)
        .resize((width, below), Image.Resampling.BICUBIC)
    )
    old = image.crop((0, top, width, height))
    image.paste(Image.blend(Image.blend(mirror, old, 0.28), Image.new("RGB", mirror.size, palette.near), 0.16), (0, top))


def _windows(rng: Random, image: Image.Image, edges: Image.Image, palette: Palette, horizon: float) -> None:
    draw = ImageDraw.Draw(image)
    width, height = image.size
    step_x, step_y = max(4, round(width * 0.011)), max(5, round(height * 0.017))
    for y in range(round((horizon - 0.25) * height), height, step_y):
        for x in range(0, width, step_x):
            lit = rng.random()
            if lit < 0.24 and 0 < y < height and edges.getpixel((x, y)) in (120, 200):
                colour = _mix(palette.light, palette.horizon, lit * 3)
                draw.rectangle((x, y, x + step_x * 0.4, y + step_y * 0.42), fill=colour)


def _birds(rng: Random, image: Image.Image, palette: Palette, horizon: float) -> None:
    draw = ImageDraw.Draw(image)
    width, height = image.size
    centre_x, centre_y = rng.uniform(0.15, 0.85), rng.uniform(0.12, horizon - 0.2)
    for _ in range(rng.choice((0, 3, 5, 7))):
        x, y = (centre_x + rng.gauss(0, 0.05)) * width, (centre_y + rng.gauss(0, 0.03)) * height
        wing = width * rng.uniform(0.006, 0.012)
        line = max(1, round(width * 0.0016))
        for side in (-1, 1):
            draw.line((x, y, x + side * wing, y - wing * 0.55), fill=_mix(palette.near, palette.far, 0.2), width=line)


# --- other pictures ----------------------------------------------------------------------------------------------------


def regrade(original: Image.Image, key: str, prompt: str, strength: float) -> Image.Image:
    """A picture in the colours its edit asks for: recognisably the same one, visibly changed."""
    palette, rng = palette_for(prompt), Random(key)
    grey = ImageOps.autocontrast(original.convert("L"), cutoff=1)
    coloured = ImageOps.colorize(
        grey, palette.near, _mix(palette.light, palette.horizon, 0.35), mid=_mix(palette.sky, palette.far, 0.5)
    )
    tinted = Image.blend(original, coloured, min(max(strength, 0.0), 1.0) * 0.72)
    small = (max(2, original.width // _SOFT), max(2, original.height // _SOFT))
    glow = _glow(small, (rng.random(), rng.uniform(0.0, 0.45)), 0.55, 0.5 * min(max(strength, 0.0), 1.0))
    tinted.paste(palette.light, (0, 0), glow.resize(original.size, Image.Resampling.BILINEAR))
    return tinted


def unfinished(picture: Image.Image, part_done: float, key: str) -> Image.Image:
    """How the picture looks on the way: blocks and grain that clear up as `part_done` goes to 1."""
    left = 1.0 - min(max(part_done, 0.0), 1.0)
    if left <= 0.0:
        return picture
    width, height = picture.size
    blocks = 1 + round(left * 23)
    coarse = picture.resize((max(1, width // blocks), max(1, height // blocks)), Image.Resampling.BOX).resize(
        picture.size, Image.Resampling.BICUBIC
    )
    grain_size = (max(1, width // 4), max(1, height // 4))
    grain = Image.frombytes("RGB", grain_size, Random(key).randbytes(grain_size[0] * grain_size[1] * 3)).resize(
        picture.size, Image.Resampling.BILINEAR
    )
    return Image.blend(coarse, grain, 0.5 * left**1.5).filter(ImageFilter.GaussianBlur(left * 2))
