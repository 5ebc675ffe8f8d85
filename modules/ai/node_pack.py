"""Our node pack on a server: whether it is there, what it allows, whether it is ours (comfy_custom_nodes/PROTOCOL.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from modules.ai.listing import ServerListing
from modules.domain.servers import MergeCapability

#: The version of the merge protocol we speak.
PROTOCOL = 1
ENCODER = "CLIPTextEncodeBatch"
SAMPLERS = ("FuLLetMergeGuider", "FuLLetMergeKSampler")
_SLOT_LIST = "MERGE_COND"
#: Every node's description starts with `FuLLet merge pack 1.0.0, protocol 1. ...`
_TITLE = "FuLLet merge pack "


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePack:
    """What was found."""

    capability: MergeCapability
    version: str = ""
    #: Somebody else's class sits under our encoder's name.
    is_wrong: bool = False


def find_pack(listing: ServerListing, object_info: Mapping[str, object]) -> NodePack:
    """Read the capability off the listing, and the version off the description in the raw `/object_info`."""
    encoder = listing.classes.get(ENCODER)
    if encoder is None:
        return NodePack(capability=MergeCapability.NONE)
    if encoder.outputs[:1] != (_SLOT_LIST,) or not _speaks(listing, ENCODER):
        return NodePack(capability=MergeCapability.NONE, is_wrong=True)
    is_full = all(_speaks(listing, name) for name in SAMPLERS)
    about = object_info.get(ENCODER)
    return NodePack(
        capability=MergeCapability.FULL if is_full else MergeCapability.ENCODE,
        version=_version(str(about.get("description", ""))) if isinstance(about, Mapping) else "",
    )


def _speaks(listing: ServerListing, name: str) -> bool:
    return str(PROTOCOL) in listing.options(name, "protocol")


def _version(description: str) -> str:
    return description.removeprefix(_TITLE).split(",")[0].strip() if description.startswith(_TITLE) else ""
