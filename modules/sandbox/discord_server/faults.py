"""Faults on request: what goes wrong between the bot and Discord."""

import re
from dataclasses import dataclass
from typing import Self

from modules.sandbox.discord_server.wire import Json


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
    via: bool = True  #: a 429 without a Via header is what Cloudflare sends to the banned

    @classmethod
    def parse(cls, rule: Json) -> Self:
        """Read a rule as the tests send it. Raises `ValueError` for a bad pattern."""
        try:
            pattern = re.compile(rule["route"])
        except re.error as error:
            raise ValueError(f"not a regular expression: {rule['route']}") from error
        return cls(
            pattern=pattern,
            times=int(rule.get("times", 1)),
            status=rule.get("status"),
            retry_after_s=rule.get("retry_after"),
            body=rule.get("body"),
            reset=bool(rule.get("reset")),
            delay_s=float(rule.get("delay_s", 0.0)),
            after=bool(rule.get("after")),
            via=bool(rule.get("via", True)),
        )


class Faults:
    """The rules in force."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []

    def add(self, rule: Json) -> None:
        """Put a rule in force."""
        self._rules.append(Fault.parse(rule))

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        self._rules.clear()

    def take(self, method: str, path: str) -> Fault | None:
        """The rule that strikes this request, counted down; `None` when nothing is to go wrong."""
        for fault in self._rules:
            if fault.times > 0 and fault.pattern.search(f"{method} {path}"):
                fault.times -= 1
                return fault
        return None
