"""What administrators read in `#admin-tools` about a server that is there and has a fault."""

from __future__ import annotations

import pytest

from modules.domain.events import ServerTrouble
from modules.domain.jobs import ServerName
from tests.support.front_side import Front
from tests.support.person import People, Person

GPU = ServerName("gpu-1.example")


async def told(person: Person, *words: str) -> str:
    message = await person.wait_for_message(lambda m: m.by_bot and all(word in m.text for word in words), channel="admin-tools")
    return message.text


@pytest.mark.parametrize(
    ("trouble", "words"),
    [
        (
            ServerTrouble(server=GPU, reason="upload_too_large", status=413, route="POST /upload/image"),
            ("gpu-1.example", "`POST /upload/image` answered 413", "client_max_body_size"),
        ),
        (
            ServerTrouble(server=GPU, reason="request_refused", status=500, route="POST /prompt"),
            ("refused the request for one picture", "`POST /prompt` answered 500"),
        ),
        (
            ServerTrouble(server=GPU, reason="request_refused", route="POST /upload/image"),
            ("`POST /upload/image` answered nothing",),
        ),
        (
            ServerTrouble(
                server=GPU,
                reason="node_failed",
                node="SaveImage #9",
                detail="OSError: [Errno 28] No space left on device",
                fails_all=True,
            ),
            ("different people fail", "SaveImage", "No space left on device", "Is its disk full?"),
        ),
    ],
    ids=["413", "500", "no answer", "full disk"],
)
async def test_a_trouble_is_told_with_what_it_takes_to_mend_it(
    front: Front, people: People, trouble: ServerTrouble, words: tuple[str, ...]
) -> None:
    elena = await people.be("elena")
    await elena.wait_for_channel("admin-tools")
    front.studio.bus.publish(trouble)
    await told(elena, *words)


async def test_one_trouble_is_told_once_however_many_pictures_meet_it(front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.wait_for_channel("admin-tools")
    for number in range(5):
        front.studio.bus.publish(
            ServerTrouble(server=GPU, reason="node_failed", node=f"KSampler #{number}", detail=f"RuntimeError: shapes {number}")
        )
    front.studio.bus.publish(ServerTrouble(server=GPU, reason="request_refused", status=403, route="POST /prompt"))
    await told(elena, "answered 403")
    messages = [m for m in await elena.messages("admin-tools") if m.by_bot and "a step of a workflow failed" in m.text]
    assert len(messages) == 1


async def test_what_a_server_says_cannot_mention_anybody_or_format_anything(front: Front, people: People) -> None:
    elena = await people.be("elena")
    await elena.wait_for_channel("admin-tools")
    front.studio.bus.publish(ServerTrouble(server=GPU, reason="node_failed", node="X #1", detail="**@everyone** `x`"))
    assert "\\*\\*\\@everyone" in await told(elena, "a step of a workflow failed")
