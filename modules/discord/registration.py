"""Our slash commands at Discord: registered or removed, one act after the other. What was asked for outlives a restart."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import aiohttp
import discord
import structlog
from discord import app_commands

from modules.discord.refusals import DISCORD_TROUBLE, RefusalKind, refusal_of
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.people import GuildId
from modules.domain.ports import Clock, ControlStore

log = structlog.get_logger(__name__)

T = TypeVar("T")

TREE_HASH_KEY = "discord.tree_hash"
CLEARED = "cleared:"
#: What an administrator asked for and Discord has not taken yet: `sync`, or `clear:<guild id>`.
ASKED_KEY = "discord.commands_asked_for"
SYNC, CLEAR = "sync", "clear:"
#: Nobody looks at "typing..." for longer than this without a word.
PATIENCE_S = 2.5

#: Says that it takes longer: the moment Discord asked us to wait for, or None where it named none.
SayWaiting = Callable[[datetime | None], Awaitable[object]]


class CommandLimits:
    """What Discord's answers say of our commands: that it took them, and when it takes the next. `trace` is to be given to
    discord.py, which keeps both to itself.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._free_at: dict[str, datetime] = {}
        self._taken: asyncio.Future[None] | None = None
        self.trace = aiohttp.TraceConfig()
        self.trace.on_request_end.append(self._read)

    @property
    def free_at(self) -> datetime | None:
        """When the next call is allowed; None when it is now, or when Discord did not say."""
        return max((at for at in self._free_at.values() if at > self._clock.now()), default=None)

    def next_taken(self) -> asyncio.Future[None]:
        """Done as soon as Discord takes the next call."""
        self._taken = asyncio.get_running_loop().create_future()
        return self._taken

    async def _read(self, session: aiohttp.ClientSession, context: object, told: aiohttp.TraceRequestEndParams) -> None:
        if told.method != "PUT" or not told.url.path.endswith("/commands"):
            return
        headers, is_refused = told.response.headers, told.response.status == 429
        if is_refused or headers.get("X-RateLimit-Remaining") == "0":
            wait = headers.get("Retry-After" if is_refused else "X-RateLimit-Reset-After", "")
            with contextlib.suppress(ValueError, OverflowError):  # what cannot be read is not told
                self._free_at[told.url.path] = self._clock.now() + timedelta(seconds=float(wait))
        if told.response.ok and self._taken is not None and not self._taken.done():
            self._taken.set_result(None)


@dataclass(frozen=True, slots=True)
class _Act:
    wish: str | None  #: as it is stored; None: register what has changed
    task: asyncio.Task[int | None]


class Registration:
    """Acts take turns, so what was asked for last is what remains. Whoever asks for what is already under way shares it.

    `sync`, `sync_changes` and `clear` raise COMMANDS_NOT_TAKEN, COMMANDS_FORBIDDEN, DATABASE_UNAVAILABLE, and
    COMMANDS_AFTER_RESTART when we stop meanwhile.
    """

    def __init__(self, tree: app_commands.CommandTree[Any], limits: CommandLimits, control: ControlStore) -> None:
        self._tree = tree
        self._limits = limits
        self._control = control
        self._last: _Act | None = None
        self._last_wished: _Act | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_over = False

    async def sync(self, say_waiting: SayWaiting) -> int:
        """Register the commands, whatever was before; how many."""
        return await self._patiently(self._ask(SYNC), say_waiting) or 0

    async def sync_changes(self, say_waiting: SayWaiting) -> None:
        """Register the commands unless Discord knows these, or knew them when they were removed."""
        await self._patiently(self._ask(None), say_waiting)

    async def clear(self, guild_id: GuildId, say_waiting: SayWaiting) -> None:
        """Remove every slash command of this application, in this guild and everywhere.

        They stay known to us: `sync` brings them back without a restart; a restart alone does not.
        """
        await self._patiently(self._ask(f"{CLEAR}{guild_id}"), say_waiting)

    async def unfinished(self) -> str | None:
        """What an earlier start was asked for and did not come to."""
        return await self._control.get(ASKED_KEY)

    async def catch_up(self, wish: str | None) -> int | None:
        """Do what was left unfinished; without that, register what has changed. How many are registered, if any were."""
        return await self._ask(wish)

    async def close(self) -> None:
        """Wait for Discord no longer. What was asked for stays stored for the next start."""
        self._is_over = True
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    # --- turns ----------------------------------------------------------------------------------------------------------

    def _ask(self, wish: str | None) -> asyncio.Task[int | None]:
        if self._is_over:
            raise FulletError(ErrorCode.STOPPING)
        before = self._last
        if before is not None and before.wish == wish and not before.task.done():
            return before.task
        self._last = _Act(wish, self._keep(self._in_turn(wish, before)))
        if wish is not None:
            self._last_wished = self._last
        return self._last.task

    async def _in_turn(self, wish: str | None, before: _Act | None) -> int | None:
        if wish is not None:
            await self._control.set(ASKED_KEY, wish)  # before anybody is told that it will be done
        if before is not None:
            await asyncio.wait({before.task})
        try:
            return await self._do(wish)
        finally:
            is_last_wish = self._last_wished is not None and self._last_wished.task is asyncio.current_task()
            if is_last_wish and not self._is_over:
                await self._control.set_if(ASKED_KEY, wish, None)  # done, or the person is told that it is not

    async def _patiently(self, act: asyncio.Task[int | None], say_waiting: SayWaiting) -> int | None:
        await asyncio.wait({act}, timeout=PATIENCE_S)
        if not act.done():
            await say_waiting(self._limits.free_at)
            await asyncio.wait({act})
        if act.cancelled():
            raise FulletError(ErrorCode.COMMANDS_AFTER_RESTART)
        return act.result()

    def _keep(self, doing: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Ours until it ends, also when nobody waits for it any more."""
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        return task

    # --- acts -----------------------------------------------------------------------------------------------------------

    async def _do(self, wish: str | None) -> int | None:
        if wish is not None and wish.startswith(CLEAR):
            await self._clear(int(wish.removeprefix(CLEAR)))
            return None
        known = await self._tree_hash()
        if wish != SYNC and (await self._control.get(TREE_HASH_KEY) or "").removeprefix(CLEARED) == known:
            return None
        await self._tell(self._tree.sync())
        await self._control.set(TREE_HASH_KEY, known)
        count = len(self._commands())
        log.info("commands_synced", commands=count)
        return count

    async def _clear(self, guild_id: int) -> None:
        client = self._tree.client
        assert client.application_id is not None
        await self._tell(client.http.bulk_upsert_global_commands(client.application_id, payload=[]))
        await self._tell(client.http.bulk_upsert_guild_commands(client.application_id, guild_id, payload=[]))
        await self._control.set(TREE_HASH_KEY, CLEARED + await self._tree_hash())
        log.info("commands_cleared")

    async def _tell(self, call: Coroutine[Any, Any, object]) -> None:
        """Returns once Discord has taken it. discord.py itself may return a minute later: it sleeps *after* the last call that a
        rate limit allows.
        """
        taken = self._limits.next_taken()
        calling = self._keep(call)
        first: set[asyncio.Future[Any]] = {calling, taken}
        await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
        try:
            if not taken.done():
                await calling
        except DISCORD_TROUBLE as error:
            raise _failure(error) from error

    async def _tree_hash(self) -> str:
        """Of everything Discord would be told, both languages included."""
        translator = self._tree.translator
        assert translator is not None
        payloads = [await command.get_translated_payload(self._tree, translator) for command in self._commands()]
        told = json.dumps(sorted(payloads, key=lambda payload: str(payload["name"])), sort_keys=True, default=str)
        return hashlib.sha256(f"{self._tree.client.application_id}:{told}".encode()).hexdigest()

    def _commands(self) -> list[Any]:
        kinds = (discord.AppCommandType.chat_input, discord.AppCommandType.message)
        return [command for kind in kinds for command in self._tree.get_commands(type=kind)]


def _failure(error: Exception) -> Exception:
    """In our own terms; what is our own fault stays what it is."""
    refusal = refusal_of(error)
    match refusal.kind:
        case RefusalKind.LATER:
            return FulletError(
                ErrorCode.COMMANDS_NOT_TAKEN, wait_s="" if refusal.retry_after_s is None else refusal.retry_after_s
            )
        case RefusalKind.PLACE_GONE:
            return FulletError(ErrorCode.COMMANDS_FORBIDDEN)
        case _:
            return error
