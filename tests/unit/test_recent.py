"""What was done lately is remembered for a bounded number of keys, and is not done again too soon."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modules.discord.admin_notes import AdminNotes
from modules.discord.pace import KEPT_PACES, WINDOW_S, Paces
from modules.discord.recent import Recent
from modules.domain.errors import ErrorCode, FulletError
from modules.domain.people import ChannelId


def test_a_key_is_due_at_first_and_again_when_its_time_is_up() -> None:
    recent: Recent[str] = Recent(2)
    assert recent.is_due("one", 0.0, 10.0)
    assert not recent.is_due("one", 9.9, 10.0)
    assert recent.is_due("one", 10.0, 10.0)
    recent.forget("one")
    assert recent.is_due("one", 10.1, 10.0)


@given(st.lists(st.integers(min_value=0, max_value=50), max_size=200))
def test_only_so_many_keys_are_remembered(keys: list[int]) -> None:
    recent: Recent[int] = Recent(7)
    for now, key in enumerate(keys):
        recent.is_due(key, float(now), 1_000.0)
        assert len(recent) <= 7
        assert not recent.is_due(key, float(now), 1_000.0)  # never the newest is forgotten


def test_the_pace_of_a_channel_is_forgotten_only_when_it_holds_nothing_up() -> None:
    paces, now = Paces(), 0.0
    for number in range(20 * KEPT_PACES):
        now += WINDOW_S / 100
        pace = paces.of(ChannelId(number), now)
        for _ in range(4):
            pace.note(now)
        assert paces.of(ChannelId(number), now).free_at(is_news=True) == now + WINDOW_S
        assert len(paces) <= 2 * 101  # a hundred are busy in any five seconds
    busy = ChannelId(19 * KEPT_PACES)
    assert paces.of(busy, now) is paces.of(busy, now)


async def test_what_administrators_could_not_be_told_is_told_at_the_next_chance() -> None:
    """A server that fails is told of once; while Discord or the database is away, that must not count as told."""
    said: list[Any] = []
    trouble: list[Exception] = [FulletError(ErrorCode.DATABASE_UNAVAILABLE), ConnectionResetError(104, "reset")]

    async def send(**message: Any) -> None:
        said.append(message)

    async def admin_tools(_: object) -> object:
        if trouble:
            raise trouble.pop()
        return SimpleNamespace(send=send)

    rooms: Any = SimpleNamespace(admin_tools=admin_tools)
    clock: Any = SimpleNamespace(monotonic=lambda: 5.0)
    notes = AdminNotes(rooms, clock)
    for _ in range(5):
        await notes.tell(1, "The server's disk is full.")
    assert len(said) == 1
