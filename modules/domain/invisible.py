"""Characters that nobody sees: they cut words in two, fill prompts that say nothing, and mean nothing to a person."""

from __future__ import annotations

#: First and last of each range with the property Default_Ignorable_Code_Point: joiners, fillers, variation selectors, tags.
#: Source: Unicode Character Database 16.0, DerivedCoreProperties.txt. Python's `unicodedata` does not know this property.
_RANGES = (
    (0x00AD, 0x00AD),
    (0x034F, 0x034F),
    (0x061C, 0x061C),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x200B, 0x200F),
    (0x202A, 0x202E),
    (0x2060, 0x206F),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A),
    (0xE0000, 0xE0FFF),
)
INVISIBLE = frozenset(chr(code) for first, last in _RANGES for code in range(first, last + 1))


def says_something(text: str) -> bool:
    """Whether there is anything in it that a person could see."""
    return any(char not in INVISIBLE and not char.isspace() for char in text)
