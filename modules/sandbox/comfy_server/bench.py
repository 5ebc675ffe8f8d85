"""What outlives a prompt in one life of a server: the node cache, the weights on the card, and where things are."""

from __future__ import annotations

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from modules.sandbox.comfy_server.faults import Faults
from modules.sandbox.comfy_server.hub import Hub
from modules.sandbox.comfy_server.objects import Catalogue
from modules.sandbox.comfy_server.settings import SandboxSettings
from modules.sandbox.comfy_server.storage import Storage


@dataclass(frozen=True, slots=True)
class CachedNode:
    outputs: tuple[object, ...]
    ui: Mapping[str, object] | None  #: what an output node reported, to be reported again


def _temp_tag() -> str:
    """PreviewImage's files carry five letters that change with every start."""
    return "".join(secrets.choice(string.ascii_lowercase) for _ in range(5))


@dataclass(slots=True)
class Bench:
    settings: SandboxSettings
    catalogue: Catalogue
    storage: Storage
    hub: Hub
    faults: Faults
    crash: Callable[[float | None], None]  #: takes the whole server down; back after so many seconds, None: never
    cache: dict[str, CachedNode] = field(default_factory=dict)  #: by signature
    resident: set[str] = field(default_factory=set)  #: files whose weights are on the card
    temp_tag: str = field(default_factory=_temp_tag)
    step_seconds: dict[str, float] = field(default_factory=dict)  #: of prompts whose pace was given from outside, wall clock
