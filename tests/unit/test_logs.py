"""No secret leaves through a log, whatever it hides in; what is logged otherwise stays readable."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import pytest
import structlog

from modules.utils.logs import configure_logs

TOKEN = "MTIzNDU2Nzg5MDEyMzQ1Njc4.GabcDE.abcdefghijklmnopqrstuvwxyz0123456789AB"
PASSWORD = 'p@ss "w\\örd/1'
FORMS: tuple[Literal["console", "json"], ...] = ("console", "json")


class Holder:
    """An object that shows what it holds."""

    def __init__(self, held: str) -> None:
        self.held = held

    def __repr__(self) -> str:
        return f"<Holder {self.held!r}>"


def chained(secret: str) -> None:
    raise RuntimeError("the second") from ValueError(f"the first: {secret}")


def grouped(secret: str) -> None:
    raise ExceptionGroup("several", [ValueError("well"), ExceptionGroup("inner", [KeyError(secret)])])


def logged_in(secret: str) -> None:
    structlog.get_logger().warning("happened", where=f"text {secret}")


def in_containers(secret: str) -> None:
    structlog.get_logger().warning(
        "happened", params={"a": [{"b": (secret, 1)}]}, keys={secret: 1}, some={secret}, more=[[secret]]
    )


def in_objects(secret: str) -> None:
    structlog.get_logger().warning("happened", error=ValueError(secret), holder=Holder(secret), raw=secret.encode())


def in_a_cause(secret: str) -> None:
    try:
        chained(secret)
    except RuntimeError:
        structlog.get_logger().exception("happened")


def in_a_group(secret: str) -> None:
    try:
        grouped(secret)
    except ExceptionGroup as group:
        structlog.get_logger().error("happened", exc_info=group)


def in_the_context(secret: str) -> None:
    with structlog.contextvars.bound_contextvars(job={"of": secret}):
        structlog.get_logger().warning("happened")


def from_a_library(secret: str) -> None:
    logging.getLogger("sqlalchemy").warning("happened %s %r", secret, {"dsn": secret}, extra={"more": {"in": [secret]}})


def from_a_library_that_failed(secret: str) -> None:
    try:
        chained(secret)
    except RuntimeError:
        logging.getLogger("discord").exception("happened")


WAYS = [logged_in, in_containers, in_objects, in_a_cause, in_a_group, in_the_context, from_a_library, from_a_library_that_failed]


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("secret", [TOKEN, f"postgresql://fullet:{'s3cret-of-it'}@db/x", "Bearer abcdefgh12345678"])
def test_what_looks_like_a_secret_never_leaves(
    way: Callable[[str], None], secret: str, form: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("INFO", form)
    way(secret)
    said = capsys.readouterr().err
    assert "happened" in said
    assert "***" in said
    for part in (TOKEN, "s3cret-of-it", "abcdefgh12345678"):
        assert part not in said


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_a_known_secret_never_leaves_however_it_is_written(
    way: Callable[[str], None], form: Literal["console", "json"], capsys: pytest.CaptureFixture[str]
) -> None:
    configure_logs("INFO", form, [PASSWORD])
    way(PASSWORD)
    way("p%40ss%20%22w%5C%C3%B6rd/1")
    said = capsys.readouterr().err
    assert said.count("happened") == 2
    for part in ("rd/1", "p@ss", "p%40ss"):
        assert part not in said


def test_a_line_of_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "json", [PASSWORD])
    structlog.get_logger().warning("happened", a="see http://x", b="c:d@e", c={"deep": [PASSWORD, TOKEN]}, d="plain")
    line = json.loads(capsys.readouterr().err)
    assert line["a"] == "see http://x"
    assert line["b"] == "c:d@e"
    assert line["c"] == {"deep": ["***", "***"]}
    assert line["d"] == "plain"


def test_a_short_word_is_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    """An empty or trivial setting must not blank half of every line."""
    configure_logs("INFO", "json", ["", "in", "abc"])
    structlog.get_logger().warning("happened", text="in abc")
    assert json.loads(capsys.readouterr().err)["text"] == "in abc"


def test_the_header_that_a_known_password_becomes_is_blanked(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs("INFO", "console", ["user:s3cret-of-it"])
    header = base64.b64encode(b"user:s3cret-of-it").decode()
    structlog.get_logger().warning("happened", headers={"Authorization": f"Basic {header}"})
    assert header not in capsys.readouterr().err
