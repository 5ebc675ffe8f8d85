"""What the contract suites share."""

from tests.support.databases import (
    clock,
    database,
    database_url,
    migrated_file,
    migrated_template,
    postgres_server,
    postgres_url,
    sqlite_url,
)

__all__ = [
    "clock",
    "database",
    "database_url",
    "migrated_file",
    "migrated_template",
    "postgres_server",
    "postgres_url",
    "sqlite_url",
]
