"""Faults on request: what goes wrong between the bot and Discord."""

import json
import re
from dataclasses import dataclass
from typing import Self

from modules.sandbox.discord_server.wire import Code, Json


@dataclass(slots=True, kw_only=True)
class Fault:
    """One rule: what happens to the next `times` requests whose "METHOD /path" matches."""

    pattern: re.Pattern[str]
    times: int = 1
    status: int | None = None
    retry_after_s: float | None = None
    body: Json | str | None = None  #: text is sent as HTML, as proxies in front of Discord do
    reset: bool = False  #: cut the TCP connection
    delay_s: float = 0.0
    after: bool = False  #: do the work first: only the answer is lost
    containing: re.Pattern[str] | None = None  #: only requests whose JSON says this
    via: bool = True  #: a 429 without a Via header is what Cloudflare sends to the banned

    @classmethod
    def parse(cls, rule: Json) -> Self:
        """Read a rule as the tests send it; `code` stands for that error of Discord's, with its own status and words.

        Raises `ValueError` for a bad pattern or a code the stand-in does not know.
        """
        pattern = _pattern(rule["route"])
        containing = _pattern(rule["containing"]) if rule.get("containing") else None
        if "code" in rule:
            rule = _with_code(rule)
        return cls(
            pattern=pattern,
            containing=containing,
            times=int(rule.get("times", 1)),
            status=rule.get("status"),
            retry_after_s=rule.get("retry_after"),
            body=rule.get("body"),
            reset=bool(rule.get("reset")),
            delay_s=float(rule.get("delay_s", 0.0)),
            after=bool(rule.get("after")),
            via=bool(rule.get("via", True)),
        )

    def concerns(self, body: bytes) -> bool:
        """Whether the request's JSON says what the rule is about; every body does for a rule without `containing`."""
        return self.containing is None or self.containing.search(_plain(body)) is not None


def _with_code(rule: Json) -> Json:
    known = next((code for code in Code if code.value[1] == int(rule["code"])), None)
    if known is None:
        raise ValueError(f"no such error code: {rule['code']}")
    status, code, message = known.value
    body: Json = {"message": message, "code": code}
    if status == 429:
        body |= {"retry_after": float(rule.get("retry_after", 1.0)), "global": False}
    return {"status": status, "body": body} | rule


def _plain(body: bytes) -> str:
    """The JSON of a request with its characters as they are, however the sender escaped them."""
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except ValueError:
        return body.decode("utf-8", "replace")


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self.lost_answers: set[str] = set()  #: "METHOD /path" of requests that were done and whose answer was lost

    def add(self, rule: Json) -> None:
        """Put a rule in force."""
        self._rules.append(Fault.parse(rule))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._rules.clear()

    def take(self, method: str, path: str, body: bytes = b"") -> Fault | None:
        """The rule that strikes this request, counted down; `None` when nothing is to go wrong."""
        for fault in self._rules:
            if fault.times > 0 and fault.pattern.search(f"{method} {path}") and fault.concerns(body):
                fault.times -= 1
                return fault
        return None


def _pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise ValueError(f"not a regular expression: {text}") from error
