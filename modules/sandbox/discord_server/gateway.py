"""The bot's gateway: HELLO, IDENTIFY, READY, heartbeats, RESUME with replay, and every way a connection can end.

Source: developer docs, "Gateway"; close codes from "Opcodes and Status Codes".
"""

import asyncio
import json
import secrets
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum

from aiohttp import WSMsgType, web

from modules.sandbox.discord_server.availability import GuildAvailability, SessionStarts
from modules.sandbox.discord_server.compression import Codec, codec_for
from modules.sandbox.discord_server.intents import Intent, refused, wants
from modules.sandbox.discord_server.shapes import guild_create_json, member_json, user_json
from modules.sandbox.discord_server.wire import Json, encode
from modules.sandbox.discord_server.world import Guild, Member, World

#: Discord's usual answer; a client that stays silent for longer than one and a half of these is cut off.
HEARTBEAT_INTERVAL_MS = 41_250
#: discord.py notes when it sent a heartbeat only after the loop has sent it, from another thread: an answer as quick as loopback
#: comes before the note, and it warns that the connection is a whole interval behind. Across a network nothing is that quick.
ACKNOWLEDGE_AFTER_S = 0.05
#: How long a broken session may be resumed. Discord names no number; it keeps sessions "a few minutes".
RESUMABLE_FOR_S = 180.0
#: Events kept for a replay, and frames that may wait on one connection.
BACKLOG = 5_000
#: Members in one GUILD_MEMBERS_CHUNK.
CHUNK = 1_000


class Op(IntEnum):
    """Gateway opcodes."""

    DISPATCH = 0
    HEARTBEAT = 1
    IDENTIFY = 2
    PRESENCE = 3
    VOICE_STATE = 4
    RESUME = 6
    RECONNECT = 7
    REQUEST_MEMBERS = 8
    INVALID_SESSION = 9
    HELLO = 10
    HEARTBEAT_ACK = 11


class CloseCode(IntEnum):
    """Why the gateway hangs up."""

    UNKNOWN_OPCODE = 4001
    DECODE_ERROR = 4002
    NOT_AUTHENTICATED = 4003
    AUTHENTICATION_FAILED = 4004
    ALREADY_AUTHENTICATED = 4005
    SESSION_TIMED_OUT = 4009
    DISALLOWED_INTENTS = 4014


class Line:
    """One WebSocket connection. Frames leave in the order they were sent."""

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.BaseTransport | None, codec: Codec | None) -> None:
        self._socket = socket
        self._transport = transport
        self._codec = codec
        self._frames: asyncio.Queue[bytes | int] = asyncio.Queue(BACKLOG)
        self.is_silent = False  #: swallow everything, both ways, as a dead connection does

    def send(self, payload: bytes) -> None:
        """Queue one payload; a reader too slow to keep up is dropped."""
        if self.is_silent:
            return
        try:
            self._frames.put_nowait(payload)
        except asyncio.QueueFull:
            self.drop()

    def hang_up(self, code: int) -> None:
        """Close properly after what is queued."""
        self._frames.put_nowait(code)

    def drop(self) -> None:
        """Cut the TCP connection without a word."""
        if isinstance(self._transport, asyncio.WriteTransport):
            self._transport.abort()

    async def write(self) -> None:
        """Send what is queued until the line is closed."""
        while True:
            frame = await self._frames.get()
            try:
                if isinstance(frame, int):
                    await self._socket.close(code=frame)
                    return
                if self._codec:
                    await self._socket.send_bytes(self._codec.encode(frame))
                else:
                    await self._socket.send_str(frame.decode())
            except ConnectionError:
                return  # the other side is gone; whoever reads this line notices and cleans up


@dataclass(slots=True, kw_only=True)
class Session:
    """One identified client: what it wants, and what it was sent, for a replay."""

    id: str
    intents: Intent
    shard: tuple[int, int]
    line: Line | None
    sequence: int = 0
    missing: set[int] = field(default_factory=set)  #: guilds this session has not been told of yet, or no longer
    sent: deque[tuple[int, bytes]] = field(default_factory=lambda: deque(maxlen=BACKLOG))

    def dispatch(self, event: str, data: object) -> None:
        """Send an event, or keep it for the RESUME."""
        self.sequence += 1
        payload = encode({"op": Op.DISPATCH, "t": event, "s": self.sequence, "d": data})
        self.sent.append((self.sequence, payload))
        if self.line:
            self.line.send(payload)

    def can_replay_from(self, sequence: int) -> bool:
        """Whether everything after `sequence` is still here."""
        oldest = self.sent[0][0] if self.sent else 1
        return oldest - 1 <= sequence <= self.sequence

    def serves(self, guild_id: int | None) -> bool:
        """Whether this shard is the one for a guild; private things go to shard 0."""
        shard, count = self.shard
        return shard == (0 if guild_id is None else (guild_id >> 22) % count)


class Gateway:
    """All sessions of the bot."""

    def __init__(self, world: World, *, heartbeat_interval_ms: int = HEARTBEAT_INTERVAL_MS) -> None:
        self._world = world
        self.heartbeat_interval_ms = heartbeat_interval_ms
        self.url = ""  #: set once the server listens
        self.sessions: dict[str, Session] = {}
        self._lines: set[Line] = set()
        self.on_status: Callable[[bool], None] = lambda _: None
        self.identifies = 0
        self.hello_after_s = 0.0  #: a busy Discord takes its time to greet a new connection
        self.resumes = 0
        self.session_starts = SessionStarts(world.clock)
        self.guilds = GuildAvailability()

    @property
    def is_online(self) -> bool:
        """Whether the bot has an identified, open connection."""
        return any(session.line for session in self.sessions.values())

    def dispatch(
        self, event: str, data: object, *, guild_id: int | None, bare: object | None = None, always: bool = False
    ) -> None:
        """Tell every session that wants this event; `bare` is what sessions without message content get instead.

        Of a guild that a session does not know yet it hears nothing but interactions, which take another way.
        """
        for session in list(self.sessions.values()):
            if not session.serves(guild_id) or (guild_id in session.missing and event != "INTERACTION_CREATE"):
                continue
            if always or wants(session.intents, event, in_guild=guild_id is not None):
                has_content = bare is None or Intent.MESSAGE_CONTENT in session.intents
                session.dispatch(event, data if has_content else bare)

    def guild_available(self, guild: Guild) -> None:
        """Send GUILD_CREATE to the shard of a guild, with the members each session may know."""
        for session in list(self.sessions.values()):
            if session.serves(guild.id):
                self._dispatch_guild(session, guild, is_new=True)

    # -- ways to break things, for tests ---------------------------------------------------------------------------

    def release_guilds(self) -> None:
        """Every guild that is only late comes now."""
        for session in list(self.sessions.values()):
            for guild_id in sorted(session.missing - self.guilds.away):
                self._arrive(session, guild_id)

    def begin_outage(self, guild_id: int) -> None:
        """A guild goes out: GUILD_DELETE with `unavailable`, and nothing of it until `end_outage`, also after a new READY."""
        self.guilds.away.add(guild_id)
        for session in list(self.sessions.values()):
            if session.serves(guild_id) and guild_id not in session.missing:
                session.missing.add(guild_id)
                session.dispatch("GUILD_DELETE", {"id": str(guild_id), "unavailable": True})

    def end_outage(self, guild_id: int) -> None:
        """The guild is back: GUILD_CREATE."""
        self.guilds.away.discard(guild_id)
        for session in list(self.sessions.values()):
            self._arrive(session, guild_id)

    def _arrive(self, session: Session, guild_id: int) -> None:
        guild = self._world.guilds.get(guild_id)
        if guild_id not in session.missing or guild_id in self.guilds.away or guild is None:
            return
        session.missing.discard(guild_id)
        if self._world.bot.id in guild.members:
            self._dispatch_guild(session, guild, is_new=False)

    def drop(self, *, resumable: bool = True) -> None:
        """Cut every connection."""
        self._forget_unless(resumable)
        for line in list(self._lines):
            line.drop()

    def ask_to_reconnect(self, *, resumable: bool = True) -> None:
        """Send RECONNECT."""
        self._forget_unless(resumable)
        self._send_to_all({"op": Op.RECONNECT, "d": None})

    def invalidate(self, *, resumable: bool = False) -> None:
        """Send INVALID_SESSION."""
        self._forget_unless(resumable)
        self._send_to_all({"op": Op.INVALID_SESSION, "d": resumable})

    def silence(self) -> None:
        """Leave every connection open but dead: no events, no heartbeat acknowledgements."""
        for line in self._lines:
            line.is_silent = True

    def _forget_unless(self, resumable: bool) -> None:
        if not resumable:
            self.sessions.clear()
            self.on_status(False)

    def _send_to_all(self, payload: Json) -> None:
        for line in list(self._lines):
            line.send(encode(payload))

    async def close(self) -> None:
        """Hang up on everybody, as when Discord deploys."""
        for line in list(self._lines):
            line.hang_up(1001)

    # -- one connection ---------------------------------------------------------------------------------------------

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """The `/gateway` endpoint."""
        try:
            codec = codec_for(request.query.get("compress"))
        except LookupError:
            return web.Response(status=400, text="unknown compression")
        socket = web.WebSocketResponse(max_msg_size=1 << 20, compress=False)
        await socket.prepare(request)
        line = Line(socket, request.transport, codec)
        self._lines.add(line)
        await asyncio.sleep(self.hello_after_s)
        line.send(encode({"op": Op.HELLO, "d": {"heartbeat_interval": self.heartbeat_interval_ms}}))
        conversation = _Conversation(self, self._world, line)
        try:
            async with asyncio.TaskGroup() as group:
                writer = group.create_task(line.write())
                await self._read(socket, line, conversation)
                writer.cancel()
        finally:
            self._lines.discard(line)
            self._line_ended(line, client_left=socket.close_code in (1000, 1001))
        return socket

    async def _read(self, socket: web.WebSocketResponse, line: Line, conversation: "_Conversation") -> None:
        patience_s = self.heartbeat_interval_ms / 1000 * 1.5
        while True:
            try:
                message = await socket.receive(timeout=patience_s)
            except TimeoutError:
                line.drop() if line.is_silent else await socket.close(code=CloseCode.SESSION_TIMED_OUT)
                return
            if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
                return
            if line.is_silent:
                continue
            try:
                payload = json.loads(message.data)
            except ValueError:
                line.hang_up(CloseCode.DECODE_ERROR)
                continue
            conversation.hear(payload)

    def _line_ended(self, line: Line, *, client_left: bool) -> None:
        for session in list(self.sessions.values()):
            if session.line is not line:
                continue
            session.line = None
            if client_left:
                del self.sessions[session.id]
            else:
                asyncio.get_running_loop().call_later(RESUMABLE_FOR_S, self._expire, session)
        if not self.is_online:
            self.on_status(False)

    def _expire(self, session: Session) -> None:
        if session.line is None:
            self.sessions.pop(session.id, None)

    # -- what a conversation needs ----------------------------------------------------------------------------------

    def identify(self, line: Line, details: Json) -> int | None:
        """Open a session; the close code when it is refused."""
        if details.get("token", "").removeprefix("Bot ") != self._world.application.token:
            return CloseCode.AUTHENTICATION_FAILED
        intents = Intent(details.get("intents", 0))
        if refused(intents, self._world.application.flags):
            return CloseCode.DISALLOWED_INTENTS
        if not self.session_starts.count():
            self._world.reset_token()  # Discord also writes to the owner
            return CloseCode.AUTHENTICATION_FAILED
        shard = details.get("shard") or (0, 1)
        session = Session(id=secrets.token_hex(16), intents=intents, shard=(int(shard[0]), int(shard[1])), line=line)
        self.sessions[session.id] = session
        self.identifies += 1
        guilds = [guild for guild in self._world.guilds.values() if session.serves(guild.id)]
        session.dispatch("READY", self._ready(session, guilds))
        for guild in guilds:
            if self._world.bot.id in guild.members:
                self._tell_guild_after_ready(session, guild)
        self.on_status(True)
        return None

    def _tell_guild_after_ready(self, session: Session, guild: Guild) -> None:
        if guild.id in self.guilds.away:
            session.missing.add(guild.id)
            session.dispatch(*self.guilds.outage(guild.id))
        elif self.guilds.late_s > 0:
            session.missing.add(guild.id)
            if self.guilds.late_s != float("inf"):
                asyncio.get_running_loop().call_later(self.guilds.late_s, self._arrive, session, guild.id)
        else:
            self._dispatch_guild(session, guild, is_new=False)

    def _ready(self, session: Session, guilds: list[Guild]) -> Json:
        application = self._world.application
        return {
            "v": 10,
            "user": user_json(self._world.bot) | {"verified": True, "mfa_enabled": True, "email": None, "locale": "en-US"},
            "guilds": [{"id": str(g.id), "unavailable": True} for g in guilds if self._world.bot.id in g.members],
            "private_channels": [],
            "session_id": session.id,
            "resume_gateway_url": self.url,
            "shard": list(session.shard),
            "application": {"id": str(application.id), "flags": application.flags},
        }

    def _dispatch_guild(self, session: Session, guild: Guild, *, is_new: bool) -> None:
        if not wants(session.intents, "GUILD_CREATE", in_guild=True):
            return
        sees_all = Intent.GUILD_PRESENCES in session.intents
        members = list(guild.members.values()) if sees_all else [guild.members[self._world.bot.id]]
        shape = guild_create_json(self._world, guild, members)
        session.dispatch("GUILD_CREATE", shape if is_new else shape | {"unavailable": False})

    def resume(self, line: Line, details: Json) -> bool:
        """Continue a session and replay what it missed; `False` when that cannot be done."""
        session = self.sessions.get(details.get("session_id") or "")
        sequence = details.get("seq")
        right_token = details.get("token", "").removeprefix("Bot ") == self._world.application.token
        if session is None or not right_token or not isinstance(sequence, int) or not session.can_replay_from(sequence):
            return False
        if session.line is not None:
            session.line.drop()
        session.line = line
        self.resumes += 1
        for number, payload in list(session.sent):
            if number > sequence:
                line.send(payload)
        session.dispatch("RESUMED", {"_trace": ["sandbox"]})
        self.on_status(True)
        return True

    def session_on(self, line: Line) -> Session | None:
        """The session that speaks over a line."""
        return next((session for session in self.sessions.values() if session.line is line), None)

    def send_members(self, session: Session, wanted: Json) -> None:
        """Answer REQUEST_GUILD_MEMBERS."""
        guild = self._world.guilds.get(int(wanted["guild_id"]))
        if guild is None:
            return
        members, missing = _wanted_members(self._world, guild, wanted)
        chunks = list(_chunks(members, CHUNK)) or [[]]
        for index, chunk in enumerate(chunks):
            data: Json = {
                "guild_id": str(guild.id),
                "members": [member_json(self._world, member) for member in chunk],
                "chunk_index": index,
                "chunk_count": len(chunks),
                "not_found": missing,
            }
            if wanted.get("nonce"):
                data["nonce"] = wanted["nonce"]
            session.dispatch("GUILD_MEMBERS_CHUNK", data)


class _Conversation:
    """What one connection says, payload by payload."""

    def __init__(self, gateway: Gateway, world: World, line: Line) -> None:
        self._gateway = gateway
        self._world = world
        self._line = line

    def hear(self, payload: Json) -> None:
        """Act on one payload of the client."""
        op, data = payload.get("op"), payload.get("d")
        session = self._gateway.session_on(self._line)
        match op:
            case Op.HEARTBEAT:
                acknowledgement = encode({"op": Op.HEARTBEAT_ACK, "d": None})
                asyncio.get_running_loop().call_later(ACKNOWLEDGE_AFTER_S, self._line.send, acknowledgement)
            case Op.IDENTIFY if session is None:
                if (refusal := self._gateway.identify(self._line, data or {})) is not None:
                    self._line.hang_up(refusal)
            case Op.RESUME if session is None:
                if not self._gateway.resume(self._line, data or {}):
                    self._line.send(encode({"op": Op.INVALID_SESSION, "d": False}))
            case Op.IDENTIFY | Op.RESUME:
                self._line.hang_up(CloseCode.ALREADY_AUTHENTICATED)
            case Op.REQUEST_MEMBERS if session is not None:
                self._gateway.send_members(session, data or {})
            case Op.PRESENCE | Op.VOICE_STATE if session is not None:
                pass
            case Op.REQUEST_MEMBERS | Op.PRESENCE | Op.VOICE_STATE:
                self._line.hang_up(CloseCode.NOT_AUTHENTICATED)
            case _:
                self._line.hang_up(CloseCode.UNKNOWN_OPCODE)


def _wanted_members(world: World, guild: Guild, wanted: Json) -> tuple[list[Member], list[str]]:
    if ids := wanted.get("user_ids"):
        asked = [int(i) for i in (ids if isinstance(ids, list) else [ids])]
        return [guild.members[i] for i in asked if i in guild.members], [str(i) for i in asked if i not in guild.members]
    start = (wanted.get("query") or "").casefold()
    found = [m for m in guild.members.values() if (m.nick or world.users[m.user_id].username).casefold().startswith(start)]
    limit = int(wanted.get("limit") or 0)
    return (found[:limit] if limit else found), []


def _chunks(members: list[Member], size: int) -> Iterator[list[Member]]:
    for start in range(0, len(members), size):
        yield members[start : start + size]
