"""Reading `DATABASE_URL`, in every form that providers print and operators type."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sqlalchemy.engine import make_url
from sqlalchemy.engine.url import URL
from sqlalchemy.exc import ArgumentError

#: The file of an empty DATABASE_URL, inside the data folder.
DEFAULT_FILE = "bot_data.db"

_POSTGRES_SCHEMES = frozenset({"postgres", "postgresql"})
#: libpq's own names, beside the way asyncpg's `ssl` argument knows them. `verify-*` need a context: see `_tls`.
_UNVERIFIED_TLS: Mapping[str, str | Literal[False]] = {
    "disable": False,
    "allow": "allow",
    "prefer": "prefer",
    "require": "require",
}
_VERIFYING = ("verify-ca", "verify-full")
#: Whom to trust where the address does not say it. Source: PostgreSQL's manual, `sslrootcert`.
_OWN_ROOTS = Path("~/.postgresql/root.crt")
_YES = frozenset({"1", "true", "yes", "on"})
#: Understood and needless here, so not worth a word: asyncpg chooses SCRAM channel binding itself, speaks no GSS, and keeps its
#: own pool; the rest are hints of one provider or another library.
_HARMLESS = frozenset(
    {
        "channel_binding",
        "connection_limit",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "pool_timeout",
        "prepare_threshold",
        "prepared_statement_cache_size",
        "sslcompression",
        "sslnegotiation",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SqliteTarget:
    """One file."""

    path: Path
    ignored: tuple[str, ...] = ()  #: parameters of the URL that mean nothing to us

    @property
    def location(self) -> str:
        """What may be shown to an operator."""
        return str(self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTarget:
    """A server; `connect` are arguments of `asyncpg.connect`, password included, hence never shown."""

    connect: Mapping[str, object] = field(repr=False)
    location: str  #: host, port and database, without user or password
    is_pooled: bool = False  #: behind a transaction pooler: no prepared statement may outlive its transaction
    ignored: tuple[str, ...] = ()


Target = SqliteTarget | PostgresTarget


def read_database_url(url: str | None, data_dir: Path) -> Target:
    """The database a URL names; empty means `data_dir/bot_data.db`. Raises ValueError with a sentence that holds no secret,
    without its subject: whoever shows it names the setting."""
    given = (url or "").strip().strip("'\"")
    if not given:
        return SqliteTarget(path=data_dir / DEFAULT_FILE)
    if "://" not in given:
        return SqliteTarget(path=Path(given))
    try:
        parsed = make_url(given)
    except (ArgumentError, ValueError):
        # `from None`: the original quotes the whole URL, password included
        raise ValueError("is no URL (a password with @ : / or # in it must be percent-encoded)") from None
    scheme = parsed.drivername.split("+", 1)[0].lower()
    if scheme == "sqlite":
        return _sqlite(parsed)
    if scheme in _POSTGRES_SCHEMES:
        return _postgres(parsed)
    raise ValueError(f"names {scheme!r}; FuLLet speaks sqlite and postgresql")


def _sqlite(url: URL) -> SqliteTarget:
    path = url.database or ""
    if path.startswith("file:"):
        path = path.removeprefix("file:")
    if path in {"", ":memory:"} or url.query.get("mode") == "memory":
        raise ValueError("names a database in memory, which would lose every job at a restart; name a file")
    return SqliteTarget(path=Path(path), ignored=tuple(sorted(url.query)))


def _postgres(url: URL) -> PostgresTarget:
    query = {name: value if isinstance(value, str) else value[-1] for name, value in url.query.items()}
    host = url.host or query.pop("host", None)
    port = url.port or _number(query, "port")
    connect: dict[str, object] = {
        name: value
        for name, value in {
            "host": host,
            "port": port,
            "user": url.username or query.pop("user", None),
            "password": url.password or query.pop("password", None),
            "database": url.database or query.pop("dbname", None),
        }.items()
        if value
    }
    connect |= _tls(query)
    if (timeout_s := _number(query, "connect_timeout")) is not None:
        connect["timeout"] = max(2, timeout_s)  # libpq, too, takes no less than two seconds
    if affinity := query.pop("target_session_attrs", None):
        connect["target_session_attrs"] = affinity
    if settings := _server_settings(query):
        connect["server_settings"] = settings
    is_pooled = query.pop("pgbouncer", "").lower() in _YES
    is_pooled |= query.pop("statement_cache_size", None) == "0"
    is_pooled |= query.get("prepared_statement_cache_size") == "0"
    return PostgresTarget(
        connect=connect,
        location=f"{host or 'localhost'}:{port or 5432}/{url.database or ''}",
        is_pooled=is_pooled,
        ignored=tuple(sorted(name for name in query if name not in _HARMLESS)),
    )


def _number(query: dict[str, str], name: str) -> int | None:
    text = query.pop(name, None)
    if text is None:
        return None
    if not text.isdigit():
        raise ValueError(f"{name} must be a whole number")
    return int(text)


def _server_settings(query: dict[str, str]) -> dict[str, str]:
    """What libpq would send to the server with the first packet."""
    settings: dict[str, str] = {name: query.pop(name) for name in ("application_name", "options", "search_path") if name in query}
    if schema := query.pop("schema", None):  # Prisma's word
        settings.setdefault("search_path", schema)
    return settings


def _tls(query: dict[str, str]) -> dict[str, object]:
    """asyncpg's `ssl` argument. `sslmode` is libpq's, `ssl` the word of asyncpg and of JDBC (`ssl=true`).

    Each mode checks what libpq checks. Source: PostgreSQL's manual, "libpq: SSL Support" and `sslrootcert`. Where libpq
    would go on without checking because a file that was named is not there, we refuse.
    """
    mode = query.pop("sslmode", None) or query.pop("ssl", None)
    query.pop("ssl", None)
    root, cert, key = (query.pop(name, None) for name in ("sslrootcert", "sslcert", "sslkey"))
    if mode is None:
        if root != "system":
            return {}
        mode = "verify-full"  # what `system` means by itself
    mode = {"true": "require", "1": "require", "false": "disable", "0": "disable"}.get(mode.lower(), mode.lower())
    if mode not in {*_UNVERIFIED_TLS, *_VERIFYING}:
        raise ValueError(f"sslmode {mode!r} is none of {', '.join([*_UNVERIFIED_TLS, *_VERIFYING])}")
    if root == "system" and mode != "verify-full":
        raise ValueError("sslrootcert=system needs sslmode=verify-full: anybody can get a certificate from a public authority")
    if mode == "disable":
        return {"ssl": False}
    if mode in {"allow", "prefer"}:  # may go on without TLS, so there is nothing that a certificate could be checked for
        if cert is not None:
            raise ValueError("sslcert needs sslmode=require, verify-ca or verify-full")
        return {"ssl": _UNVERIFIED_TLS[mode]}
    if mode == "require" and root is None and cert is None and not _OWN_ROOTS.expanduser().exists():
        return {"ssl": "require"}
    return {"ssl": _context(mode, root, cert, key)}


def _context(mode: str, root: str | None, cert: str | None, key: str | None) -> ssl.SSLContext:
    """Certificates are checked against `sslrootcert`, else against the file that libpq would take, else against the system's."""
    if root is None and _OWN_ROOTS.expanduser().exists():
        root = str(_OWN_ROOTS.expanduser())
    try:
        context = ssl.create_default_context(cafile=None if root in {None, "system"} else root)
        if cert is not None:
            context.load_cert_chain(cert, key)
    except OSError as error:
        raise ValueError("sslrootcert, sslcert or sslkey cannot be read") from error
    context.check_hostname = mode == "verify-full"
    if mode == "require" and root is None:  # with a root certificate it is `verify-ca`, as in libpq
        context.verify_mode = ssl.CERT_NONE
    return context
