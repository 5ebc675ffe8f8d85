"""Messages in the page: menus, files, hostile text, many of them, moments."""

import re

import pytest
from playwright.async_api import FilePayload, expect

from tests.support.page_bot import picture
from tests.support.page_stage import Stage

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]


async def test_the_menu_of_a_message_offers_the_apps_commands_and_deletes_own_ones(stage: Stage) -> None:
    room = await stage.channel()
    ana, bruno = await stage.client("ana", room.name), await stage.client("bruno", room.name)
    await ana.say("a quiet lake")
    message = ana.message("a quiet lake")
    await message.click(button="right")
    menu = ana.page.get_by_test_id("menu")
    await menu.get_by_text("Describir").click()
    await expect(ana.message("That says: a quiet lake")).to_be_visible()

    await bruno.message("a quiet lake").hover()
    await bruno.message("a quiet lake").get_by_test_id("message-more").click()
    await expect(bruno.page.get_by_test_id("app-command")).to_have_text(["Describe"])
    await expect(bruno.page.get_by_test_id("delete-message")).to_have_count(0)  # not Bruno's
    await bruno.page.keyboard.press("Escape")

    own = ana.page.locator("[data-testid=message]:not([data-ephemeral])").filter(has_text="a quiet lake")
    await own.hover()
    await own.get_by_test_id("message-more").focus()
    await ana.page.keyboard.press("Enter")
    await ana.page.keyboard.press("ArrowUp")  # the last entry: delete
    await ana.page.keyboard.press("Enter")
    await expect(bruno.message("a quiet lake")).to_have_count(0)
    await expect(own).to_have_count(0)


async def test_files_are_sent_by_choosing_and_by_dropping(stage: Stage) -> None:
    room = await stage.channel()
    ana, bruno = await stage.client("ana", room.name), await stage.client("bruno", room.name)
    await ana.page.get_by_test_id("attach-input").set_input_files(
        [
            FilePayload(name="one.png", mimeType="image/png", buffer=picture("green")),
            FilePayload(name="notes.txt", mimeType="text/plain", buffer=b"a note"),
        ]
    )
    dropped = (
        "() => { const d = new DataTransfer(); d.items.add(new File(['x'], 'dropped.txt', {type: 'text/plain'})); return d; }"
    )
    transfer = await ana.page.evaluate_handle(dropped)
    await ana.page.dispatch_event(".main", "drop", {"dataTransfer": transfer})
    await expect(ana.page.get_by_test_id("tray-file")).to_have_count(3)
    await ana.say("three files")
    await expect(ana.page.get_by_test_id("tray-file")).to_have_count(0)
    theirs = bruno.message("three files")
    await expect(theirs.get_by_test_id("picture")).to_have_count(1)
    await expect(theirs.get_by_test_id("file")).to_have_count(2)
    async with bruno.page.expect_download() as download:
        await theirs.get_by_role("link", name="notes.txt", exact=True).click()
    assert (await (await download.value).path()).read_bytes() == b"a note"


async def test_a_nod_at_a_message_is_seen_by_everybody_and_goes_when_it_is_taken_back(stage: Stage) -> None:
    room = await stage.channel()
    ana, bruno = await stage.client("ana", room.name), await stage.client("bruno", room.name)
    await ana.say("look at this")
    await expect(bruno.message("look at this")).to_be_visible()
    message = next(iter([one async for one in room.history(limit=1)]))
    await message.add_reaction("🖼️")
    for client in (ana, bruno):
        await expect(client.message("look at this").get_by_role("img", name="🖼️ 1")).to_be_visible()
    await message.clear_reactions()
    await expect(bruno.message("look at this").get_by_test_id("reaction")).to_have_count(0)


HOSTILE = (
    "<script>window.broken=1</script>",
    "<img src=x onerror=window.broken=1>",
    "[click](javascript:window.broken=1)",
    "<svg/onload=window.broken=1>",
    '"><iframe srcdoc="<script>parent.broken=1</script>">',
    "```html\n<script>window.broken=1</script>\n```",
    '[a](https://x.example/"onmouseover=window.broken=1)',
    "<https://x.example/'onclick='window.broken=1>",
    "||<b onmouseover=window.broken=1>spoiler</b>||",
)


async def test_nothing_that_people_type_becomes_markup_or_script(stage: Stage) -> None:
    room = await stage.channel()
    ana, bruno = await stage.client("ana", room.name), await stage.client("bruno", room.name)
    for text in HOSTILE:
        await bruno.say(text)
        await bruno.start_command("say")
        await bruno.option("text").fill(text)
        await bruno.option("text").press("Enter")
    name = "<img src=x onerror=window.broken=1>.txt"
    await bruno.page.get_by_test_id("attach-input").set_input_files({"name": name, "mimeType": "text/plain", "buffer": b"x"})
    await bruno.say("the last one")
    await expect(ana.message("the last one")).to_be_visible()

    for client in (ana, bruno):
        await expect(client.page.get_by_test_id("embed")).to_have_count(len(HOSTILE))
        await expect(client.message("<script>window.broken=1</script>").first).to_be_visible()  # there, as text
        found = await client.page.evaluate(
            """() => ({
                broken: window.broken,
                scripts: document.querySelectorAll("script").length,
                foreign: document.querySelectorAll(
                    ".messages :is(script, iframe, object, [onload], [onerror], [onmouseover], [onclick], [srcdoc])").length,
                links: [...document.querySelectorAll(".messages a")].map((a) => a.protocol),
            })"""
        )
        assert found["broken"] is None
        assert found["scripts"] == 1  # the page's own
        assert found["foreign"] == 0
        assert set(found["links"]) <= {"http:", "https:"}


async def test_a_strict_content_policy_holds(stage: Stage) -> None:
    ana = await stage.client("ana")
    policy = await ana.page.evaluate("fetch('/').then((answer) => answer.headers.get('content-security-policy'))")
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    blocked = await ana.page.evaluate(
        """() => new Promise((resolve) => {
            document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
            const script = document.createElement("script");
            script.textContent = "window.broken = 1";
            document.head.append(script);
        })"""
    )
    assert blocked.startswith("script-src")
    assert await ana.page.evaluate("window.broken") is None
    ana.complaints.clear()  # the violation was asked for


async def test_two_hundred_messages_open_at_the_newest_and_group_by_author(stage: Stage) -> None:
    room = await stage.channel()
    ana = await stage.client("ana")
    for number in range(200):
        await room.send(f"line {number}")
    await ana.open_channel(room.name)
    await expect(ana.page.get_by_test_id("message")).to_have_count(200)
    await expect(ana.message("line 199")).to_be_in_viewport()
    assert await ana.page.locator(".message.is-grouped").count() == 199
    await ana.page.get_by_test_id("scroller").evaluate("(box) => { box.scrollTop = 0; }")
    await expect(ana.message("line 0").first).to_be_in_viewport()
    await room.send("line 200")
    await ana.page.get_by_role("button", name=re.compile("1 mensaje nuevo")).click()
    await expect(ana.message("line 200")).to_be_in_viewport()


async def test_moments_count_by_themselves(stage: Stage) -> None:
    room = await stage.channel()
    bruno = await stage.client("bruno", room.name)
    now = await bruno.page.evaluate("Math.round(Date.now() / 1000)")
    await room.send(f"ready <t:{now + 90}:R>")
    moment = bruno.page.locator("time.timestamp")
    first = await moment.inner_text()
    assert re.fullmatch(r"in (1|2) minutes?|in \d\d seconds", first)
    await room.send(f"soon <t:{now + 30}:R>")
    soon = moment.nth(1)
    before = await soon.inner_text()
    await expect(soon).not_to_have_text(before)
