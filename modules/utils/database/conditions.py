"""Conditions that name a few rows of a large table, written so that both databases find their partial index.

SQLite uses a partial index only where the statement's text holds the index's own condition, and PostgreSQL, once it plans a
prepared statement without its parameters, does the same. So the values stand in the SQL itself, never as bound parameters, and
the indexes in `tables` are made from the same words. Source: https://www.sqlite.org/partialindex.html, section 3.1.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import ColumnElement, Table, and_, literal_column, text

from modules.domain.jobs import ACTIVE_STATES, IN_FLIGHT_STATES, JobState
from modules.utils.database.tables import SHOWN_STATES, job


def is_in(*states: JobState) -> ColumnElement[bool]:
    """`job.state` is one of these; the states stand in the SQL."""
    return job.c.state.in_([literal_column(f"'{state.value}'") for state in sorted(states)])


#: `ix_job_waiting`.
IS_QUEUED = job.c.state == literal_column(f"'{JobState.QUEUED.value}'")
#: `ix_job_in_flight`.
IS_IN_FLIGHT = is_in(*IN_FLIGHT_STATES)
#: `ix_job_shown`: something is still to come of it, or could not be delivered.
IS_SHOWN = is_in(*SHOWN_STATES)
IS_ACTIVE = and_(IS_SHOWN, is_in(*ACTIVE_STATES))
IS_TO_COME = and_(IS_SHOWN, is_in(*ACTIVE_STATES, JobState.GENERATED))
#: `ix_outbox_due`. As text, since SQLAlchemy would write `is_owed = 1` for SQLite.
IS_OWED = text("outbox.is_owed")


def is_in_given(jobs: Table, states: Collection[JobState]) -> ColumnElement[bool]:
    """The states that a caller names; the few rows of `job` that are not over are found by their index."""
    named = jobs.c.state.in_([literal_column(f"'{state.value}'") for state in sorted(states)])
    return and_(IS_SHOWN, named) if jobs is job and SHOWN_STATES.issuperset(states) else named
