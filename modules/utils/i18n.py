"""Sentences by key and language: TOML catalogues, with Babel for plurals, ordinals and numbers.

A sentence is a string with `{placeholders}`, or a table of plural forms chosen by the parameter `count`. Nothing is looked up by
its English text, and a key that is missing is a bug that raises: the parity test finds it before a person does.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter

from babel import Locale
from babel.numbers import format_decimal

from modules.domain.people import Language

LOCALES_FOLDER = Path(__file__).with_name("locales")

Value = str | int | float
#: One form, or the forms by CLDR plural category (`one`, `many`, `other` ...).
Sentence = str | Mapping[str, str]

_MINUTE_S = 60
_HOUR_S = 3600
_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Texts:
    """The sentences of one language."""

    language: Language
    sentences: Mapping[str, Sentence] = field(repr=False)
    lists: Mapping[str, tuple[str, ...]] = field(repr=False)
    locale: Locale = field(repr=False)

    def __call__(self, key: str, /, **params: Value) -> str:
        """The sentence with its parameters; numbers are written as this language writes them, text goes in as it is.

        Raises KeyError for an unknown key or a missing parameter. What a person typed must be escaped by the caller.
        """
        sentence = self.sentences[key]
        if not isinstance(sentence, str):
            sentence = sentence.get(self.locale.plural_form(float(params["count"])), sentence["other"])
        return sentence.format(**{name: self._written(value) for name, value in params.items()})

    def all_of(self, key: str) -> tuple[str, ...]:
        """A list of sentences, such as ideas for prompts."""
        return self.lists[key]

    def number(self, value: float) -> str:
        """A number with at most two decimals."""
        return str(format_decimal(value, format="#,##0.##", locale=self.locale))

    def ordinal(self, number: int) -> str:
        """`3rd`, `3.º`."""
        forms = self.sentences["ordinal"]
        if isinstance(forms, str):
            return forms.format(number=number)
        return forms.get(self.locale.ordinal_form(number), forms["other"]).format(number=number)

    def duration(self, seconds: float) -> str:
        """A length of time for people: `3.4 s`, `48 s`, `5 min`, `2 min 5 s`, `1 h 20 min`; at most two units."""
        seconds = max(0.0, seconds)
        if seconds < 10:
            return self._unit(round(seconds, 1), "second")
        whole = round(seconds)
        if whole < _MINUTE_S:
            return self._unit(whole, "second")
        for unit_s, unit, smaller_s, smaller in (
            (_MINUTE_S, "minute", 1, "second"),
            (_HOUR_S, "hour", _MINUTE_S, "minute"),
            (_DAY_S, "day", _HOUR_S, "hour"),
        ):
            if unit == "day" or whole < unit_s * (60 if unit == "minute" else 24):
                many, rest = divmod(whole, unit_s)
                few = rest // smaller_s
                return f"{self._unit(many, unit)} {self._unit(few, smaller)}" if few else self._unit(many, unit)
        raise AssertionError("days end every duration")

    def _unit(self, value: float, unit: str) -> str:
        # Symbols from the catalogue: Babel's own short Spanish form of one hour is "1 horas".
        return self(f"unit.{unit}", number=value)

    def _written(self, value: Value) -> str:
        return value if isinstance(value, str) else self.number(value)


class Phrasebook:
    """All languages at once."""

    def __init__(self, texts: Mapping[Language, Texts], default: Language) -> None:
        self._texts = texts
        self.default = default

    @classmethod
    def load(cls, default: Language = Language.ENGLISH, folder: Path = LOCALES_FOLDER) -> Phrasebook:
        """Read every language's file; raises OSError or tomllib.TOMLDecodeError when one is missing or broken."""
        return cls({language: _read(folder / f"{language}.toml", language) for language in Language}, default)

    def texts(self, language: Language | str | None = None) -> Texts:
        """The sentences of a language; None or one we do not speak gives the house's default."""
        if language is None:
            return self._texts[self.default]
        return self._texts[Language.from_locale(language, self.default)]


def placeholders(sentence: Sentence) -> frozenset[str]:
    """The names in braces, over all plural forms."""
    forms = (sentence,) if isinstance(sentence, str) else tuple(sentence.values())
    return frozenset(name for form in forms for _, name, _, _ in Formatter().parse(form) if name)


def _read(file: Path, language: Language) -> Texts:
    tree = tomllib.loads(file.read_text(encoding="utf-8"))
    sentences: dict[str, Sentence] = {}
    lists: dict[str, tuple[str, ...]] = {}
    for key, value in _flat(tree):
        if isinstance(value, tuple):
            lists[key] = value
        else:
            sentences[key] = value
    return Texts(language, sentences, lists, Locale.parse(str(language)))


def _flat(tree: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, Sentence | tuple[str, ...]]]:
    """Nested tables as dotted keys; a table with the plural form `other` is one sentence."""
    for name, value in tree.items():
        key = f"{prefix}{name}"
        if isinstance(value, str):
            yield key, value
        elif isinstance(value, list):
            yield key, tuple(str(entry) for entry in value)
        elif isinstance(value, Mapping):
            if "other" in value:
                yield key, {str(form): str(text) for form, text in value.items()}
            else:
                yield from _flat(value, f"{key}.")
        else:
            raise TypeError(f"{key} is no sentence")
