"""Migrations: Alembic on a connection that is already open, from wherever this package is installed."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from modules.domain.errors import ErrorCode, FulletError


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


@cache
def newest_revision() -> str:
    """The revision this program was written for."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


@cache
def is_known(revision: str) -> bool:
    """Whether this program knows the revision, or it is one of a newer program."""
    return revision in {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}


def revision_of(connection: Connection) -> str | None:
    """The revision of this database; None when it is empty."""
    return MigrationContext.configure(connection).get_current_revision()


def migrate(connection: Connection) -> None:
    """Bring the tables up to date inside the caller's transaction; nothing to do is no error.

    Raises DATABASE_UNAVAILABLE (reason `newer`) when a newer FuLLet has been here: its tables are not ours to touch.
    """
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise FulletError(ErrorCode.DATABASE_UNAVAILABLE, reason="newer") from error
