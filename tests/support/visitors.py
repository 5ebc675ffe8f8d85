"""People who use the whole program in their own language: they press what a button says to them, and know their results."""

from __future__ import annotations

from dataclasses import dataclass

from modules.domain.people import Language
from modules.utils.i18n import Phrasebook, Texts
from tests.support.person import Answer, Modal, People, Person, Seen

#: Pictures come within tenths of a second here; a loaded machine needs slack.
DRAWN_WITHIN_S = 60.0
_PHRASES = Phrasebook.load()


@dataclass(frozen=True, slots=True)
class Visitor:
    """A person, and the sentences they should be met with."""

    person: Person
    texts: Texts

    @property
    def session(self) -> str:
        """The name of their channel."""
        return f"session-{self.person.username}"

    async def imagine(self, prompt: str, **options: object) -> Seen:
        """Ask for a picture and wait for it."""
        newest = await self.newest_result()
        wanted: dict[str, object] = {"model": "z-image", "size": "512x512"} | options
        answer = await self.person.slash("imagine", prompt=prompt, **wanted)  # type: ignore[arg-type] # command options
        self.must_be_accepted(answer)
        return await self.result_after(newest)

    async def press(self, message: Seen, act: str) -> Answer:
        """Press the button that says this in their language."""
        return await self.person.press(message, self.texts(f"button.{act}"))

    async def open(self, message: Seen, act: str) -> Modal:
        """Press a button that opens a window."""
        answer = await self.press(message, act)
        assert answer.modal is not None, f"no window opened: {answer.message}"
        return answer.modal

    def must_be_accepted(self, answer: Answer) -> None:
        """The answer says, only to them, that something is on its way."""
        assert answer.message is not None, "no answer"
        assert answer.message.is_ephemeral
        assert self.texts("answer.follow", channel="").strip(". ") in answer.text, answer.text

    async def newest_result(self) -> int:
        """The id of the newest result in their session; 0 without any."""
        names = {channel.name for channel in await self.person.channels()}
        messages = await self.person.messages(self.session) if self.session in names else []
        return max((int(message.id) for message in messages if is_result(message)), default=0)

    async def result_after(self, newest: int) -> Seen:
        """The next result, in their own language and for them."""
        found = await self.person.wait_for_message(
            lambda message: is_result(message) and int(message.id) > newest, channel=self.session, timeout=DRAWN_WITHIN_S
        )
        assert self.texts("button.again") in [button.label for button in found.buttons], found
        assert found.mentions == [self.person.id]
        return found


async def visitor(people: People, name: str) -> Visitor:
    """Sit down at somebody's client; the sentences follow its language."""
    person = await people.be(name)
    return Visitor(person, _PHRASES.texts(Language.from_locale(person.locale, Language.ENGLISH)))


def is_result(message: Seen) -> bool:
    """Pictures with the buttons that stay."""
    ids = [button.custom_id or "" for button in message.buttons]
    return bool(message.pictures) and any(custom_id.startswith("f1:delete:") for custom_id in ids)
