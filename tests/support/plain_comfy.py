"""Just enough of a ComfyUI client to post a graph and look at what comes out; for the stand-in and a real server alike.

It shares no code with the product's client, so that a test of graphs cannot be fooled by it.
"""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
from PIL import Image

from modules.ai.listing import ServerListing
from modules.ai.workflows.plan import BuiltWorkflow

RUN_LIMIT_S = 300.0


class PlainComfy:
    """One server by its URL."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url

    async def object_info(self) -> Any:
        return await self._json("/object_info")

    async def listing(self) -> ServerListing:
        return ServerListing.from_object_info(await self.object_info())

    async def upload(self, picture: Image.Image) -> str:
        """The name under which a graph may load it."""
        data = io.BytesIO()
        picture.save(data, "PNG")
        form = aiohttp.FormData()
        form.add_field("image", data.getvalue(), filename=f"{uuid4()}.png", content_type="image/png")
        async with self._http.post(f"{self._url}/upload/image", data=form) as answer:
            return str((await answer.json())["name"])

    async def submit(self, graph: Any) -> tuple[int, Any, str]:
        """Status, answer and the id of the prompt."""
        prompt_id = str(uuid4())
        body = {"prompt": graph, "prompt_id": prompt_id, "client_id": "graphs"}
        async with self._http.post(f"{self._url}/prompt", json=body) as answer:
            return answer.status, await answer.json(), prompt_id

    async def run(self, built: BuiltWorkflow) -> dict[int, Image.Image]:
        """Run it to the end; the pictures by slot."""
        await self._finish(built)
        return {slot: await self._picture(file) for slot, file in built.file_of_slot.items()}

    async def run_timed(self, built: BuiltWorkflow) -> float:
        """Run it to the end; seconds from start to success by the server's own clock."""
        messages = dict((await self._finish(built))["status"]["messages"])
        milliseconds: float = messages["execution_success"]["timestamp"] - messages["execution_start"]["timestamp"]
        return milliseconds / 1000

    async def _finish(self, built: BuiltWorkflow) -> Any:
        """Its entry in the history."""
        status, answer, prompt_id = await self.submit(built.graph)
        assert (status, answer.get("node_errors")) == (200, {}), answer
        async with asyncio.timeout(RUN_LIMIT_S):
            while not (entry := (await self._json(f"/history/{prompt_id}")).get(prompt_id)):  # noqa: ASYNC110 - HTTP has no events
                await asyncio.sleep(0.02)
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
        assert set(entry["outputs"]) == set(built.save_nodes)
        return entry

    async def _json(self, path: str) -> Any:
        async with self._http.get(self._url + path) as answer:
            return await answer.json()

    async def _picture(self, file: str) -> Image.Image:
        folder, _, name = file.rpartition("/")
        where = {"filename": name, "subfolder": folder, "type": "output"}
        async with self._http.get(f"{self._url}/view", params=where) as answer:
            assert answer.status == 200, file
            picture = Image.open(io.BytesIO(await answer.read()))
            picture.load()
            return picture


@asynccontextmanager
async def plain_comfy(url: str) -> AsyncIterator[PlainComfy]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
        yield PlainComfy(http, url)
