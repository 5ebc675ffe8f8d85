"""The ControlStore's contract: shared facts and the audit trail."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from modules.domain.people import UserId
from modules.domain.records import AuditEntry
from modules.utils.database import Database, Topic, Wakeup
from tests.support.builders import FIRST_MOMENT


async def test_a_fact_is_set_changed_and_unset(database: Database) -> None:
    assert await database.control.get("paused") is None
    await database.control.set("paused", "1")
    await database.control.set("paused", "2 — por ahora")
    assert await database.control.get("paused") == "2 — por ahora"
    await database.control.set("paused", None)
    assert await database.control.get("paused") is None


async def test_facts_are_found_by_exactly_their_prefix(database: Database) -> None:
    for key in ("drained:a", "drained:b", "drained_c", "Drained:d", "drained%", "other"):
        await database.control.set(key, key)
    assert await database.control.with_prefix("drained:") == {"drained:a": "drained:a", "drained:b": "drained:b"}
    assert await database.control.with_prefix("drained%") == {"drained%": "drained%"}
    assert len(await database.control.with_prefix("")) == 6


async def test_keys_are_listed_and_many_are_removed_at_once(database: Database) -> None:
    for key in ("preview.1", "preview.2", "preview.3", "Preview.4", "preview_5"):
        await database.control.set(key, "x")
    assert await database.control.keys("preview.") == ["preview.1", "preview.2", "preview.3"]
    await database.control.remove(["preview.1", "preview.3", "never set"])
    await database.control.remove([])
    assert await database.control.keys("preview.") == ["preview.2"]


async def test_a_change_wakes_who_listens(database: Database) -> None:
    with database.wakeups() as wakeups:
        await database.control.set("paused", "1")
        assert await anext(wakeups) == Wakeup(Topic.CONTROL, "paused")


async def test_the_audit_trail_is_newest_first(database: Database) -> None:
    entries = [
        AuditEntry(
            at=FIRST_MOMENT + timedelta(seconds=number),
            actor_id=UserId(2**62 + number),
            act="server_drained",
            subject=f"gpu-{number}",
            details={"why": "ruido ♨", "nul": "\x00"},
        )
        for number in range(4)
    ]
    for entry in entries:
        await database.control.audit(entry)
    assert await database.control.audit_trail() == entries[::-1]
    assert await database.control.audit_trail(limit=2) == [entries[3], entries[2]]


async def test_of_several_who_compare_and_set_one_wins(database: Database) -> None:
    assert await database.control.set_if("a key", None, "first")
    won = await asyncio.gather(*(database.control.set_if("a key", "first", f"of {number}") for number in range(8)))
    assert sorted(won) == [False] * 7 + [True]
    assert await database.control.get("a key") == f"of {won.index(True)}"
    assert not await database.control.set_if("a key", "first", None)
    assert await database.control.set_if("a key", f"of {won.index(True)}", None)
    assert await database.control.get("a key") is None
