"""Why a server cannot be used is named: certificates, log-in pages, a proxy's limit; and what the doctor's upload leaves."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
import stamina
from aiohttp import web

from modules.ai.probing import TRIED_MIB, Met, ServerProbe
from modules.diagnosis import inspect_exports
from modules.domain.findings import Finding, Severity
from modules.sandbox.comfy_server import ComfySandbox, FaultKind, Match
from modules.server_checks import check_server, check_uploads_and_files
from modules.utils.disk_room import free_bytes
from tests.support.comfy_side import ComfySide, comfy_side

MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def _no_waits_between_tries() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


@asynccontextmanager
async def serving(handler: web.Application, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """The port of an application on loopback."""
    runner = web.AppRunner(handler)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


def answering(**headers: str) -> web.Application:
    """Everything is answered with this page."""

    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=headers.get("page", ""), content_type=headers.get("kind", "text/html"))

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    return app


@asynccontextmanager
async def both(**settings: object) -> AsyncIterator[ComfySide]:
    sandbox = ComfySandbox(time_scale=0.0, **settings)  # type: ignore[arg-type]  # passed on as given
    async with sandbox, comfy_side(sandbox) as side:
        yield side


def by_code(findings: object) -> dict[str, Finding]:
    assert isinstance(findings, list)
    return {finding.code: finding for finding in findings}


# --- on the way to it ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def self_signed(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """A certificate for `localhost` that signs itself, as home servers have."""
    folder = tmp_path_factory.mktemp("certificate")
    openssl = shutil.which("openssl")
    assert openssl is not None, "this test needs the program openssl"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


async def test_a_certificate_that_signs_itself_is_named(self_signed: ssl.SSLContext) -> None:
    async with serving(answering(), tls=self_signed) as port:
        assert await ServerProbe(f"https://localhost:{port}").why_not() == Met("certificate_untrusted")


async def test_https_where_none_is_spoken_is_named() -> None:
    async with serving(answering()) as port:
        assert await ServerProbe(f"https://127.0.0.1:{port}").why_not() == Met("no_tls")


async def test_a_name_without_an_address_is_named() -> None:
    assert await ServerProbe("http://no-such-gpu.invalid:8188").why_not() == Met("name_unknown")


async def test_of_a_server_that_is_away_nothing_more_is_said() -> None:
    assert await ServerProbe("http://127.0.0.1:1").why_not() is None


# --- instead of it ------------------------------------------------------------------------------------------------------


async def test_a_redirect_to_a_log_in_is_named_without_the_secrets_in_its_address() -> None:
    async with both() as side:
        location = "https://login.example/start?token=very-secret"
        side.sandbox.fail(FaultKind.LOG_IN, times=None, match=Match(path="/system_stats"), location=location)
        found = by_code(list(await check_server(side.ours)))
        assert found["log_in_redirect"].severity is Severity.ERROR
        assert found["log_in_redirect"].params == {"status": 302, "where": "login.example/start"}


@pytest.mark.parametrize(
    ("page", "met"),
    [
        ('<html><title>x</title><form><input name="p" type="password"></form></html>', Met("log_in_page", {"status": 200})),
        ("<html><a href='/go'>Sign in with SSO</a></html>", Met("log_in_page", {"status": 200})),
        (
            "<html><head><title>\n Tunnel  not found</title></head></html>",
            Met("page_instead", {"status": 200, "title": "Tunnel not found"}),
        ),
        ("<html></html>", Met("page_instead", {"status": 200, "title": "-"})),
    ],
)
async def test_a_page_instead_of_comfyui_is_told_from_a_log_in(page: str, met: Met) -> None:
    async with serving(answering(page=page)) as port:
        assert await ServerProbe(f"http://127.0.0.1:{port}").why_not() == met


async def test_what_stands_at_the_door_is_looked_at_only_when_the_server_cannot_be_used() -> None:
    async with both() as side:

        def asked() -> int:
            return sum(line.path == "/system_stats" for line in side.sandbox.journal.requests)

        before = asked()
        found = by_code(list(await check_server(side.ours)))
        assert set(found) == {"server_good", "pack_good"}
        assert asked() == before + 1


# --- uploads ------------------------------------------------------------------------------------------------------------


async def test_the_doctors_upload_reaches_the_server_and_leaves_one_pixel_in_its_temp_folder() -> None:
    async with both() as side:
        await side.ours.refresh()
        found = by_code(list(await check_uploads_and_files(side.ours)))
        assert found["uploads_good"].params == {"mib": TRIED_MIB}
        uploads = [line for line in side.sandbox.journal.requests if line.path == "/upload/image"]
        assert len(uploads) == 2
        async with aiohttp.ClientSession(side.sandbox.url) as session:
            place = {"filename": "doctor-upload-check.png", "subfolder": "fullet", "type": "temp"}
            async with session.get("/view", params=place) as answer:
                assert answer.status == 200
                assert len(await answer.read()) < 200


async def test_a_proxys_limit_is_named_by_the_status_it_answers_with() -> None:
    async with both() as side:
        side.sandbox.fail(FaultKind.TOO_LARGE, times=None, match=Match(path="/upload/image"), limit_bytes=MIB)
        found = by_code(list(await check_uploads_and_files(side.ours)))
        assert found["body_limit"].severity is Severity.ERROR
        assert found["body_limit"].params == {"mib": TRIED_MIB, "status": 413}


@asynccontextmanager
async def refusing_at_once() -> AsyncIterator[int]:
    """As a proxy that answers from the length alone, and hangs up on whoever goes on sending."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"expect: 100-continue" in head.lower():
            writer.write(b"HTTP/1.1 413 Request Entity Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            writer.close()
        else:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def test_a_proxy_that_hangs_up_in_the_middle_is_asked_before_the_second_try() -> None:
    async with refusing_at_once() as port:
        assert await ServerProbe(f"http://127.0.0.1:{port}").try_upload() == Met("body_limit", {"mib": TRIED_MIB, "status": 413})


async def test_another_refusal_is_told_with_its_status() -> None:
    async with both() as side:
        side.sandbox.fail(FaultKind.SERVER_ERROR, times=None, match=Match(path="/upload/image"), status=500)
        assert (await side.ours.probe.try_upload()).code == "upload_refused"
    assert (await ServerProbe("http://127.0.0.1:1").try_upload()).code == "upload_broken_off"


# --- files --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("pack", "code"), [("full", "files_known"), ("none", "files_unknown")])
async def test_what_lies_on_the_servers_disk_is_told_where_it_can_be_asked(pack: str, code: str) -> None:
    async with both(pack=pack) as side:
        await side.ours.refresh()
        assert code in by_code(list(await check_uploads_and_files(side.ours)))


def test_room_is_told_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    free = free_bytes(tmp_path / "not" / "yet")
    assert free is not None
    assert free > 0


@pytest.mark.parametrize(("least", "code"), [(0, "disk_good"), (2**60, "disk_low")])
def test_the_doctor_tells_the_room_for_the_copies(tmp_path: Path, least: int, code: str) -> None:
    assert inspect_exports(None) == []
    (found,) = inspect_exports(tmp_path / "copies", low_bytes=least)
    assert (found.code, found.area) == (code, "disk")
