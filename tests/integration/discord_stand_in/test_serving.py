"""What the Discord stand-in hands to browsers: people's files, which may be anything, and the page itself."""

import aiohttp
import pytest

from modules.sandbox.discord_server import DiscordSandbox
from tests.support.person import People


@pytest.mark.parametrize(
    ("name", "is_shown"),
    [("a.png", True), ("a.jpg", True), ("a.webp", True), ("a.gif", True), ("a.svg", False), ("a.html", False), ("a", False)],
)
async def test_files_of_people_can_run_nothing_and_only_pictures_are_shown_inline(name: str, is_shown: bool) -> None:
    async with DiscordSandbox() as sandbox, People(sandbox.page_url) as people, aiohttp.ClientSession() as browser:
        ana = await people.be("ana")
        upload = await ana.upload(name, b"<script>alert(1)</script>")
        async with browser.get(upload.url) as response:
            assert response.headers["X-Content-Type-Options"] == "nosniff"
            assert response.headers["Content-Security-Policy"] == "sandbox"
            assert response.headers.get("Content-Disposition") == (None if is_shown else "attachment")


@pytest.mark.parametrize("path", ["/", "/js/main.js"])
async def test_the_page_lets_nothing_foreign_run_and_nobody_frame_it(path: str) -> None:
    async with DiscordSandbox() as sandbox, aiohttp.ClientSession(sandbox.page_url) as browser, browser.get(path) as response:
        assert response.status == 200
        policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert response.headers["X-Content-Type-Options"] == "nosniff"
