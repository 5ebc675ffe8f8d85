"""The courier: sends what the outbox owes, once. Writes the intent before it sends and looks before it repeats."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from modules.discord.delivery import Delivery, NowhereToSend
from modules.discord.house import House
from modules.discord.refusals import DISCORD_TROUBLE, refusal_of
from modules.domain.errors import FulletError
from modules.domain.events import JobSettled
from modules.domain.jobs import JobState
from modules.domain.people import MessageId
from modules.domain.records import MessageKind, OutboxItem

log = structlog.get_logger(__name__)

#: Deliveries under way at once. Each channel has its own rate limit, so a slow one takes one of these and no more.
DELIVERIES_AT_ONCE = 8
#: One delivery, its search, upload and discord.py's own retries included; longer than that counts as "later".
DELIVERY_TIMEOUT_S = 50.0
#: Other couriers keep off an item for so long; after a crash it waits no longer than this. A delivery that takes longer
#: says so three times in between.
HOLD = timedelta(seconds=15)
#: Retries: 1 s, doubling to 5 min, for 24 h (durability.md, Faults).
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 300.0
GIVE_UP_AFTER = timedelta(hours=24)
#: The outbox is looked at this often even if no event came: another process may have filled it.
LOOK_EVERY_S = 5.0


class Courier:
    """Takes due items from the outbox and has them delivered, several at once."""

    def __init__(
        self, house: House, delivery: Delivery, when_ready: Callable[[], Awaitable[None]], *, is_alone: bool = False
    ) -> None:
        """`is_alone`: no other courier can be alive on this database, so what an earlier start held is free."""
        self._house = house
        self._is_alone = is_alone
        self._delivery = delivery
        self._when_ready = when_ready
        self._has_more = False  #: more was due than there were free hands for
        self._in_hand: set[tuple[object, MessageKind]] = set()
        self._look = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    async def run(self) -> None:
        """Deliver until cancelled. What was under way then is found again by its intent."""
        await self._when_ready()
        if self._is_alone:
            await self._take_over()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._listen(), name="courier-listen")
            while True:
                self._look.clear()
                wait_s = await self._take_due(tasks)
                try:
                    async with asyncio.timeout(wait_s):
                        await self._look.wait()
                except TimeoutError:
                    pass

    async def finish(self, limit_s: float = 20.0) -> None:
        """Before stopping: wait until nothing more is due, at most this long. `run` must still be running."""
        try:
            async with asyncio.timeout(limit_s):
                while await self._house.outbox.due(self._house.clock.now(), limit=1) or self._in_hand:
                    self._look.set()
                    await self._idle.wait()
                    await asyncio.sleep(0.05)  # let the loop above take what is due
        except (TimeoutError, FulletError):
            log.warning("outbox_not_emptied")

    async def _take_over(self) -> None:
        try:
            await self._house.outbox.release(self._house.clock.now())
        except FulletError as error:
            log.info("holds_not_released", code=error.code.value)  # they run out by themselves

    async def _listen(self) -> None:
        async with self._house.studio.events() as events:
            async for event in events:
                if isinstance(event, JobSettled) and event.state in {JobState.GENERATED, JobState.FAILED}:
                    self._look.set()

    async def _take_due(self, tasks: asyncio.TaskGroup) -> float:
        """Start what is due as far as hands are free; the seconds until the next look."""
        self._has_more = len(self._in_hand) >= DELIVERIES_AT_ONCE
        if self._has_more:
            return LOOK_EVERY_S
        now = self._house.clock.now()
        try:
            due, next_due = await self._house.outbox.look(now, limit=DELIVERIES_AT_ONCE * 2)
            for item in [item for item in due if (item.job_id, item.kind) not in self._in_hand]:
                if len(self._in_hand) >= DELIVERIES_AT_ONCE:
                    self._has_more = True
                    break
                claimed = await self._house.outbox.claim_send(item.job_id, item.kind, now, HOLD)
                if claimed is not None:
                    self._in_hand.add((claimed.job_id, claimed.kind))
                    self._idle.clear()
                    tasks.create_task(self._deliver(claimed, tasks), name=f"courier-{claimed.job_id}")
        except FulletError as error:
            log.warning("outbox_not_read", code=error.code.value)
            return FIRST_RETRY_S
        if next_due is None:
            return LOOK_EVERY_S
        return min(LOOK_EVERY_S, max(0.05, (next_due - self._house.clock.now()).total_seconds()))

    async def _deliver(self, item: OutboxItem, tasks: asyncio.TaskGroup) -> None:
        is_done = False
        with structlog.contextvars.bound_contextvars(job_id=str(item.job_id)):
            try:
                is_done = await self._try_once(item, tasks)
            except FulletError as error:
                # The database is away: the intent stands, the hold runs out, and the item comes back by itself.
                log.warning("delivery_not_noted", code=error.code.value)
            finally:
                self._in_hand.discard((item.job_id, item.kind))
                if not self._in_hand:
                    self._idle.set()
                if self._has_more or not is_done:  # the last look saw everything else, and when the next becomes due
                    self._look.set()

    async def _keep_hold(self, item: OutboxItem) -> None:
        """Ours until cancelled; what is delivered meanwhile is owed no more, and then this changes nothing."""
        while True:
            await asyncio.sleep(HOLD.total_seconds() / 3)
            try:
                await self._house.outbox.postpone(item.job_id, item.kind, self._house.clock.now() + HOLD)
            except FulletError as error:
                log.info("hold_not_kept", code=error.code.value)  # whoever takes it looks before sending

    async def _send(self, item: OutboxItem, tasks: asyncio.TaskGroup) -> MessageId | None:
        """Have it delivered, holding it meanwhile and no longer: what is noted afterwards is not to be overwritten."""
        keeping = tasks.create_task(self._keep_hold(item), name=f"courier-hold-{item.job_id}")
        try:
            async with asyncio.timeout(DELIVERY_TIMEOUT_S):
                return await self._delivery.deliver(item)
        finally:
            keeping.cancel()

    async def _try_once(self, item: OutboxItem, tasks: asyncio.TaskGroup) -> bool:
        """Whether it is delivered; else it is owed still, or never will be."""
        try:
            message_id = await self._send(item, tasks)
        except NowhereToSend:
            log.warning("delivery_impossible", message_kind=item.kind.value)
            await self._house.outbox.undeliverable(item.job_id, item.kind)
            if item.kind is MessageKind.RESULT:
                self._house.events.publish(JobSettled(job_id=item.job_id, state=JobState.UNDELIVERABLE))
        except DISCORD_TROUBLE as error:
            await self._later(item, refusal_of(error).retry_after_s, error)
        except FulletError:
            raise
        except Exception as error:
            log.exception("delivery_broken", message_kind=item.kind.value)
            await self._later(item, LONGEST_RETRY_S, error)
        else:
            await self._house.outbox.delivered(item.job_id, item.kind, message_id)
            log.info("delivered", message_kind=item.kind.value, tries=item.tries)
            if item.kind is MessageKind.RESULT:
                self._house.events.publish(JobSettled(job_id=item.job_id, state=JobState.DELIVERED))
            await self._delivery.tidy(item)
            return True
        return False

    async def _later(self, item: OutboxItem, retry_after_s: float | None, error: Exception) -> None:
        now = self._house.clock.now()
        if now - item.created_at > GIVE_UP_AFTER:
            log.error("delivery_given_up", message_kind=item.kind.value, reason=type(error).__name__)
            await self._house.outbox.undeliverable(item.job_id, item.kind)
            return
        wait_s = max(retry_after_s or 0.0, backoff_s(item.tries))
        log.warning("delivery_postponed", message_kind=item.kind.value, wait_s=round(wait_s, 1), reason=type(error).__name__)
        await self._house.outbox.postpone(item.job_id, item.kind, now + timedelta(seconds=wait_s))


def backoff_s(tries: int) -> float:
    """Seconds until the next try: doubling from 1 s to 5 min, with a little chance so that many do not come back at once."""
    return min(LONGEST_RETRY_S, FIRST_RETRY_S * 2.0 ** min(max(0, tries - 1), 20)) * random.uniform(0.8, 1.0)
