"""What a server or a proxy answers instead of what was asked: passed on as data, and never held beyond a bound."""

from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest
import stamina

from modules.ai.client import TRIES, ComfyClient
from modules.ai.http_exchange import MIB, NotConnectedError
from modules.domain.servers import BodyKind, ServerAnswerError, ServerCall
from modules.sandbox.comfy_server import ComfySandbox, Match

Ask = Callable[[ComfyClient], Coroutine[object, object, object]]


@asynccontextmanager
async def asked() -> AsyncIterator[tuple[ComfySandbox, ComfyClient]]:
    async with ComfySandbox(time_scale=0.0) as sandbox, ComfyClient(sandbox.url) as client:
        with stamina.set_testing(True, attempts=TRIES, cap=True):
            yield sandbox, client


def upload(client: ComfyClient, size: int = 2 * MIB) -> Coroutine[object, object, object]:
    return client.upload(b"x" * size, name="large.png", folder="fullet", media_type="image/png")


async def refused(call: Coroutine[object, object, object]) -> ServerAnswerError:
    with pytest.raises(ServerAnswerError) as caught:
        await call
    return caught.value


async def test_a_body_over_a_proxys_limit_is_told_with_status_route_and_kind_and_sent_once() -> None:
    async with asked() as (sandbox, client):
        fault = sandbox.fail("413", times=None)
        answer = (await refused(upload(client))).answer
        assert (answer.call, answer.route, answer.status) == (ServerCall.UPLOAD, "POST /upload/image", 413)
        assert answer.body is BodyKind.HTML
        assert fault.struck == 1, "the same body would be refused again"


@pytest.mark.parametrize(("kind", "status", "body"), [("403", 403, BodyKind.HTML), ("302", 302, BodyKind.EMPTY)])
async def test_what_a_proxy_says_of_one_request_is_passed_on(kind: str, status: int, body: BodyKind) -> None:
    async with asked() as (sandbox, client):
        sandbox.fail(kind, times=None, match=Match(path="/api/jobs"))
        answer = (await refused(client.job(str(uuid4())))).answer
        assert (answer.status, answer.body, answer.call) == (status, body, ServerCall.FOLLOW)
        assert answer.route == "GET /api/jobs/{id}", "ids of prompts are no part of a route"


async def test_a_refused_connection_says_that_nothing_was_sent() -> None:
    async with ComfySandbox() as sandbox:
        url = sandbox.url
    async with ComfyClient(url) as client:
        error = await refused(client.queue(tries=1))
        assert isinstance(error, NotConnectedError)
        assert not error.answer.was_sent
        assert (error.answer.status, error.answer.body) == (None, BodyKind.NONE)


async def test_a_cut_answer_is_told_from_none() -> None:
    async with asked() as (sandbox, client):
        sandbox.fail("truncated_answer", times=None)
        answer = (await refused(client.system_stats(tries=1))).answer
        assert (answer.status, answer.body) == (200, BodyKind.TRUNCATED)


@pytest.mark.parametrize(
    ("route", "ask"),
    [
        ("/system_stats", lambda client: client.system_stats()),
        ("/object_info", lambda client: client.object_info()),
        ("/queue", lambda client: client.queue()),
        ("/api/jobs", lambda client: client.job(str(uuid4()))),
        ("/history", lambda client: client.history(str(uuid4()))),
        ("/view", lambda client: client.view("a/b.png")),
        ("/prompt", lambda client: client.post_prompt({}, prompt_id=str(uuid4()), client_id="me", extra_data={})),
        ("/upload/image", upload),
        ("/free", lambda client: client.free()),
    ],
)
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "packed"])
async def test_no_answer_is_held_beyond_the_limit_of_its_route(route: str, ask: Ask, gzip: bool) -> None:
    async with asked() as (sandbox, client):
        fault = sandbox.fail("huge_answer", times=None, bytes=1_300_000_000, gzip=gzip, match=Match(path=route))
        answer = (await refused(ask(client))).answer
        assert answer.body is BodyKind.TOO_LARGE
        assert fault.struck == 1, "an answer without end was asked for again"


async def test_a_bomb_of_a_few_kilobytes_costs_no_more_memory_than_the_limit() -> None:
    async with asked() as (sandbox, client):
        sandbox.fail("huge_answer", bytes=1_300_000_000, gzip=True)
        tracemalloc.start()
        try:
            await refused(client.system_stats())  # the limit of this route is 1 MiB
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 16 * MIB, "the stand-in itself holds two blocks of 4 MiB"


async def test_a_server_that_packs_its_answers_is_read() -> None:
    async with asked() as (sandbox, client):
        sandbox.fail("huge_answer", bytes=2, gzip=True, content_type="text/plain")
        assert await client.view("a.png") == b"  "
