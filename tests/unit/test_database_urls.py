"""DATABASE_URL in every form that providers print."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest

from modules.utils.database.urls import PostgresTarget, SqliteTarget, read_database_url

HERE = Path("/srv/fullet/database")


def postgres(url: str) -> PostgresTarget:
    target = read_database_url(url, HERE)
    assert isinstance(target, PostgresTarget)
    return target


@pytest.mark.parametrize("nothing", [None, "", "  ", "''"])
def test_no_url_means_the_file_in_the_data_folder(nothing: str | None) -> None:
    assert read_database_url(nothing, HERE) == SqliteTarget(path=HERE / "bot_data.db")


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///bot.db", "bot.db"),
        ("sqlite:////var/lib/fullet/bot.db", "/var/lib/fullet/bot.db"),
        ("sqlite+aiosqlite:///database/bot_data.db", "database/bot_data.db"),
        ("sqlite+pysqlite:////x/y z.db", "/x/y z.db"),
        ("sqlite:///file:/x/y.db?uri=true", "/x/y.db"),
        ("database/bot_data.db", "database/bot_data.db"),
        ('"sqlite:////quoted.db"', "/quoted.db"),
    ],
)
def test_every_way_to_name_a_file(url: str, path: str) -> None:
    target = read_database_url(url, HERE)
    assert isinstance(target, SqliteTarget)
    assert target.path == Path(path)


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"])
def test_a_queue_in_memory_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="lose every job"):
        read_database_url(url, HERE)


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "postgresql+psycopg", "POSTGRES"]
)
def test_every_scheme_of_postgresql(scheme: str) -> None:
    target = postgres(f"{scheme}://ana:p%40ss%2Fw%23rd@db.example.org:6543/fullet")
    assert target.connect == {
        "host": "db.example.org",
        "port": 6543,
        "user": "ana",
        "password": "p@ss/w#rd",
        "database": "fullet",
    }
    assert target.location == "db.example.org:6543/fullet"
    assert target.ignored == ()


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("sslmode=require", "require"),
        ("ssl=require", "require"),
        ("ssl=true", "require"),
        ("sslmode=prefer", "prefer"),
        ("sslmode=disable", False),
        ("ssl=false", False),
    ],
)
def test_tls_without_verification(query: str, asked: str | bool) -> None:
    assert postgres(f"postgres://u@h/d?{query}").connect["ssl"] == asked


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A certificate that signs itself."""
    made = tmp_path / "root.crt"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-subj",
        "/CN=us",
    ]
    subprocess.run([*command, "-keyout", str(tmp_path / "key"), "-out", str(made)], check=True, capture_output=True)
    return made


@pytest.mark.parametrize(
    ("query", "checks_name"),
    [
        ("sslmode=require&sslrootcert={root}", False),  # libpq: as verify-ca where there is a root certificate
        ("ssl=true&sslrootcert={root}", False),
        ("sslmode=verify-ca&sslrootcert={root}", False),
        ("sslmode=verify-ca", False),
        ("sslmode=verify-full&sslrootcert={root}", True),
        ("sslmode=verify-full&sslrootcert=system", True),
        ("sslrootcert=system", True),  # libpq: `system` makes verify-full the default
    ],
)
def test_tls_with_verification(query: str, checks_name: bool, root: Path) -> None:
    context = postgres(f"postgres://u@h/d?{query.format(root=root)}").connect["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, checks_name)


def test_certificates_are_of_no_use_without_tls(root: Path) -> None:
    assert postgres(f"postgres://u@h/d?sslmode=disable&sslcert={root}&sslkey={root}").connect["ssl"] is False
    assert postgres(f"postgres://u@h/d?sslmode=prefer&sslrootcert={root}").connect["ssl"] == "prefer"
    assert "ssl" not in postgres(f"postgres://u@h/d?sslrootcert={root}").connect


def test_the_home_folders_root_certificate_counts_as_in_libpq(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert postgres("postgres://u@h/d?sslmode=require").connect["ssl"] == "require"
    (tmp_path / ".postgresql").mkdir()
    root.rename(tmp_path / ".postgresql" / "root.crt")
    context = postgres("postgres://u@h/d?sslmode=require").connect["ssl"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_what_neon_prints() -> None:
    url = "postgresql://u:p@ep-x-pooler.eu.aws.neon.tech/db?sslmode=require&channel_binding=require&options=endpoint%3Dep-x"
    target = postgres(url)
    assert target.connect["ssl"] == "require"
    assert target.connect["server_settings"] == {"options": "endpoint=ep-x"}
    assert target.ignored == ()


@pytest.mark.parametrize("query", ["pgbouncer=true", "statement_cache_size=0", "prepared_statement_cache_size=0"])
def test_a_pooler_is_believed_when_named(query: str) -> None:
    assert postgres(f"postgres://u@h/d?{query}").is_pooled
    assert not postgres("postgres://u@h/d").is_pooled


def test_a_socket_folder_as_host() -> None:
    target = postgres("postgresql:///fullet?host=/var/run/postgresql&user=bot")
    assert target.connect == {"host": "/var/run/postgresql", "user": "bot", "database": "fullet"}


def test_time_and_names_for_the_server() -> None:
    connect = postgres("postgres://u@h/d?connect_timeout=1&application_name=fullet&schema=bots&target_session_attrs=read-write")
    assert connect.connect["timeout"] == 2
    assert connect.connect["server_settings"] == {"application_name": "fullet", "search_path": "bots"}
    assert connect.connect["target_session_attrs"] == "read-write"


def test_parameters_nobody_knows_are_told() -> None:
    assert postgres("postgres://u@h/d?supa=base&gssencmode=disable&zzz=1").ignored == ("supa", "zzz")


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("mysql://u:hunter2@h/d", "mysql"),
        ("postgres://u:hunter2@h:port/d", "no URL"),
        ("postgres://u:hunter2@h/d?sslmode=maybe", "sslmode"),
        ("postgres://u:hunter2@h/d?connect_timeout=soon", "connect_timeout"),
        ("postgres://u:hunter2@h/d?sslmode=verify-full&sslrootcert=/nowhere.pem", "sslrootcert"),
        ("postgres://u:hunter2@h/d?sslmode=require&sslrootcert=/nowhere.pem", "sslrootcert"),
        ("postgres://u:hunter2@h/d?sslmode=require&sslrootcert=system", "verify-full"),
        ("postgres://u:hunter2@h/d?sslmode=verify-ca&sslrootcert=system", "verify-full"),
        ("postgres://u:hunter2@h/d?sslmode=prefer&sslcert=/x", "sslcert"),
    ],
)
def test_a_wrong_url_is_explained_without_its_password(url: str, what: str) -> None:
    with pytest.raises(ValueError, match=what) as wrong:
        read_database_url(url, HERE)
    assert "hunter2" not in str(wrong.value)


def test_a_target_never_shows_its_password() -> None:
    assert "hunter2" not in repr(postgres("postgres://u:hunter2@h/d"))
