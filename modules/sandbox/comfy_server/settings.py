"""What can be set about a stand-in, at start and while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TypedDict

from modules.sandbox.comfy_server.models import DEFAULT_MODELS, LARGE_MODELS, ModelFiles
from modules.sandbox.comfy_server.objects import PACK_STATES, PackState

#: ComfyUI's `--preview-method`; anything else in a prompt is ignored.
PREVIEW_METHODS = ("none", "auto", "latent2rgb", "taesd")


class SettingsArguments(TypedDict, total=False):
    """The same fields as keyword arguments of `ComfySandbox`; what they mean stands in `SandboxSettings`."""

    name: str
    speed: float
    time_scale: float
    pack: PackState
    models: ModelFiles | None
    key: str | None
    preview_method: str
    vram_gb: float
    community_nodes: bool
    hidden_classes: frozenset[str]
    has_jobs_api: bool
    shared_part: float | None
    history_delay_s: float
    has_grain: bool
    is_windows: bool


class BadSettingError(ValueError):
    """A change that makes no sense; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    name: str = "comfy"
    speed: float = 1.0  #: 2.0 is a card twice as fast
    time_scale: float = 1.0  #: seconds of the wall clock per simulated second; 0: no waiting at all
    pack: PackState = "full"
    models: ModelFiles | None = None  #: None: `DEFAULT_MODELS`
    key: str | None = None  #: with ":" Basic, else Bearer; None: no login, as ComfyUI itself
    preview_method: str = "none"  #: `--preview-method` of the server
    vram_gb: float = 24.0
    community_nodes: bool = False  #: the efficiency and Mikey nodes
    hidden_classes: frozenset[str] = frozenset()
    has_jobs_api: bool = True  #: servers before December 2025 lack `/api/jobs`
    shared_part: float | None = None  #: `a` of the batch cost for every family; None: by family and size
    history_delay_s: float = 0.004  #: between `execution_success` and the entry in the history, wall clock, as measured
    has_grain: bool = False  #: saved pictures have grain, so that their files weigh what a photograph's do: 1.2 MB a megapixel
    is_windows: bool = False  #: folders in the lists of files are written with a backslash, as a server on Windows does

    def __post_init__(self) -> None:
        if self.pack not in PACK_STATES:
            raise BadSettingError(f"pack must be one of: {', '.join(PACK_STATES)}")
        if self.speed <= 0 or self.time_scale < 0:
            raise BadSettingError("speed must be above 0, time_scale not below 0")
        if self.preview_method not in PREVIEW_METHODS:
            raise BadSettingError(f"preview_method must be one of: {', '.join(PREVIEW_METHODS)}")

    @property
    def files(self) -> ModelFiles:
        models = self.models if self.models is not None else DEFAULT_MODELS
        if not self.is_windows:
            return models
        return {folder: [name.replace("/", "\\") for name in names] for folder, names in models.items()}

    def wall_seconds(self, simulated: float) -> float:
        return simulated / self.speed * self.time_scale

    def changed(self, changes: Mapping[str, object]) -> SandboxSettings:
        """Raises `BadSettingError` for a name or value it does not know. `models` may be "large" or {folder: [files]}."""
        known = {field.name for field in fields(self)}
        unknown = sorted(changes.keys() - known)
        if unknown:
            raise BadSettingError(f"unknown: {', '.join(unknown)}; known: {', '.join(sorted(known))}")
        wanted = dict(changes)
        match wanted.get("models"):
            case "large":
                wanted["models"] = LARGE_MODELS
            case "default":
                wanted["models"] = DEFAULT_MODELS
            case dict() as folders:
                wanted["models"] = {**self.files, **folders}
        if "hidden_classes" in wanted:
            hidden = wanted["hidden_classes"]
            wanted["hidden_classes"] = frozenset(str(name) for name in hidden) if isinstance(hidden, list) else frozenset()
        try:
            return replace(self, **wanted)  # type: ignore[arg-type]  # values are checked by use; a wrong type is answered as such
        except TypeError as problem:
            raise BadSettingError(str(problem)) from problem

    def as_json(self) -> dict[str, object]:
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return shown | {"key": bool(self.key), "models": dict(self.files), "hidden_classes": sorted(self.hidden_classes)}
