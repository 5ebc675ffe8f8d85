"""`make pictures`: the pictures in docs/pictures/, taken of the whole program between the stand-ins, in both languages.

The real bot serves people who are driven as in the tests; headless Chromium looks at the page of the Discord stand-in. States
that pass are held with the GPU stand-in's faults, so each picture shows a state that the program really was in.

    python -m tools.take_pictures [--languages en es] [--into DIR]
"""

from __future__ import annotations

import argparse
import asyncio
import io
import tempfile
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image
from playwright.async_api import Browser, Locator, Page, expect

from modules.domain.people import Language
from modules.sandbox.comfy_server import ComfySandbox
from modules.sandbox.comfy_server.faults import Match
from modules.utils.i18n import Phrasebook, Texts
from tests.support.browser import DESKTOP, PHONE, chromium
from tests.support.person import Answer, Person, Seen
from tests.support.program import ROOT, WholeHouse, whole_house

INTO = ROOT / "docs" / "pictures"
#: Sharp on a dense screen, and still small.
PIXEL_RATIO = 1.5
WEBP_QUALITY = 82
#: Most bytes of one picture, and of all of them.
MAX_BYTES = 250_000
MAX_BYTES_IN_ALL = 2_500_000
PATIENCE_S = 90.0
#: Half drawn: the stand-in stops at this step of Z-Image's eight until its prompt is cancelled.
HELD_AT_STEP = 6
SHOWN_STEP = HELD_AT_STEP - 1


@dataclass(frozen=True, slots=True)
class Cast:
    """Who appears in one language, and what they ask for."""

    language: Language
    me: str
    friend: str
    others: tuple[str, str]
    lighthouse: str
    fox: str
    village: str
    tram: str


CASTS = (
    Cast(
        Language.ENGLISH, "bruno", "chloe", ("elena", "zoe"),
        lighthouse="a lighthouse in a storm, oil painting",
        fox="portrait of a fox in a raincoat, soft light",
        village="a tiny village inside a glass bottle, macro photo",
        tram="a red tram climbing a misty hill, watercolour",
    ),
    Cast(
        Language.SPANISH, "ana", "dario", ("zoe", "bruno"),
        lighthouse="un faro en plena tormenta, pintura al óleo",
        fox="retrato de un zorro con impermeable, luz suave",
        village="un pueblo diminuto dentro de una botella, foto macro",
        tram="un tranvía rojo que sube una colina con niebla, acuarela",
    ),
)  # fmt: skip


@dataclass
class Album:
    """Where the pictures go."""

    into: Path
    taken: dict[str, int] = field(default_factory=dict)

    async def keep(self, name: str, png: bytes) -> None:
        """Write it as WebP, much smaller than PNG for photographs in a dark frame."""
        data = await asyncio.to_thread(_as_webp, png)
        assert len(data) <= MAX_BYTES, f"{name} has {len(data)} bytes"
        (self.into / f"{name}.webp").write_bytes(data)
        self.taken[name] = len(data)
        print(f"  {name}.webp  {len(data) // 1000} KB", flush=True)


def _as_webp(png: bytes) -> bytes:
    written = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").save(written, "WEBP", quality=WEBP_QUALITY, method=6)
    return written.getvalue()


class Window:
    """The page as one person has it open, in their language."""

    def __init__(self, page: Page, album: Album, suffix: str) -> None:
        self.page = page
        self._album = album
        self._suffix = suffix

    @classmethod
    async def open(
        cls, browser: Browser, house: WholeHouse, person: Person, album: Album, locale: str, *, size: tuple[int, int]
    ) -> Window:
        """A window of its own, in a browser of this language."""
        suffix = Language.from_locale(locale, Language.ENGLISH).value
        is_phone = size == PHONE
        context = await browser.new_context(
            viewport={"width": size[0], "height": size[1]}, device_scale_factor=PIXEL_RATIO,
            has_touch=is_phone, is_mobile=is_phone, locale=locale,
        )  # fmt: skip
        page = await context.new_page()
        await page.goto(f"{house.discord.page_url}/?as={person.id}")
        return cls(page, album, suffix)

    async def go(self, channel_id: str) -> None:
        """Show a channel, and wait until its messages and pictures are there."""
        await self.page.goto(f"{self.page.url.split('&')[0]}&channel={channel_id}")
        await expect(self.page.locator(".beginning")).to_be_attached()
        await self.settle()

    async def settle(self) -> None:
        """Every picture in sight is loaded, nothing moves, and the newest message is in view."""
        await expect(self.page.locator(".skeleton")).to_have_count(0)
        await self.page.evaluate("Promise.all([...document.images].map(image => image.decode().catch(() => 0)))")
        await self.page.locator("[data-testid=scroller]").evaluate("box => { box.scrollTop = box.scrollHeight }")
        await self.page.mouse.move(2, 2)

    def message(self, message: Seen) -> Locator:
        """A message of the open channel."""
        return self.page.locator(f'[data-testid=message][data-message-id="{message.id}"]')

    async def take_message(self, name: str, message: Seen) -> None:
        """One message, cut out."""
        await expect(self.message(message)).to_be_attached()
        await self.settle()
        await self._take(name, self.message(message))

    async def take_page(self, name: str) -> None:
        """Everything in the window."""
        await self.settle()
        await self._take(name, None)

    async def take_modal(self, name: str, message: Seen, custom_id: str) -> None:
        """Press a button that opens a form, and take the form."""
        await self.message(message).locator(f'[data-custom-id="{custom_id}"]').click()
        await self.take_open_modal(name)

    async def take_open_modal(self, name: str) -> None:
        """A form that opened; it is closed again."""
        modal = self.page.get_by_test_id("modal")
        await expect(modal).to_be_visible()
        await self._take(name, modal)
        await self.page.get_by_test_id("modal-cancel").click()
        await expect(modal).to_have_count(0)

    async def take_command(self, name: str, model: str, typed: str) -> None:
        """`/imagine` half typed: the model chosen, ideas for the prompt below it."""
        await self.page.get_by_test_id("composer").fill("/imagine")
        await self.page.locator('[data-testid=command][data-command="imagine"]').click()
        await self.page.get_by_test_id("suggestion").filter(has_text=model).click()
        prompt = self.page.locator('[data-testid=option][data-option="prompt"]').get_by_test_id("option-input")
        await prompt.press_sequentially(typed)
        await expect(self.page.get_by_test_id("suggestion").filter(has_text=typed).first).to_be_visible()
        await self._take(name, None)

    async def _take(self, name: str, part: Locator | None) -> None:
        png = await (part.screenshot(animations="disabled") if part else self.page.screenshot(animations="disabled"))
        await self._album.keep(f"{name}-{self._suffix}", png)


class Session:
    """One run through everything, in one language."""

    def __init__(self, house: WholeHouse, browser: Browser, album: Album, cast: Cast) -> None:
        self._house = house
        self._browser = browser
        self._album = album
        self._cast = cast
        self._gpu = house.gpus[0]
        self._texts: Texts = Phrasebook.load(Language.ENGLISH).texts(cast.language)

    async def run(self) -> None:
        """From the first command to the last card. Later scenes build on earlier ones."""
        people, cast = self._house.people, self._cast
        self._me, self._friend = await people.be(cast.me), await people.be(cast.friend)
        self._others = [await people.be(name) for name in cast.others]
        self._elena = await people.be("elena")
        await self._elena.rename(locale=self._me.locale)
        self._window = await self._open(self._me)
        await self._window.go((await self._me.channel("general")).id)
        await self._window.take_command("command", "Z-Image (Turbo)", cast.lighthouse[:4])
        await self._paused_then_shared()
        await self._first_picture()
        await self._four_pictures()
        await self._form()
        await self._line()
        await self._closed_doors()
        await self._troubles()
        await self._own_things()

    # --- scenes -----------------------------------------------------------------------------------------------------------

    async def _first_picture(self) -> None:
        general = (await self._me.channel("general")).id
        await self._window.go(general)
        answer = await self._imagine(self._me, self._cast.lighthouse, seed="421")
        await self._window.take_message("answer", answer)
        result = await self._result(self._me)
        self._room = result.channel_id
        await self._window.go(self._room)
        await self._window.take_message("result", result)
        await self._window.take_page("page")
        await self._window.take_modal("form-edit", result, _id_of(result, "edit"))
        await self._window.take_modal("form-remix", result, _id_of(result, "remix"))
        await self._take_answer("recipe", await self._me.press(result, _id_of(result, "recipe")))
        self._first = result
        phone = await self._open(self._me, size=PHONE)
        await phone.go(self._room)
        await phone.take_page("phone-result")
        await phone.page.context.close()

    async def _four_pictures(self) -> None:
        await self._imagine(self._me, self._cast.fox, model="sdxl", count=4, seed="7")
        loading = await self._card(self._me, self._texts("card.loading"))
        await self._window.take_message("card-loading", loading)
        four = await self._result(self._me, pictures=4)
        await self._window.take_message("result-four", four)
        kept = (await self._me.context_menu("Use as reference", self._first)).message
        assert kept is not None
        await self._window.take_message("reference", kept)
        await self._window.take_modal("form-reference", kept, "f1:ref_edit")
        await self._me.press(kept, "f1:ref_drop")
        await self._me.delete(kept)

    async def _line(self) -> None:
        """One is being drawn and held there; others wait behind it."""
        self._gpu.fail("hang", match=Match(step=HELD_AT_STEP))
        await self._imagine(self._me, self._cast.village, seed="1001")
        drawing = await self._card(self._me, f"{SHOWN_STEP}/8", with_preview=True)
        await self._window.take_message("card-drawing", drawing)
        phone = await self._open(self._me, size=PHONE)
        await phone.go(self._room)
        await phone.take_page("phone-drawing")
        await phone.page.context.close()

        # The first is posted ahead of time, and two more batches follow before mine: the friend's, and another one.
        await self._imagine(self._others[0], self._cast.fox, model="sdxl", seed="12")
        await self._imagine(self._friend, self._cast.tram, model="sdxl", size="832x1216", seed="13")
        await self._imagine(self._others[1], self._cast.fox, model="z-image", size="768x768", seed="14")
        await self._imagine(self._me, self._cast.tram, model="flux", seed="15")
        waiting = await self._card(self._me, self._place(3))
        await self._window.take_message("card-waiting", waiting)
        following = await self._card(self._friend, self._texts("card.next"))
        theirs = await self._open(self._friend)
        await theirs.go(following.channel_id)
        await theirs.take_message("card-next", following)
        await theirs.page.context.close()
        await self._take_answer("my-queue", await self._me.slash("queue", channel=self._room))
        await self._admin_status()

        await self._me.press(waiting, "cancel")
        cancelled = await self._card(self._me, self._texts("card.cancelled"))
        await self._window.take_message("card-cancelled", cancelled)
        await self._me.press(drawing, _id_of(drawing, "cancel"))
        await self._until_idle()

    async def _admin_status(self) -> None:
        tools = (await self._elena.wait_for_channel("admin-tools")).id
        window = await self._open(self._elena)
        await window.go(tools)
        for name, command in (("admin-status", "admin status"), ("admin-queue", "admin queue")):
            answer = await self._elena.slash(command, channel=tools)
            assert answer.message is not None
            await window.take_message(name, answer.message)
        await window.page.context.close()

    async def _paused_then_shared(self) -> None:
        """Two people wait while the queue is paused, so they share one workflow when it goes on.

        First of all scenes: both have had nothing yet, so neither is ahead of the other by more than a batch may bridge.
        """
        await self._elena.slash("admin pause")
        await self._imagine(self._friend, self._cast.lighthouse, size="512x512", seed="21")
        await self._imagine(self._others[0], self._cast.fox, size="512x512", seed="22")
        paused = await self._card(self._friend, self._texts("card.paused"))
        theirs = await self._open(self._friend)
        await theirs.go(paused.channel_id)
        await theirs.take_message("card-paused", paused)
        self._gpu.fail("hang", match=Match(step=HELD_AT_STEP))
        await self._elena.slash("admin resume")
        words = (f"{SHOWN_STEP}/8", self._texts("card.shared", count=1))
        shared = await self._card(self._friend, *words, with_preview=True)
        await theirs.take_message("card-sharing", shared)
        await theirs.page.context.close()
        other = await self._card(self._others[0], *words)
        for person, card in ((self._friend, shared), (self._others[0], other)):
            await person.press(card, _id_of(card, "cancel"))
        await self._until_idle()

    async def _troubles(self) -> None:
        self._gpu.fail("node_error")
        await self._imagine(self._me, self._cast.tram, seed="31")
        failed = await self._card(self._me, self._texts("card.failed"))
        await self._window.take_message("card-failed", failed)
        await self._gpu.crash(None)
        await self._imagine(self._friend, self._cast.tram)  # a server at rest is found gone by whoever comes next
        await self._until_admin_reads("admin status", self._texts("server_state.away"))
        await self._imagine(self._me, self._cast.village, seed="32")
        away = await self._card(self._me, self._texts("card.away"))
        await self._window.take_message("card-away", away)
        await self._me.press(away, _id_of(away, "cancel"))

    async def _closed_doors(self) -> None:
        """Neither the session nor direct messages can be written to while a picture is finished: the history keeps it."""
        faults = self._house.discord.context.faults
        self._gpu.fail("slow", factor=3)
        await self._imagine(self._me, self._cast.village, seed="51")
        await self._card(self._me, self._texts("card.seed", seed="51"))
        faults.add(
            {"route": r"^POST /channels/\d+/messages$", "status": 403, "times": 99, "body": {"code": 50013, "message": "No"}}
        )
        async with asyncio.timeout(PATIENCE_S):
            while "delivery_impossible" not in self._house.program.said():  # noqa: ASYNC110 (a log rings no bell)
                await asyncio.sleep(0.2)
        faults.clear()
        self._gpu.faults.clear()
        old = self._room  # it could not be written to, so a new one was made beside it
        await self._elena.delete_channel(old)
        self._room = next(c.id for c in await self._me.channels() if c.name.startswith("session-") and c.id != old)
        await self._window.go(self._room)

    async def _own_things(self) -> None:
        await self._take_answer("history", await self._me.slash("history", channel=self._room))
        changed = await self._me.slash("settings", channel=self._room, size="768x768", quiet=True)
        await self._take_answer("settings", changed)

    async def _form(self) -> None:
        """`/gen`, with the words filled in."""
        opened = await self._me.slash("gen", channel=self._room)
        assert opened.message is not None
        words = await self._me.press(opened.message, self._texts("gen.words"))
        assert words.modal is not None
        await self._window.take_open_modal("form-words")
        await self._me.submit(words.modal, prompt=self._cast.lighthouse, negative_prompt="", steps="25", cfg="7", seed="")
        await self._window.take_message("form-gen", opened.message)
        await self._me.press(opened.message, "f1:gen_default")
        await self._me.delete(opened.message)

    # --- parts ------------------------------------------------------------------------------------------------------------

    async def _open(self, person: Person, *, size: tuple[int, int] = DESKTOP) -> Window:
        return await Window.open(self._browser, self._house, person, self._album, self._me.locale, size=size)

    async def _imagine(
        self, person: Person, prompt: str, *, model: str = "z-image", size: str = "1024x1024", seed: str = "1", count: int = 1
    ) -> Seen:
        answer = await person.slash("imagine", model=model, prompt=prompt, size=size, seed=seed, count=count)
        assert answer.message is not None, answer
        return answer.message

    async def _take_answer(self, name: str, answer: Answer) -> None:
        """A private answer in my session; dismissed afterwards."""
        assert answer.message is not None
        await self._window.take_message(name, answer.message)
        await self._me.delete(answer.message)

    async def _card(self, person: Person, *words: str, with_preview: bool = False) -> Seen:
        def fits(message: Seen) -> bool:
            is_said = all(one in message.text for one in words) and not message.is_ephemeral
            return is_said and (bool(message.files) or not with_preview)

        return await self._seen(person, fits)

    async def _result(self, person: Person, *, pictures: int = 1) -> Seen:
        return await self._seen(person, lambda message: len(message.files) == pictures and person.mention in message.text)

    async def _seen(self, person: Person, fits: Callable[[Seen], bool]) -> Seen:
        return await person.wait_for_message(fits, channel=f"session-{_flat(person.username)}", timeout=PATIENCE_S)

    def _place(self, number: int) -> str:
        return self._texts("card.waiting", place=self._texts.ordinal(number))

    async def _until_idle(self) -> None:
        """Nothing waits and nothing runs."""
        await self._until_admin_reads("admin queue", self._texts("admin.queue.empty"))
        self._gpu.faults.clear()

    async def _until_admin_reads(self, command: str, words: str) -> None:
        async def is_said() -> bool:
            answer = await self._elena.slash(command)
            return answer.message is not None and words in answer.message.text

        async with asyncio.timeout(PATIENCE_S):
            while not await is_said():  # noqa: ASYNC110 (an administrator looks again and again, too)
                await asyncio.sleep(1.0)


def _id_of(message: Seen, act: str) -> str:
    """The button for an act."""
    return next(button.custom_id for button in message.buttons if button.custom_id and f":{act}:" in button.custom_id)


def _flat(username: str) -> str:
    return {"dario": "darío"}.get(username, username)


async def take_pictures(album: Album, languages: Sequence[str]) -> None:
    """All of them; each language in a house of its own, so that no card of the other is in the way."""
    for cast in CASTS:
        if cast.language.value not in languages:
            continue
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fullet-pictures-")))
            gpus = [ComfySandbox(name="gpu-1", time_scale=0.8), ComfySandbox(name="gpu-2", time_scale=0.8)]
            settings = {"DEFAULT_LOCALE": cast.language.value}
            house = await stack.enter_async_context(whole_house(folder, gpus=gpus, settings=settings, rate_limits=True))
            browser = await stack.enter_async_context(chromium())
            elena = await house.people.be("elena")
            # One server works and the other rests, so that what waits and what runs is the same every time.
            await elena.slash("admin drain", server=gpus[1].url.removeprefix("http://"))
            print(f"{cast.language.value}:", flush=True)
            await Session(house, browser, album, cast).run()


def main() -> None:
    """Take them, and say how large they are together."""
    parser = argparse.ArgumentParser(prog="take_pictures", description=__doc__)
    parser.add_argument("--languages", nargs="+", choices=[language.value for language in Language], default=["en", "es"])
    parser.add_argument("--into", type=Path, default=INTO)
    options = parser.parse_args()
    options.into.mkdir(parents=True, exist_ok=True)
    album = Album(options.into)
    asyncio.run(take_pictures(album, options.languages))
    together = sum(file.stat().st_size for file in options.into.glob("*.webp"))
    assert together <= MAX_BYTES_IN_ALL, f"{together} bytes in all"
    print(f"{len(album.taken)} pictures taken; {together / 1e6:.2f} MB in {options.into}")


if __name__ == "__main__":
    main()
