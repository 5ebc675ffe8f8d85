"""The pack's routes as ComfyUI serves them: registered while it loads custom nodes, and asked over HTTP."""

import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import folder_paths
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from server import PromptServer

from comfy_custom_nodes.files import register

from .test_files import OLD_S, a_file, an_attempt

pytestmark = pytest.mark.torch

Client = TestClient[web.Request, web.Application]


@pytest.fixture
async def comfy(tmp_path: Path) -> AsyncIterator[Client]:
    folder_paths.set_root(tmp_path)
    PromptServer.instance = PromptServer()
    assert register()
    app = web.Application()
    app.add_routes(PromptServer.instance.routes)
    async with TestClient(TestServer(app)) as client:
        yield client
    del PromptServer.instance


def test_without_a_server_nothing_is_registered() -> None:
    assert not hasattr(PromptServer, "instance")
    assert not register()


async def test_folders_are_listed_and_removed_and_uploads_removed(comfy: Client, tmp_path: Path) -> None:
    done, busy = str(uuid.uuid4()), str(uuid.uuid4())
    an_attempt(tmp_path / "output", done)
    an_attempt(tmp_path / "output", busy)
    used, unused = f"{uuid.uuid4()}.png", f"{uuid.uuid4()}.png"
    for name in (used, unused):
        a_file(tmp_path / "input" / "fullet" / name)
    graph: dict[str, object] = {"5": {"class_type": "LoadImage", "inputs": {"image": f"fullet/{used}"}}}
    PromptServer.instance.prompt_queue.running.append((1.0, busy, graph, {}, []))
    listed = await comfy.get("/fullet/outputs", params={"older_than_s": str(OLD_S - 1)})
    assert await listed.json() == {"names": sorted([done, busy])}
    removed = await comfy.post("/fullet/outputs/remove", json={"names": [done, busy, "../../etc"]})
    assert await removed.json() == {"removed": [done]}
    uploads = await comfy.post("/fullet/uploads/remove", json={"older_than_s": 0})
    assert await uploads.json() == {"removed": 1}
    assert [path.name for path in (tmp_path / "input" / "fullet").iterdir()] == [used]


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/fullet/outputs/remove", {}),
        ("/fullet/outputs/remove", {"names": "all"}),
        ("/fullet/outputs/remove", {"names": [1]}),
        ("/fullet/outputs/remove", {"names": ["x"] * 501}),
        ("/fullet/outputs/remove", []),
        ("/fullet/uploads/remove", {}),
        ("/fullet/uploads/remove", {"older_than_s": True}),
        ("/fullet/uploads/remove", {"older_than_s": "0"}),
    ],
)
async def test_anything_else_is_refused(comfy: Client, route: str, body: object) -> None:
    assert (await comfy.post(route, json=body)).status == 400


async def test_a_page_of_another_site_cannot_ask(comfy: Client, tmp_path: Path) -> None:
    """A form or a plain `fetch` sends no JSON type without a preflight, which ComfyUI does not answer for strangers."""
    upload = a_file(tmp_path / "input" / "fullet" / f"{uuid.uuid4()}.png")
    answer = await comfy.post("/fullet/uploads/remove", data='{"older_than_s": 0}', headers={"Content-Type": "text/plain"})
    assert answer.status == 415
    assert upload.exists()


async def test_a_number_that_is_none_is_refused(comfy: Client) -> None:
    assert (await comfy.get("/fullet/outputs", params={"older_than_s": "soon"})).status == 400
