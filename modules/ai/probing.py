"""Why a server cannot be used, looked at more closely than a running bot does: for the doctor and the report at the start.

A probe makes requests of its own, one at a time and without repeating them, and says what it met by a code of the doctor's
sentences (`doctor.<code>`) with data for it. It never follows a redirect: the key belongs to one address.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from urllib.parse import urlsplit

import aiohttp
from aiohttp import ClientTimeout, FormData

from modules.ai.http_body import ACCEPTED_ENCODINGS, BodyTooLargeError, BodyTruncatedError, read_body
from modules.ai.http_exchange import CONNECT_TIMEOUT_S, LONG_TIMEOUT_S, NGROK_HEADER, authorization
from modules.domain.errors import Param

#: As large as an input picture often is; nginx takes 1 MiB unless it is told otherwise, Cloudflare 100 MB.
TRIED_MIB = 8
_MIB = 1024 * 1024
#: Where the tried file is kept. ComfyUI has no route that deletes a file, but empties `temp` at each of its starts, and the
#: second upload, of one pixel under the same name, makes it small at once.
_TRIED_FOLDER, _TRIED_NAME = "fullet", "doctor-upload-check.png"
#: A PNG of one transparent pixel.
_ONE_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002000001e221bc330000000049454e44ae426082"
)
_PROBE_TIMEOUT_S = 10.0
_PAGE_BYTES = 512 * 1024
#: What pages for logging in have and error pages do not.
_LOG_IN_PAGE = re.compile(rb"<input[^>]+type=[\"']?password|log[ -]?in|sign[ -]?in", re.IGNORECASE)
#: OpenSSL's reasons to refuse a certificate. Source: OpenSSL, x509_vfy.h, X509_V_ERR_*.
_CERTIFICATE_CODES: Mapping[int, str] = {
    9: "certificate_expired",  # not valid yet: this machine's clock may be wrong
    10: "certificate_expired",
    18: "certificate_untrusted",  # self-signed
    19: "certificate_untrusted",  # self-signed, at the end of a chain
    20: "certificate_untrusted",  # its authority is not known here
    21: "certificate_untrusted",
    62: "certificate_other_host",
    64: "certificate_other_host",
}


@dataclass(frozen=True, slots=True)
class Met:
    """What a probe met."""

    code: str
    params: Mapping[str, Param] = field(default_factory=dict)


class ServerProbe:
    """Looks at one server by its address."""

    def __init__(self, url: str, *, key: str | None = None) -> None:
        self._url = url
        self._headers = {NGROK_HEADER: "1", "User-Agent": "FuLLet", "Accept-Encoding": ACCEPTED_ENCODINGS}
        if (authority := authorization(key)) is not None:
            self._headers["Authorization"] = authority

    async def why_not(self) -> Met | None:
        """Why it cannot be used; None when nothing more can be said than that it does not answer well."""
        try:
            async with self._session() as session, session.get("/system_stats", allow_redirects=False) as response:
                return await _of_answer(response)
        except aiohttp.ClientConnectorCertificateError as error:
            return _of_certificate(error.certificate_error)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return _of_failure(error)

    async def try_upload(self) -> Met:
        """Whether an upload of TRIED_MIB reaches it. Writes one small file into its temp folder; see `_TRIED_NAME`."""
        data = _ONE_PIXEL + bytes(TRIED_MIB * _MIB - len(_ONE_PIXEL))
        try:
            async with self._session(LONG_TIMEOUT_S) as session:
                status = await self._upload(session, data)
                if status == 200:
                    await self._upload(session, _ONE_PIXEL)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return Met("upload_broken_off", {"mib": TRIED_MIB})
        if status == 200:
            return Met("uploads_good", {"mib": TRIED_MIB})
        return Met("body_limit" if status == 413 else "upload_refused", {"mib": TRIED_MIB, "status": status})

    async def _upload(self, session: aiohttp.ClientSession, data: bytes) -> int:
        """The status. A proxy may refuse from the length alone and hang up while we still send: then we ask before sending."""
        try:
            async with session.post("/upload/image", data=_form(data), allow_redirects=False) as response:
                return response.status
        except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError):
            async with session.post("/upload/image", data=_form(data), allow_redirects=False, expect100=True) as response:
                return response.status

    @asynccontextmanager
    async def _session(self, timeout_s: float = _PROBE_TIMEOUT_S) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession(
            self._url,
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=ClientTimeout(total=timeout_s, sock_connect=CONNECT_TIMEOUT_S),
        ) as session:
            yield session


def _form(data: bytes) -> FormData:
    form = FormData()
    form.add_field("image", BytesIO(data), filename=_TRIED_NAME, content_type="image/png")
    form.add_field("subfolder", _TRIED_FOLDER)
    form.add_field("type", "temp")
    form.add_field("overwrite", "true")
    return form


async def _of_answer(response: aiohttp.ClientResponse) -> Met | None:
    if 300 <= response.status < 400:
        return Met("log_in_redirect", {"status": response.status, "where": _where(response.headers.get("Location", ""))})
    if response.content_type not in ("text/html", "application/xhtml+xml"):
        return None
    try:
        page = await read_body(response, _PAGE_BYTES)
    except (BodyTooLargeError, BodyTruncatedError):
        page = b""
    if response.status < 400 and _LOG_IN_PAGE.search(page):
        return Met("log_in_page", {"status": response.status})
    return Met("page_instead", {"status": response.status, "title": _title_of(page)})


def _where(location: str) -> str:
    """Where a redirect leads, without what may be a secret in its query."""
    parts = urlsplit(location)
    return f"{parts.netloc}{parts.path}" or "/"


def _title_of(page: bytes) -> str:
    found = re.search(rb"<title[^>]*>([^<]{1,80})", page, re.IGNORECASE)
    return " ".join(found[1].decode("utf-8", "replace").split()) if found else "-"


def _of_certificate(error: Exception) -> Met:
    code = getattr(error, "verify_code", None)
    return Met(_CERTIFICATE_CODES.get(code, "certificate_refused") if isinstance(code, int) else "certificate_refused")


def _of_failure(error: Exception) -> Met | None:
    """None for a server that is simply away or silent: that is what people read already."""
    match error:
        case aiohttp.ClientConnectorDNSError():
            return Met("name_unknown")
        case aiohttp.ClientConnectorSSLError():
            return Met("no_tls")
        case _:
            return None
