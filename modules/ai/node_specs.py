"""The inputs of a ComfyUI node class as `GET /object_info` describes them, in every style that ComfyUI writes them in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

COMBO = "COMBO"
#: Inputs that stand for others, whose names and number depend on what the graph gives. Source: comfy_api/latest/_io.py.
AUTOGROW, DYNAMIC_COMBO, DYNAMIC_SLOT = "COMFY_AUTOGROW_V3", "COMFY_DYNAMICCOMBO_V3", "COMFY_DYNAMICSLOT_V3"
#: Most inputs that one growing input may become. Source: `Autogrow._MaxNames` in comfy_api/latest/_io.py.
MAX_GROWN = 100
#: How deep such inputs may lie in each other before we stop reading; ComfyUI's own reach three.
_MAX_DEPTH = 8
#: A picture's name may say in which folder it is. Source: `annotated_filepath` in ComfyUI's folder_paths.py.
_ANNOTATIONS = ("[input]", "[output]", "[temp]")


def canonical(name: str) -> str:
    """A file's name with `/` between its folders: Windows servers write `\\` for the same file."""
    return name.replace("\\", "/")


#: A name with what it is sorted by in front, so that people find capitals beside small letters.
ReadingOrder = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """What a growing input becomes: `<its name>.<one of these>` for each that the graph gives, the first `least` always."""

    names: tuple[str, ...]
    least: int
    spec: InputSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """One input of a node class."""

    kind: str  #: `MODEL`, `INT`, `STRING` ...; `COMBO` for a list of names, whatever style the server wrote it in
    is_required: bool
    options: tuple[str, ...] | None = None  #: the names of a list; None when this input has no list
    default: object = None
    #: The list is of uploaded pictures: incomplete by nature (subfolders are valid but not listed).
    is_upload: bool = False
    low: float | None = None
    high: float | None = None
    step: float | None = None
    is_long_text: bool = False  #: written in a box of several lines, as prompts are
    growth: Growth | None = None
    #: The inputs that come with it: by its value (of a DYNAMIC_COMBO), or whatever its value is under "" (of a DYNAMIC_SLOT).
    further: Mapping[str, Mapping[str, InputSpec]] = field(default_factory=dict)
    #: The list in the order people read it, each file once, with `/` between folders. Worked out here, where a thread reads it.
    names: tuple[ReadingOrder, ...] = field(init=False, repr=False, compare=False)
    _spelt: Mapping[str, str] = field(init=False, repr=False, compare=False)
    _exact: frozenset[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        spelt = {canonical(option): option for option in reversed(self.options or ())}
        object.__setattr__(self, "_spelt", spelt)
        object.__setattr__(self, "_exact", frozenset(self.options or ()))
        object.__setattr__(self, "names", tuple(sorted((name.casefold(), name) for name in spelt)))

    def match(self, name: str) -> str | None:
        """The list's own spelling of a name; folders may be written with `/` or `\\`, as the server's system has it."""
        return name if name in self._exact else self._spelt.get(canonical(name))

    def accepts(self, name: str) -> bool:
        """Whether the server takes this name here: it is on the list, there is no list, or the list need not hold it."""
        if self.options is None or self.match(name) is not None:
            return True
        return self.is_upload and ("/" in canonical(name) or name.endswith(_ANNOTATIONS))

    @property
    def is_dynamic(self) -> bool:
        """Whether it stands for other inputs."""
        return self.growth is not None or bool(self.further)


def read_inputs(declared: object, depth: int = 0) -> dict[str, InputSpec]:
    """The inputs of an entry's `input`: `{"required": {name: spec}, "optional": {...}}`. What is not understood is left out."""
    if not isinstance(declared, Mapping):
        return {}
    return {
        name: _input_spec(spec, is_required=section == "required", depth=depth)
        for section in ("optional", "required")
        if isinstance(inputs := declared.get(section), Mapping)
        for name, spec in inputs.items()
        if isinstance(name, str)
    }


def expanded(inputs: Mapping[str, InputSpec], given: Mapping[str, object], prefix: str = "") -> dict[str, InputSpec]:
    """The inputs that a node really has, given what a graph writes there, under the names that a graph writes.

    As `get_finalized_class_inputs` in comfy_api/latest/_io.py does: a growing input is not there itself, only what it grew.
    """
    found: dict[str, InputSpec] = {}
    for name, spec in inputs.items():
        full = prefix + name
        if spec.growth is not None:
            found |= _grown(spec.growth, given, full)
        elif not spec.is_dynamic:
            found[full] = spec
        elif full in given:
            chosen = given[full] if spec.kind == DYNAMIC_COMBO else ""
            if isinstance(chosen, str) and chosen in spec.further:
                found |= expanded(spec.further[chosen], given, f"{full}.")
            found[full] = spec
    return found


def _grown(growth: Growth, given: Mapping[str, object], full: str) -> dict[str, InputSpec]:
    return {
        f"{full}.{name}": growth.spec if place < growth.least and growth.spec.is_required else _optional(growth.spec)
        for place, name in enumerate(growth.names)
        if place < growth.least or f"{full}.{name}" in given
    }


def _optional(spec: InputSpec) -> InputSpec:
    return InputSpec(kind=spec.kind, is_required=False, options=spec.options, low=spec.low, high=spec.high, step=spec.step)


# --- reading ------------------------------------------------------------------------------------------------------------


def _input_spec(spec: object, *, is_required: bool, depth: int) -> InputSpec:
    """`["INT", {...}]`, `[["a", "b"], {...}]` (V1 lists) or `["COMBO", {"options": ["a"]}]` (V3 lists)."""
    kind = spec[0] if isinstance(spec, list) and spec else "*"
    details = spec[1] if isinstance(spec, list) and len(spec) > 1 and isinstance(spec[1], Mapping) else {}
    listed = kind if isinstance(kind, list) else details.get("options") if kind == COMBO else None
    further = _further(kind, details, depth)
    if kind == DYNAMIC_COMBO:
        listed = list(further)
    return InputSpec(
        kind=COMBO if isinstance(kind, list) else str(kind),
        is_required=is_required,
        options=tuple(_readable(listed)) if isinstance(listed, list) else None,
        default=details.get("default"),
        is_upload=bool(details.get("image_upload")),
        low=_number(details.get("min")),
        high=_number(details.get("max")),
        step=_number(details.get("step")),
        is_long_text=kind == "STRING" and bool(details.get("multiline") or details.get("dynamicPrompts")),
        growth=_growth(details.get("template"), depth) if kind == AUTOGROW else None,
        further=further,
    )


def _readable(names: list[object]) -> Iterator[str]:
    """The names that can be sent back. A file name that is no UTF-8 comes as lone surrogates, which nothing can encode."""
    for name in map(str, names):
        try:
            name.encode()
        except UnicodeEncodeError:
            continue
        yield name


def _growth(template: object, depth: int) -> Growth | None:
    """`{"input": {"required": {"image": ["IMAGE", {}]}}, "prefix": "image_", "min": 1, "max": 10}`, or with `names`."""
    if not isinstance(template, Mapping) or depth >= _MAX_DEPTH:
        return None
    specs = read_inputs(template.get("input"), depth + 1)
    names, prefix = template.get("names"), template.get("prefix")
    if isinstance(names, list):
        grown = [str(name) for name in names]
    else:
        grown = [f"{prefix}{number}" for number in range(min(_whole(template.get("max")), MAX_GROWN))]
    if not specs:
        return None
    return Growth(names=tuple(grown[:MAX_GROWN]), least=_whole(template.get("min")), spec=next(iter(specs.values())))


def _further(kind: object, details: Mapping[object, object], depth: int) -> dict[str, dict[str, InputSpec]]:
    if depth >= _MAX_DEPTH:
        return {}
    if kind == DYNAMIC_SLOT:
        return {"": read_inputs(details.get("inputs"), depth + 1)}
    options = details.get("options")
    if kind != DYNAMIC_COMBO or not isinstance(options, list):
        return {}
    return {
        str(option["key"]): read_inputs(option.get("inputs"), depth + 1)
        for option in options
        if isinstance(option, Mapping) and "key" in option
    }


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
