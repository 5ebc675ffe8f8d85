"""A person at the Discord stand-in: does what a human can do, sees what a human would see.

    async with People(sandbox.page_url) as people:
        ana = await people.be("ana")
        answer = await ana.slash("imagine", model="z-image", prompt="a lighthouse")
        result = await ana.wait_for_message(lambda m: m.pictures, channel="session-ana")

Everything waits for facts with a time-out; when the time is up, the error shows what this person saw.
"""

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp

from tests.support.person_views import SELECTS, TEXT_INPUT, Answer, ChannelView, Choice, Json, Modal, Seen, Uploaded

__all__ = ["Answer", "ChannelView", "Choice", "Event", "Modal", "People", "Person", "Refused", "Seen", "Uploaded"]

T = TypeVar("T")

#: How long a person waits before calling it a bug. Facts on loopback come within milliseconds; a loaded machine needs slack.
PATIENCE_S = 10.0
#: A slash command's answer, from deferral to result, may wait for more than the three seconds of the first answer.
ANSWER_PATIENCE_S = 20.0
CHECKBOX, RADIO = 23, 21
#: Channels with messages: text channels and public threads.
TEXT_CHANNELS = (0, 11)


class Refused(Exception):  # noqa: N818 - reads as what happened
    """Discord would not let this person do that."""

    def __init__(self, status: int, body: Json) -> None:
        self.status = status
        self.code: int = body.get("code", 0)
        self.body = body
        super().__init__(f"{status} {json.dumps(body)}")


@dataclass(frozen=True)
class Event:
    """One thing that happened before this person's eyes."""

    t: str
    d: Json

    def __str__(self) -> str:
        if self.t.startswith("MESSAGE_") and "content" in self.d:
            return f"{self.t} {Seen(self.d)}"
        return f"{self.t} {json.dumps(self.d, ensure_ascii=False)[:200]}"


class People:
    """Opens the people of one stand-in and closes them again."""

    def __init__(self, page_url: str) -> None:
        self._page_url = page_url
        self._stack = AsyncExitStack()
        self._session: aiohttp.ClientSession
        self._persons: dict[str, Person] = {}

    async def __aenter__(self) -> Self:
        # Each person keeps one socket open: no limit on connections.
        session = aiohttp.ClientSession(
            self._page_url, timeout=aiohttp.ClientTimeout(total=60), connector=aiohttp.TCPConnector(limit=0)
        )
        self._session = await self._stack.enter_async_context(session)
        self._group = await self._stack.enter_async_context(asyncio.TaskGroup())
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for person in self._persons.values():
            await person.close()
        await self._stack.__aexit__(kind, error, trace)

    async def be(self, username: str) -> "Person":
        """Sit down at somebody's client. The same person twice is one client."""
        if username not in self._persons:
            async with self._session.get("/person/users") as response:
                users = {user["username"]: user for user in await response.json()}
            assert username in users, f"nobody is called {username}; there are {sorted(users)}"
            socket = await self._session.ws_connect("/person/events", params={"as": users[username]["id"]})
            person = Person(self._session, socket, users[username])
            self._group.create_task(person.listen())
            self._persons[username] = person
        return self._persons[username]


class Person:
    """One person's client."""

    def __init__(self, session: aiohttp.ClientSession, socket: aiohttp.ClientWebSocketResponse, user: Json) -> None:
        self._session = session
        self._socket = socket
        self.id: str = user["id"]
        self.username: str = user["username"]
        self.locale: str = user["locale"]
        self.events: list[Event] = []
        self._known: Json | None = None  #: the last state, until an event makes it old
        self._arrival = asyncio.Condition()

    def __repr__(self) -> str:
        return f"<Person {self.username}>"

    @property
    def mention(self) -> str:
        """How a message addresses this person."""
        return f"<@{self.id}>"

    async def listen(self) -> None:
        """Take in events until the client is closed."""
        async for message in self._socket:
            event = json.loads(message.data)
            async with self._arrival:
                self.events.append(Event(event["t"], event["d"]))
                if event["t"].startswith(("CHANNEL_", "COMMANDS_")):
                    self._known = None
                self._arrival.notify_all()

    async def close(self) -> None:
        """Close the client."""
        await self._socket.close()

    # -- waiting ----------------------------------------------------------------------------------------------------

    async def until(self, check: Callable[[], Awaitable[T | None]], what: str, *, timeout: float = PATIENCE_S) -> T:
        """Wait until `check` gives something; it is asked again whenever anything happens before this person's eyes."""
        start = len(self.events)
        try:
            async with asyncio.timeout(timeout):
                while True:
                    known = len(self.events)
                    if found := await check():
                        return found
                    async with self._arrival:
                        await self._arrival.wait_for(lambda known=known: len(self.events) > known)  # type: ignore[misc]
        except TimeoutError:
            raise AssertionError(f"{self.username} waited {timeout:g} s for {what}.\n{self._story(start)}") from None

    def _story(self, start: int) -> str:
        lately = self.events[max(0, min(start, len(self.events) - 20)) :]
        return "Lately:\n" + ("\n".join(f"  {event}" for event in lately) or "  nothing happened")

    async def wait_for(
        self, t: str, predicate: Callable[[Json], object] = lambda _: True, *, since: int = 0, timeout: float = PATIENCE_S
    ) -> Event:
        """The first event of a kind that fits, among those from number `since` on (`len(person.events)` for "from now")."""

        async def check() -> Event | None:
            return next((e for e in self.events[since:] if e.t == t and predicate(e.d)), None)

        return await self.until(check, f"{t} that fits", timeout=timeout)

    async def wait_for_message(
        self, predicate: Callable[[Seen], object], *, channel: str | None = None, timeout: float = PATIENCE_S
    ) -> Seen:
        """The newest message that fits, in one channel (name or id, which may only appear later) or in any."""

        async def check() -> Seen | None:
            for message in reversed(await self._readable(channel)):
                if not message.is_loading and predicate(message):
                    return message
            return None

        return await self.until(check, f"a message that fits in {channel or 'any channel'}", timeout=timeout)

    async def _readable(self, channel: str | None) -> list[Seen]:
        wanted = await self.channels()
        if channel is not None and channel != "dm":
            wanted = [c for c in wanted if channel in (c.id, c.name)]
        ids = ["dm"] if channel == "dm" else [c.id for c in wanted if c.type in TEXT_CHANNELS]
        return [message for channel_id in ids for message in await self.messages(channel_id)]

    async def wait_for_channel(self, name: str, *, timeout: float = PATIENCE_S) -> ChannelView:
        """The channel of this name, as soon as this person sees it."""

        async def check() -> ChannelView | None:
            return next((c for c in await self.channels() if c.name == name), None)

        return await self.until(check, f"the channel #{name}", timeout=timeout)

    async def wait_until_gone(self, channel: str, *, timeout: float = PATIENCE_S) -> None:
        """Until a channel (name or id) is out of sight."""

        async def check() -> bool:
            return all(channel not in (c.id, c.name) for c in await self.channels())

        await self.until(check, f"#{channel} to go", timeout=timeout)

    async def wait_for_bot(self, *, online: bool = True, timeout: float = PATIENCE_S) -> None:
        """Until the bot is (or is no longer) online."""

        async def check() -> bool:
            return bool((await self.state())["bot"]["online"]) is online

        await self.until(check, f"the bot to be {'online' if online else 'offline'}", timeout=timeout)

    async def wait_for_command(self, name: str, *, timeout: float = PATIENCE_S) -> Json:
        """Until a command is offered."""

        async def check() -> Json | None:
            return next((c for c in (await self.state())["commands"] if c["name"] == name.split()[0]), None)

        return await self.until(check, f"the command /{name}", timeout=timeout)

    # -- looking ----------------------------------------------------------------------------------------------------

    async def state(self) -> Json:
        """Everything the client shows at the start."""
        self._known = await self._get("/person/state")
        return self._known

    async def channels(self) -> list[ChannelView]:
        """The channels in this person's list, categories included, in the list's order."""
        guild = (await self.state())["guild"]
        return [ChannelView.of(channel) for channel in guild["channels"]] if guild else []

    async def channel(self, which: str) -> ChannelView:
        """A channel by name or id that must be visible now."""
        channels = await self.channels()
        for channel in channels:
            if which in (channel.name, channel.id):
                return channel
        raise AssertionError(f"{self.username} sees no #{which}, only {[c.name for c in channels]}")

    async def messages(self, channel: str = "general", *, limit: int = 100) -> list[Seen]:
        """The newest messages of a channel (name, id or "dm"), oldest first."""
        params = {"channel": await self._channel_id(channel), "limit": str(limit)}
        return [Seen(shape) for shape in await self._get("/person/messages", **params)]

    async def message(self, message: Seen) -> Seen:
        """A message as it is now."""
        for seen in await self.messages(message.channel_id):
            if seen.id == message.id:
                return seen
        raise AssertionError(f"{self.username} no longer sees: {message}")

    async def commands(self) -> list[Json]:
        """The commands this person is offered."""
        commands: list[Json] = (await self.state())["commands"]
        return commands

    async def download(self, url: str) -> bytes:
        """The bytes behind a picture or file."""
        async with self._session.get(url) as response:
            response.raise_for_status()
            return await response.read()

    # -- doing ------------------------------------------------------------------------------------------------------

    async def say(
        self, content: str, channel: str = "general", *, files: list[Uploaded] | None = None, reply_to: Seen | None = None
    ) -> Seen:
        """Write a message."""
        body: Json = {"channel": await self._channel_id(channel), "content": content, "files": [f.id for f in files or []]}
        if reply_to is not None:
            body["reply_to"] = reply_to.id
        return Seen(await self._post("/person/messages", body))

    async def forward(self, message: Seen, to: str = "general") -> Seen:
        """Forward a message to another channel."""
        body: Json = {"channel": message.channel_id, "message": message.id, "to": await self._channel_id(to)}
        return Seen(await self._post("/person/forward", body))

    async def open_thread(self, name: str, channel: str = "general") -> ChannelView:
        """Open a public thread under a channel."""
        return ChannelView.of(await self._post("/person/threads", {"channel": await self._channel_id(channel), "name": name}))

    async def upload(self, filename: str, data: bytes) -> Uploaded:
        """Upload a file for a message, an option or a modal."""
        form = aiohttp.FormData()
        form.add_field("file", io.BytesIO(data), filename=filename)  # aiohttp warns of large plain bytes
        async with self._session.post("/person/uploads", params={"as": self.id}, data=form) as response:
            shape = await self._read(response)
        return Uploaded(id=shape["id"], filename=shape["filename"], size=shape["size"], url=shape["url"])

    async def delete(self, message: Seen) -> None:
        """Delete an own message or dismiss an ephemeral one."""
        path = f"/person/messages/{message.channel_id}/{message.id}"
        async with self._session.delete(path, params={"as": self.id}) as response:
            await self._read(response)

    async def slash(
        self, name: str, /, channel: str = "general", *, timeout: float = ANSWER_PATIENCE_S, **options: object
    ) -> Answer:
        """Use a slash command (`"admin status"` for one in a group) and wait for its answer."""
        command, nested = await self._command(name, [_option(key, value) for key, value in options.items()])
        body: Json = {"channel": await self._channel_id(channel), "command": command, "options": nested}
        return await self._act("/person/commands", body, timeout=timeout)

    async def context_menu(
        self, name: str, target: "Seen | Person", channel: str = "general", *, timeout: float = ANSWER_PATIENCE_S
    ) -> Answer:
        """Use an entry of the context menu of a message or a person and wait for its answer."""
        is_message = isinstance(target, Seen)
        place = target.channel_id if isinstance(target, Seen) else await self._channel_id(channel)
        command = {"name": name, "type": 3 if is_message else 2}
        return await self._act(
            "/person/commands", {"channel": place, "command": command, "target_id": target.id}, timeout=timeout
        )

    async def autocomplete(
        self, name: str, focused: str, text: str = "", /, channel: str = "general", **options: object
    ) -> list[Choice]:
        """What is suggested while typing `text` into the option `focused`."""
        typed = [_option(key, value) for key, value in options.items()]
        command, nested = await self._command(name, [*typed, {"name": focused, "value": text, "focused": True}])
        body: Json = {"channel": await self._channel_id(channel), "command": command, "options": nested}
        return [Choice(c["name"], c["value"]) for c in (await self._post("/person/autocomplete", body))["choices"]]

    async def press(self, message: Seen, which: str, *, timeout: float = ANSWER_PATIENCE_S) -> Answer:
        """Press a button (by label or custom id) and wait for what comes of it."""
        button = message.button(which)
        assert not button.disabled, f"{which!r} is greyed out on: {message}"
        assert button.custom_id, f"{which!r} is a link"
        return await self._use(message, button.custom_id, 2, None, timeout)

    async def select(self, message: Seen, which: str, values: str | list[str], *, timeout: float = ANSWER_PATIENCE_S) -> Answer:
        """Choose in a select (by custom id or placeholder), by label or value, and wait for what comes of it."""
        select = message.select(which)
        by_label = dict(select.options)
        chosen = [by_label.get(v, v) for v in ([values] if isinstance(values, str) else values)]
        return await self._use(message, select.custom_id, select.type, chosen, timeout)

    async def _use(self, message: Seen, custom_id: str, kind: int, values: list[str] | None, timeout: float) -> Answer:
        body: Json = {"channel": message.channel_id, "message": message.id, "custom_id": custom_id, "component_type": kind}
        if values is not None:
            body["values"] = values
        return await self._act("/person/components", body, timeout=timeout)

    async def submit(self, modal: Modal, *, timeout: float = ANSWER_PATIENCE_S, **typed: object) -> Answer:
        """Fill in a modal (by custom id or label; the rest keeps what is prefilled), send it, and wait for the answer."""
        values = {**modal.typed, **{modal.field_id(name): value for name, value in typed.items()}}
        components = [_filled(modal.fields[custom_id], value) for custom_id, value in values.items()]
        body: Json = {
            "interaction_id_of_the_modal": modal.interaction_id,
            "custom_id": modal.custom_id,
            "components": components,
        }
        return await self._act("/person/modals", body, timeout=timeout)

    submit_modal = submit

    async def rename(self, **names: str | None) -> None:
        """Change `username`, `global_name`, `nick` or `locale`."""
        await self._post("/person/rename", names)
        self.username = names.get("username") or self.username

    async def close_dms(self) -> None:
        """Take no more private messages of the bot."""
        await self._post("/person/privacy", {"accepts_private": False})

    async def leave(self) -> None:
        """Leave the guild."""
        await self._post("/person/leave", {})

    async def join(self) -> None:
        """Join the guild again."""
        await self._post("/person/join", {})

    async def delete_channel(self, channel: str) -> None:
        """As an administrator: delete a channel."""
        await self._post("/person/admin/delete_channel", {"channel": await self._channel_id(channel)})

    async def administer(self, act: str, **details: object) -> Json:
        """As an administrator: `create_channel`, `kick`, `timeout`, `roles`, `invite` (see docs/sandbox.md)."""
        result: Json = await self._post(f"/person/admin/{act}", details)
        return result

    # -- parts ------------------------------------------------------------------------------------------------------

    async def _act(self, path: str, body: Json, *, timeout: float) -> Answer:
        since, began = len(self.events), time.perf_counter()
        interaction_id = (await self._post(path, body))["interaction_id"]
        first: list[float] = []

        def mine(*kinds: str) -> Event | None:
            fitting = (e for e in self.events[since:] if e.t in kinds and e.d["interaction_id"] == interaction_id)
            return next(fitting, None)

        async def check() -> Event | None:
            if not first and mine("INTERACTION_DONE", "INTERACTION_DEFERRED", "INTERACTION_FAILED"):
                first.append(time.perf_counter() - began)
            return mine("INTERACTION_DONE", "INTERACTION_FAILED")

        end = await self.until(check, f"an answer to {path} {json.dumps(body, ensure_ascii=False)[:300]}", timeout=timeout)
        opened = mine("MODAL_OPEN")
        return Answer(
            interaction_id=interaction_id,
            failed=end.t == "INTERACTION_FAILED",
            deferred=mine("INTERACTION_DEFERRED") is not None,
            message=await self._answer_message(end),
            modal=Modal(opened.d) if opened else None,
            seconds=first[0],
        )

    async def _answer_message(self, end: Event) -> Seen | None:
        if not end.d.get("message_id"):
            return None
        found = [m for m in await self.messages(end.d["channel"]) if m.id == end.d["message_id"]]
        return found[0] if found else None

    async def _command(self, name: str, options: list[Json]) -> tuple[Json, list[Json]]:
        """The command and its options, wrapped in group and sub-command where the name has several words."""
        first, *path = name.split()
        offered = (self._known or await self.state())["commands"]
        definition = next((c for c in offered if c["name"] == first and c["type"] == 1), None)
        if definition is None:
            definition = next((c for c in await self.commands() if c["name"] == first and c["type"] == 1), None)
        if definition is None:
            raise AssertionError(f"{self.username} is not offered /{first}, only {[c['name'] for c in offered]}")
        for word in reversed(path):
            options = [{"name": word, "options": options}]
        return {"id": definition["id"], "name": first, "type": 1}, options

    async def _channel_id(self, which: str) -> str:
        if which == "dm" or which.isdecimal():
            return which
        guild = (self._known or {}).get("guild") or {"channels": []}
        known = next((c["id"] for c in guild["channels"] if c["name"] == which), None)
        return known or (await self.wait_for_channel(which)).id  # the bot makes its channels a moment after it is online

    async def _get(self, path: str, **params: str) -> Any:
        async with self._session.get(path, params={"as": self.id, **params}) as response:
            return await self._read(response)

    async def _post(self, path: str, body: Any) -> Any:
        async with self._session.post(path, params={"as": self.id}, json=body) as response:
            return await self._read(response)

    async def _read(self, response: aiohttp.ClientResponse) -> Any:
        if response.status == 204:
            return {}
        body = await response.json()
        if response.status >= 400:
            raise Refused(response.status, body)
        return body


def _option(name: str, value: object) -> Json:
    if isinstance(value, Uploaded | Person | ChannelView):
        return {"name": name, "value": value.id}
    return {"name": name, "value": value}


def _filled(field: Json, value: object) -> Json:
    shape: Json = {"type": field["type"], "custom_id": field["custom_id"]}
    if field["type"] in (TEXT_INPUT, CHECKBOX, RADIO):
        return shape | {"value": value}
    items = value if isinstance(value, list) else [value]
    chosen = [item.id if isinstance(item, Uploaded | Person | ChannelView) else str(item) for item in items]
    if field["type"] in SELECTS:
        by_label = {o["label"]: o["value"] for o in field.get("options") or []}
        chosen = [by_label.get(item, item) for item in chosen]
    return shape | {"values": chosen}
