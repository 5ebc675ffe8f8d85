"""Fixtures of the acceptance tests: a PostgreSQL for those that need several processes."""

from tests.support.databases import migrated_template, postgres_server, postgres_url

__all__ = ["migrated_template", "postgres_server", "postgres_url"]
