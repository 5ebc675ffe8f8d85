"""From `/imagine` to the picture, through the whole program."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.support.person import Seen
from tests.support.program import whole_house


async def test_imagine_brings_a_picture_to_the_private_session_and_nobody_else_sees_it(tmp_path: Path) -> None:
    async with whole_house(tmp_path) as house:
        ana, bruno = await house.people.be("ana"), await house.people.be("bruno")
        answer = await ana.slash("imagine", model="z-image", prompt="a lighthouse in a storm")
        assert answer.message is not None
        assert answer.message.is_ephemeral
        result = await ana.wait_for_message(lambda message: message.pictures and "semilla" in message.text, channel="session-ana")
        assert "a lighthouse in a storm" in result.text
        assert [channel.name for channel in await bruno.channels() if channel.name.startswith("session")] == []
        assert house.violations() == []


def a_result_of(prompt: str) -> Callable[[Seen], bool]:
    return lambda message: bool(message.pictures) and f"> {prompt}" in message.text and "semilla" in message.text


async def test_a_kill_in_the_middle_loses_nothing_and_sends_nothing_twice(tmp_path: Path) -> None:
    async with whole_house(tmp_path) as house:
        ana = await house.people.be("ana")
        for prompt in ("first", "second"):
            await ana.slash("imagine", model="z-image", prompt=prompt)
        await house.restart()
        for prompt in ("first", "second"):
            await ana.wait_for_message(a_result_of(prompt), channel="session-ana", timeout=30)
        texts = [message.text for message in await ana.messages("session-ana") if message.pictures]
        assert sum("> first" in text for text in texts) == 1
        assert sum("> second" in text for text in texts) == 1
