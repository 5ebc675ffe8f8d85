"""The `.env` file before it is read as settings: whether it is text at all, and names in it that nobody reads."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import SequenceMatcher
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

ENV_FILE = Path(".env")
#: Editors on Windows put a byte order mark in front of UTF-8; it is skipped.
ENCODING = "utf-8-sig"
#: Beginnings of files in other encodings. UTF-32's mark begins with UTF-16's, so either says enough.
_OTHER_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
#: From this likeness on (1: the same letters, underscores left out) a name is taken for a misspelt one of ours.
_ALIKE = 0.85
#: The environment holds names of many other programs, so there it must be closer.
_ALIKE_IN_ENVIRONMENT = 0.93


class EnvFileError(Exception):
    """The file cannot be read as settings; the text is one sentence for the operator and never holds anything from the file."""


@dataclass(frozen=True, slots=True)
class Misspelt:
    """A name that no setting has, and the one that was probably meant."""

    written: str
    meant: str


def check_env_file(path: Path = ENV_FILE) -> None:
    """Raise EnvFileError where the file is there and is no text in UTF-8."""
    if path.is_dir():
        raise EnvFileError(f"{path} is a folder; it must be a file (Docker makes a folder where a mounted file is missing)")
    _read(path)


def misspelt_names(settings: Iterable[str], environment: Mapping[str, str], path: Path = ENV_FILE) -> list[Misspelt]:
    """Names in the file or the environment that look like a setting and are none, sorted. `settings` are in capitals."""
    known = set(settings)
    written = {name.upper(): _ALIKE_IN_ENVIRONMENT for name in environment}
    written |= {name.upper(): _ALIKE for name in _names_in(path)}
    found = (_meant(name, known, least) for name, least in written.items() if name not in known)
    return sorted((each for each in found if each), key=lambda each: each.written)


def _names_in(path: Path) -> Iterator[str]:
    text = _read(path)
    yield from dotenv_values(stream=StringIO(text), interpolate=False)


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return ""
    except OSError as error:
        raise EnvFileError(f"{path} is there but cannot be read; look at who may read it") from error
    if data.startswith(_OTHER_MARKS) or b"\0" in data:
        raise EnvFileError(f"{path} is saved as UTF-16; save it again as UTF-8 (in Notepad: Save as, Encoding)")
    try:
        return data.decode(ENCODING)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise EnvFileError(f"{path}, line {line} holds a character that is no UTF-8; save the file again as UTF-8") from error


def _meant(name: str, known: Iterable[str], least: float) -> Misspelt | None:
    def likeness(setting: str) -> float:
        return SequenceMatcher(None, name.replace("_", ""), setting.replace("_", "")).ratio()

    best = max(sorted(known), key=likeness)
    return Misspelt(name, best) if likeness(best) >= least else None
