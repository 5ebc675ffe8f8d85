"""What members do most: wish for a picture and look at what comes. Works in every language and with a busy machine's patience."""

from __future__ import annotations

import asyncio
import re

from tests.support.person import Answer, Person, Seen

#: A picture takes a moment on an idle machine; this is for one with other things to do.
PATIENCE_S = 60.0
#: Small, so that a test draws quickly.
SIZE = "512x512"

_SEED = re.compile(r"(?:seed|semilla) (\d+)")


async def ask(person: Person, prompt: str, *, model: str = "z-image", size: str = SIZE, **options: object) -> Answer:
    """`/imagine` that is accepted."""
    wanted: dict[str, object] = {"model": model, "prompt": prompt, "size": size} | options
    answer = await person.slash("imagine", timeout=PATIENCE_S, **wanted)  # type: ignore[arg-type]  # no option is called channel
    assert answer.message is not None, "the bot did not answer"
    assert "<#" in answer.text, f"refused: {answer.text}"  # the session's channel
    return answer


async def draw(person: Person, prompt: str, *, model: str = "z-image", size: str = SIZE, **options: object) -> Seen:
    """`/imagine`, and its result."""
    known = {message.id for message in await results(person)}
    await ask(person, prompt, model=model, size=size, **options)
    return await person.wait_for_message(lambda m: is_result(m, person) and m.id not in known, timeout=PATIENCE_S)


async def result(person: Person, prompt: str) -> Seen:
    """The newest result with these words on it."""
    return await person.wait_for_message(lambda m: is_result(m, person) and prompt in m.text, timeout=PATIENCE_S)


async def results(person: Person) -> list[Seen]:
    """All results in this person's session, oldest first."""
    return [m for channel in await sessions(person) for m in await person.messages(channel) if is_result(m, person)]


async def session(person: Person) -> str:
    """The id of the one session channel this person sees."""
    found = await sessions(person)
    assert len(found) == 1, f"{person} sees the sessions {found}"
    return found[0]


async def sessions(person: Person) -> list[str]:
    """The ids of the session channels this person sees."""
    return [channel.id for channel in await person.channels() if channel.name.startswith("session-")]


def is_result(message: Seen, person: Person) -> bool:
    """A result mentions its owner; a card with a preview does not."""
    return bool(message.pictures) and message.by_bot and person.id in message.mentions


def seed_on(message: Seen) -> int:
    """The seed a card or result shows."""
    found = _SEED.search(message.text)
    assert found is not None, f"no seed on: {message}"
    return int(found[1])


async def pictures_on(person: Person, message: Seen) -> list[bytes]:
    """The files behind what a message shows."""
    return list(await asyncio.gather(*(person.download(url) for url in message.pictures)))


async def card(person: Person, prompt: str) -> Seen:
    """The queue card with these words on it."""
    return await person.wait_for_message(
        lambda m: m.by_bot and not m.is_ephemeral and prompt in m.text and not is_result(m, person), timeout=PATIENCE_S
    )
