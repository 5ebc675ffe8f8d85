"""Work that no server can do any more: when it is given up, and when it is waited for. Pure."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from modules.domain.jobs import ServerName
from modules.domain.queue import ServerStatus
from modules.queue_manager.neighbours import Neighbour
from modules.queue_manager.unrunnable import AWAY_AFTER_S, GONE_AFTER_S, Knowledge, Outlook, Unrunnable, outlook
from tests.support.builders import FIRST_MOMENT, a_work_class

HAS, LACKS = Knowledge(lacks=False, is_away=False), Knowledge(lacks=True, is_away=False)
HAS_BUT_AWAY, LACKS_BUT_AWAY = Knowledge(lacks=False, is_away=True), Knowledge(lacks=True, is_away=True)
NOT_ASKED = Knowledge(lacks=None, is_away=False)


@given(st.lists(st.sampled_from([HAS, LACKS, HAS_BUT_AWAY, LACKS_BUT_AWAY, NOT_ASKED]), max_size=6))
def test_work_is_nowhere_only_when_every_server_is_there_and_said_so(servers: list[Knowledge]) -> None:
    found = outlook(servers)
    assert (found is Outlook.NOWHERE) == (bool(servers) and set(servers) == {LACKS})
    assert (found is Outlook.SOMEWHERE) == (HAS in servers)


WORK = a_work_class("gone/1")


def a_server(name: str, *, state: str = "healthy", has_it: bool) -> Neighbour:
    return Neighbour(
        status=ServerStatus(name=ServerName(name), state=state, since=FIRST_MOMENT),
        loaded=None,
        free_at=FIRST_MOMENT,
        told_at=FIRST_MOMENT,
        now=FIRST_MOMENT + timedelta(seconds=1),
        caps={WORK.exact_key: 1} if has_it else {},
        lacking=frozenset() if has_it else frozenset({WORK.exact_key}),
    )


def test_with_all_servers_there_it_is_given_up_after_minutes_and_only_without_a_break() -> None:
    unrunnable, waiting = Unrunnable(), {WORK.exact_key: WORK}
    without = [a_server("one", has_it=False), a_server("two", has_it=False)]
    assert unrunnable.given_up(waiting, without, 0.0) == []
    assert unrunnable.given_up(waiting, without, GONE_AFTER_S - 1) == []
    assert unrunnable.given_up(waiting, [*without, a_server("three", has_it=True)], GONE_AFTER_S) == []
    assert unrunnable.given_up(waiting, without, GONE_AFTER_S + 1) == []
    assert unrunnable.given_up(waiting, without, 2 * GONE_AFTER_S + 1) == [WORK.exact_key]


def test_while_the_server_that_has_it_is_away_it_waits_a_day() -> None:
    unrunnable, waiting = Unrunnable(), {WORK.exact_key: WORK}
    servers = [a_server("one", has_it=False), a_server("two", state="away", has_it=True)]
    for hour in range(24):
        assert unrunnable.given_up(waiting, servers, hour * 3600.0) == []
    assert unrunnable.given_up(waiting, servers, AWAY_AFTER_S) == [WORK.exact_key]


def test_a_server_out_of_service_that_has_it_is_waited_for_as_long_as_its_administrator_wants() -> None:
    unrunnable, waiting = Unrunnable(), {WORK.exact_key: WORK}
    servers = [a_server("one", state="drained", has_it=True)]
    assert [unrunnable.given_up(waiting, servers, now) for now in (0.0, AWAY_AFTER_S, 9 * AWAY_AFTER_S)] == [[], [], []]
