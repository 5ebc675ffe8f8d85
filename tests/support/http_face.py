"""Plain HTTP calls to the Discord stand-in: `/sandbox/...` for tests, and the bot's REST face without discord.py."""

from typing import Any

import aiohttp

from modules.sandbox.discord_server import DiscordSandbox

Json = Any


class HttpFace:
    """Small calls; open one per sandbox."""

    def __init__(self, sandbox: DiscordSandbox, session: aiohttp.ClientSession) -> None:
        self._sandbox = sandbox
        self._session = session

    async def control(self, path: str, **asked: object) -> Json:
        """POST to `/sandbox/<path>`."""
        async with self._session.post(f"{self._sandbox.page_url}/sandbox/{path}", json=asked) as response:
            assert response.status < 300, await response.text()
            return await response.json() if response.status == 200 else None

    async def look(self, path: str, **query: str) -> Json:
        """GET `/sandbox/<path>`."""
        async with self._session.get(f"{self._sandbox.page_url}/sandbox/{path}", params=query) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def end_faults(self) -> None:
        """DELETE `/sandbox/faults`."""
        async with self._session.delete(f"{self._sandbox.page_url}/sandbox/faults") as response:
            assert response.status == 204

    async def rest(self, method: str, path: str, body: Json = None, *, token: str | None = None) -> tuple[int, Json]:
        """A raw REST call as the bot: status and JSON body."""
        headers = {"Authorization": f"Bot {token or self._sandbox.bot_token}"}
        async with self._session.request(method, self._sandbox.api_base + path, json=body, headers=headers) as response:
            return response.status, await response.json() if response.status != 204 else None

    async def wrong(self, *kinds: str) -> list[str]:
        """What was against the rules, of these kinds (all by default)."""
        report = await self.look("violations")
        return [
            f"{v['kind']} {v['method']} {v['path']}: {v['message']}"
            for v in report["violations"]
            if not kinds or v["kind"] in kinds
        ]
