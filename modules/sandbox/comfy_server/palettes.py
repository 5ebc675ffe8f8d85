"""Colours and kinds of scene that words of a prompt hint at, in English and Spanish."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

Colour = tuple[int, int, int]


class Kind(StrEnum):
    MOUNTAINS = "mountains"
    LAKE = "lake"
    DUNES = "dunes"
    FOREST = "forest"
    SEA = "sea"
    CITY = "city"
    SPACE = "space"


@dataclass(frozen=True, slots=True)
class Palette:
    """From the top of the sky to the nearest ground."""

    zenith: Colour
    sky: Colour
    horizon: Colour
    light: Colour  #: sun, moon, windows
    far: Colour
    near: Colour
    is_night: bool = False


def _hex(text: str) -> Colour:
    return int(text[0:2], 16), int(text[2:4], 16), int(text[4:6], 16)


def _palette(colours: str, *, night: bool = False) -> Palette:
    zenith, sky, horizon, light, far, near = (_hex(part) for part in colours.split())
    return Palette(zenith, sky, horizon, light, far, near, night)


PALETTES: Mapping[str, Palette] = {
    "dawn": _palette("41508f b684b8 ffc8a0 fff0c4 a993b8 2b2c4d"),
    "sunset": _palette("2f2a63 c1497a ffa15e ffe3a0 9b5a86 1f1533"),
    "day": _palette("2f7fc4 7fbbe6 dcf0f2 fffbe0 8fb4c4 1d4a4c"),
    "night": _palette("0b1130 1d2a5c 4a5c96 e9edff 33447c 070b1e", night=True),
    "aurora": _palette("07142b 0f3b50 2b8a7c c8ffe4 1f5a66 041018", night=True),
    "autumn": _palette("6a86a0 c9b494 f4d9a4 fff3d0 c98f55 4a2417"),
    "snow": _palette("7fa3c8 b9d3e6 f2f7fa ffffff b4c9da 3d5874"),
    "forest": _palette("3f7f8c 92c0a4 e6efc0 fffbd8 7da88a 12352c"),
    "desert": _palette("3a6ea5 d7a86e f9d9a0 fff2cc d9935a 6b2f1c"),
    "sea": _palette("17568c 57a6c4 cdeae4 fffbe4 6aa3b4 0c3a55"),
    "neon": _palette("0d0722 3a1166 d02c8c 7dfcff 4b2280 0a0518", night=True),
    "red": _palette("3d0f1c a32a31 f28b62 ffe2b4 8c3038 220a10"),
    "pink": _palette("6a4b8c e08db4 ffd3cc fff3e6 b889b4 45284f"),
    "purple": _palette("22124d 6c3fa0 d79be0 ffeaff 6d4a9c 160a30"),
    "gold": _palette("5a3d1e c48a3a ffdc8a fff7d2 a8763c 2c1a0c"),
    "green": _palette("12544c 4fa57a d9efac fbffdc 5f9c78 0c2f24"),
    "mist": _palette("5f7486 9fb0b8 dfe4e0 ffffff a6b4b8 34444c"),
}

#: First match wins, so the more particular words come first.
_COLOUR_WORDS: Sequence[tuple[str, str]] = (
    ("neon", r"neon|cyber|synthwave|vaporwave|neón"),
    ("aurora", r"aurora|boreal|northern lights"),
    ("sunset", r"sunset|dusk|evening|atardecer|ocaso|puesta de sol|orange|naranja"),
    ("dawn", r"dawn|sunrise|morning|amanecer|alba|mañana"),
    ("night", r"night|moon|star|noche|luna|estrell|midnight|galax|space|espacio|cosm"),
    ("snow", r"snow|winter|ice|frost|nieve|nevad|invierno|hielo|polar|penguin|pingüino"),
    ("autumn", r"autumn|fall leaves|otoñ|october|octubre|fox|zorro|pumpkin|calabaza"),
    ("desert", r"desert|dune|sand|sahara|desierto|duna|arena|camel|mars|marte"),
    ("forest", r"forest|wood|jungle|bosque|selva|moss|musgo|tree|árbol"),
    ("sea", r"\bsea\b|ocean|beach|wave|\bmar\b|océano|playa|olas|ship|barco|whale|ballena|lighthouse|faro|island|isla"),
    ("red", r"\bred\b|\broj[oa]|volcan|fire|fuego|dragon|dragón|lava|crimson"),
    ("pink", r"pink|rosa|cherry|sakura|cerezo|flamingo|unicorn"),
    ("purple", r"purple|violet|lavender|morad[oa]|violeta|lavanda|magic|magia|wizard|mago"),
    ("gold", r"gold|dorad[oa]|\boro\b|wheat|trigo|honey|miel|lion|león"),
    ("green", r"green|verde|meadow|prado|field|campo|spring|primavera|frog|rana"),
    ("mist", r"mist|fog|niebla|bruma|rain|lluvia|grey|gray|gris"),
    ("day", r"blue|azul|sky|cielo|summer|verano|day|día"),
)
_KIND_WORDS: Sequence[tuple[Kind, str]] = (
    (Kind.SPACE, r"space|galax|planet|nebula|astronaut|espacio|planeta|nebulosa|astronauta|cosm|rocket|cohete"),
    (Kind.CITY, r"city|town|street|skyline|tokyo|cyber|neon|ciudad|calle|pueblo|robot|neón"),
    (
        Kind.SEA,
        r"\bsea\b|ocean|beach|wave|\bmar\b|océano|playa|olas|ship|barco|whale|ballena|lighthouse|faro|island|isla|boat|bote",
    ),
    (Kind.DUNES, r"desert|dune|sand|desierto|duna|arena|mars|marte|camel"),
    (Kind.FOREST, r"forest|wood|jungle|bosque|selva|tree|árbol|fox|zorro|deer|ciervo|owl|búho"),
    (Kind.LAKE, r"lake|river|lago|río|reflection|reflejo|swan|cisne"),
    (Kind.MOUNTAINS, r"mountain|peak|alps|montaña|cumbre|volcan|valley|valle|dragon|dragón|hill|colina|castle|castillo"),
)
_WITHOUT_A_WORD = (Kind.MOUNTAINS, Kind.LAKE, Kind.DUNES, Kind.FOREST, Kind.SEA)


def _by_prompt(prompt: str, count: int, salt: str) -> int:
    """A choice that stays the same for one prompt, whatever the seed."""
    return hashlib.sha256(f"{salt}{prompt}".encode("utf-8", "surrogatepass")).digest()[0] % count


def palette_for(prompt: str) -> Palette:
    lowered = prompt.lower()
    for name, words in _COLOUR_WORDS:
        if re.search(words, lowered):
            return PALETTES[name]
    names = sorted(PALETTES)
    return PALETTES[names[_by_prompt(prompt, len(names), "colour")]]


def kind_for(prompt: str) -> Kind:
    lowered = prompt.lower()
    for kind, words in _KIND_WORDS:
        if re.search(words, lowered):
            return kind
    return _WITHOUT_A_WORD[_by_prompt(prompt, len(_WITHOUT_A_WORD), "kind")]
