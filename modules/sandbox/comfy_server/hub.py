"""Websocket clients: who gets which event, with the traps of the real server.

One socket per client id. When *any* socket of an id closes, the id is forgotten, so a newer socket of the same id stays
open and hears nothing more. The server never pings.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from aiohttp import WSMsgType, web

EVENT_PREVIEW: Final = 1
EVENT_PREVIEW_WITH_METADATA: Final = 4
FORMAT_JPEG: Final = 1
FORMAT_PNG: Final = 2

#: What the server says it can do; `GET /features`, and the answer to a client's feature flags.
FEATURES: Final[Mapping[str, object]] = {
    "supports_preview_metadata": True,
    "supports_model_type_tags": True,
    "max_upload_size": 104857600,
    "extension": {"manager": {"supports_v4": True}},
    "node_replacements": True,
    "assets": False,
}


def preview_frame(image: bytes, mime: str, metadata: Mapping[str, object], *, with_metadata: bool) -> bytes:
    """A binary frame: event 4 with its metadata for clients that asked for it, else event 1."""
    if with_metadata:
        described = json.dumps({**metadata, "image_type": mime}).encode()
        return EVENT_PREVIEW_WITH_METADATA.to_bytes(4, "big") + len(described).to_bytes(4, "big") + described + image
    image_format = FORMAT_JPEG if mime == "image/jpeg" else FORMAT_PNG
    return EVENT_PREVIEW.to_bytes(4, "big") + image_format.to_bytes(4, "big") + image


@dataclass(slots=True, eq=False)
class Client:
    """One open socket and what still has to be sent on it."""

    client_id: str
    socket: web.WebSocketResponse
    transport: asyncio.Transport | None
    wants_metadata: bool = False
    is_silent: bool = False  #: the `ws_silent` fault: open, but nothing comes
    _outbox: asyncio.Queue[str | bytes | None] = field(default_factory=asyncio.Queue)

    def post(self, message: str | bytes) -> None:
        if not self.is_silent:
            self._outbox.put_nowait(message)

    async def write(self) -> None:
        """Send what is posted, in order, until the socket is gone."""
        while (message := await self._outbox.get()) is not None:
            try:
                await (self.socket.send_str(message) if isinstance(message, str) else self.socket.send_bytes(message))
            except ConnectionError:
                return

    def stop(self) -> None:
        self._outbox.put_nowait(None)

    def drop(self) -> None:
        """Cut the connection without a close handshake: the other side sees code 1006."""
        if self.transport is not None:
            self.transport.abort()


@dataclass(slots=True)
class Hub:
    """The sockets of one life of the server."""

    clients: dict[str, Client] = field(default_factory=dict)
    _open: list[Client] = field(default_factory=list)  #: also those whose id was forgotten

    def send(self, event: str, data: object, to: str | None) -> None:
        """To one client, or to all when `to` is None. Somebody unknown gets nothing."""
        text = json.dumps({"type": event, "data": data})
        for client in self._addressed(to):
            client.post(text)

    def send_preview(
        self, image: bytes, mime: str, metadata: Mapping[str, object], to: str | None, *, with_metadata: bool
    ) -> None:
        """To those who asked for metadata, or to those who did not: the two get their frames at different moments."""
        frame = preview_frame(image, mime, metadata, with_metadata=with_metadata)
        for client in self._addressed(to):
            if client.wants_metadata is with_metadata:
                client.post(frame)

    def _addressed(self, to: str | None) -> list[Client]:
        if to is None:
            return list(self.clients.values())
        return [self.clients[to]] if to in self.clients else []

    def join(self, client: Client) -> None:
        self.clients[client.client_id] = client
        self._open.append(client)

    def leave(self, client: Client) -> None:
        """Forgets the id, whichever of its sockets closes: the trap."""
        self.clients.pop(client.client_id, None)
        self._open.remove(client)

    def drop_all(self) -> None:
        for client in tuple(self._open):
            client.drop()

    def silence_all(self) -> bool:
        """Whether there was anybody to stop talking to."""
        for client in self._open:
            client.is_silent = True
        return bool(self._open)


async def serve(client: Client) -> None:
    """Read what the client sends until it goes; only its first text message can announce features."""
    is_first = True
    async for message in client.socket:
        if message.type is not WSMsgType.TEXT:
            continue
        if is_first:
            _read_features(client, message.data)
        is_first = False


def _read_features(client: Client, text: str) -> None:
    try:
        body = json.loads(text)
    except ValueError:
        return
    if isinstance(body, dict) and body.get("type") == "feature_flags" and isinstance(body.get("data"), dict):
        client.wants_metadata = bool(body["data"].get("supports_preview_metadata"))
        client.post(json.dumps({"type": "feature_flags", "data": FEATURES}))
