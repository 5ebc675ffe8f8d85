"""What the bot asked for and what it was told: the request log, and everything that was against the rules."""

from collections import deque
from dataclasses import dataclass, field

from modules.sandbox.discord_server.spec import Spec
from modules.sandbox.discord_server.wire import Json

#: Requests kept; older ones leave the log (after they were checked).
KEPT = 20_000


@dataclass(slots=True, kw_only=True)
class Entry:
    """One request of the bot."""

    number: int
    at: str
    method: str
    path: str  #: without /api/v10 and without the query
    route: str  #: the template
    query: dict[str, str]
    body: bytes | None = None  #: the JSON half of the request
    files: list[Json] = field(default_factory=list)
    status: int = 0  #: 0: not answered, the connection was cut
    reply: bytes | None = None

    def shape(self, body: object) -> Json:
        """As `/sandbox/requests` shows it."""
        return {
            "n": self.number,
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "route": self.route,
            "query": self.query,
            "status": self.status,
            "body_json": body,
            "files": self.files,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """Something against Discord's rules, by the bot (`request`, `limit`) or by the stand-in (`reply`)."""

    kind: str
    number: int
    method: str
    path: str
    message: str

    def shape(self) -> Json:
        """As `/sandbox/violations` shows it."""
        return {"kind": self.kind, "n": self.number, "method": self.method, "path": self.path, "message": self.message}


class Journal:
    """Keeps requests as bytes and checks them against the official description only when somebody asks."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.entries: deque[Entry] = deque(maxlen=KEPT)
        self._unchecked: deque[Entry] = deque(maxlen=KEPT)
        self._violations: list[Violation] = []
        self._count = 0

    def open(self, *, at: str, method: str, path: str, route: str, query: dict[str, str]) -> Entry:
        """Begin the record of a request."""
        self._count += 1
        entry = Entry(number=self._count, at=at, method=method, path=path, route=route, query=query)
        self.entries.append(entry)
        return entry

    def close(self, entry: Entry, status: int, reply: bytes | None) -> None:
        """End the record."""
        entry.status = status
        if self.spec.is_on:
            entry.reply = reply
            self._unchecked.append(entry)

    def against_limit(self, entry: Entry, message: str) -> None:
        """Note that the bot broke a documented limit."""
        self._violations.append(
            Violation(kind="limit", number=entry.number, method=entry.method, path=entry.path, message=message)
        )

    def stand_in_failed(self, entry: Entry) -> None:
        """Note a bug of the stand-in itself."""
        message = "the stand-in failed; its log has the traceback"
        self._violations.append(
            Violation(kind="reply", number=entry.number, method=entry.method, path=entry.path, message=message)
        )

    def violations(self) -> list[Violation]:
        """Everything found so far; checks what was not checked yet."""
        while self._unchecked:
            entry = self._unchecked.popleft()
            for kind, message in self.spec.check(entry.method, entry.path, entry.body, entry.status, entry.reply):
                self._violations.append(
                    Violation(kind=kind, number=entry.number, method=entry.method, path=entry.path, message=message)
                )
            entry.reply = None
        return list(self._violations)

    def clear(self) -> None:
        """Forget requests and violations."""
        self.entries.clear()
        self._unchecked.clear()
        self._violations.clear()
