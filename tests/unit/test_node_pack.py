"""What a server's node pack allows is read off `/object_info`, and another pack under the same name is noticed."""

from __future__ import annotations

import pytest

from modules.ai.listing import ServerListing
from modules.ai.node_pack import NodePack, find_pack
from modules.domain.servers import MergeCapability
from tests.support.comfy_recordings import reply


def a_node(*outputs: str, protocol: object = (1,), description: str = "") -> dict[str, object]:
    optional = {} if protocol is None else {"protocol": [list(protocol) if isinstance(protocol, tuple) else protocol, {}]}
    return {"input": {"required": {}, "optional": optional}, "output": list(outputs), "description": description}


def found(**nodes: object) -> NodePack:
    return find_pack(ServerListing.from_object_info(nodes), nodes)


OURS = a_node("MERGE_COND", description="FuLLet merge pack 1.0.0, protocol 1. Encodes several prompts.")
GUIDER, KSAMPLER = a_node("GUIDER"), a_node("LATENT")


def test_a_stock_server_has_none() -> None:
    body = reply("object_info_selected")
    assert isinstance(body, dict)
    assert find_pack(ServerListing.from_object_info(body), body) == NodePack(capability=MergeCapability.NONE)


def test_the_whole_pack_allows_everything() -> None:
    pack = found(CLIPTextEncodeBatch=OURS, FuLLetMergeGuider=GUIDER, FuLLetMergeKSampler=KSAMPLER)
    assert pack == NodePack(capability=MergeCapability.FULL, version="1.0.0")


@pytest.mark.parametrize(
    "rest",
    [{}, {"FuLLetMergeGuider": GUIDER}, {"FuLLetMergeGuider": GUIDER, "FuLLetMergeKSampler": a_node("LATENT", protocol=(2,))}],
)
def test_without_every_sampler_in_our_protocol_it_only_encodes(rest: dict[str, object]) -> None:
    assert found(CLIPTextEncodeBatch=OURS, **rest).capability is MergeCapability.ENCODE


@pytest.mark.parametrize(
    "encoder",
    [
        a_node("CONDITIONING"),
        a_node("CONDITIONING", protocol=None),
        a_node("MERGE_COND", protocol=(2, 3)),
        a_node("MERGE_COND", protocol=None),
    ],
)
def test_another_pack_under_our_name_is_wrong(encoder: object) -> None:
    pack = found(CLIPTextEncodeBatch=encoder, FuLLetMergeGuider=GUIDER, FuLLetMergeKSampler=KSAMPLER)
    assert pack == NodePack(capability=MergeCapability.NONE, is_wrong=True)


def test_a_newer_pack_that_still_speaks_ours_will_do() -> None:
    assert found(CLIPTextEncodeBatch=a_node("MERGE_COND", protocol=(1, 2))).capability is MergeCapability.ENCODE
