"""Who writes to the bot directly is told where it works: once, kindly, and never in a loop."""

from __future__ import annotations

from modules.domain.people import UserId
from modules.domain.records import PersonSettings
from tests.support.front_side import Front, FrontDoor
from tests.support.person import People, Person, Seen

SENDS = r"^POST /channels/\d+/messages$"
ENGLISH = (
    "I don't read along here. I work on the server: type `/imagine` in any channel there, and I'll make you a private session."
)


async def answers(person: Person) -> list[Seen]:
    return [message for message in await person.messages("dm") if message.by_bot]


async def test_a_direct_message_is_answered_with_where_it_works(front: Front, people: People) -> None:
    bruno = await people.be("bruno")
    await bruno.say("draw me a fox please", "dm")
    await bruno.wait_for_message(lambda m: m.by_bot and m.text == ENGLISH, channel="dm")


async def test_it_is_said_once_however_much_is_written(door: FrontDoor, front: Front, people: People) -> None:
    """Two programs that answer each other would go on for ever."""
    bruno, ana = await people.be("bruno"), await people.be("ana")
    for number in range(6):
        await bruno.say(f"hello {number}", "dm")
    await bruno.wait_for_message(lambda m: m.by_bot, channel="dm")
    await ana.say("hola", "dm")  # by then everything before it was read
    await ana.wait_for_message(lambda m: m.by_bot, channel="dm")
    assert len(await answers(bruno)) == len(await answers(ana)) == 1
    assert len(door.calls(SENDS)) == 2


async def test_it_is_said_in_the_language_the_person_chose(front: Front, people: People) -> None:
    ana = await people.be("ana")
    await front.database.people.save_settings(PersonSettings(user_id=UserId(int(ana.id)), language="es"))
    await ana.say("hola", "dm")
    said = await ana.wait_for_message(lambda m: m.by_bot, channel="dm")
    assert said.text.startswith("Aquí no leo lo que escribes.")


async def test_its_own_direct_messages_and_private_answers_are_not_answered(
    door: FrontDoor, front: Front, people: People
) -> None:
    """Private answers to commands come back to us without a guild, as direct messages do."""
    bruno = await people.be("bruno")
    await bruno.slash("imagine", "dm", model="z-image", prompt="a fox")
    await bruno.slash("settings")
    await bruno.say("hello", "dm")
    await bruno.wait_for_message(lambda m: m.by_bot and m.text == ENGLISH, channel="dm")
    assert len(door.calls(SENDS)) == 1
