"""What happened, for tests and benchmarks: every request and the life of every prompt."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import asdict, dataclass, field

#: Enough for the longest benchmark; the oldest entries go first.
KEPT = 200_000


@dataclass(slots=True)
class RequestLine:
    t: float  #: seconds since the epoch
    method: str
    path: str
    status: int | None
    seconds: float
    fault: str | None = None


@dataclass(slots=True, kw_only=True)
class PromptLife:
    """One run of one prompt; instants in seconds since the epoch, durations in seconds of the wall clock."""

    prompt_id: str
    number: float
    client_id: str | None
    posted: float
    started: float | None = None
    ended: float | None = None
    status: str = "pending"  #: pending, running, success, error, interrupted, deleted, lost
    form: str = "none"  #: none (no sampler), solo, batched (one pass, many slots), stacked (many passes)
    rows: int = 0  #: pictures sampled
    passes: int = 0  #: sampler passes that ran
    switch_seconds: float = 0.0  #: spent loading weights
    cached_nodes: int = 0
    ran_nodes: int = 0
    models: list[str] = field(default_factory=list)
    images: list[dict[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class Journal:
    requests: deque[RequestLine] = field(default_factory=lambda: deque(maxlen=KEPT))
    prompts: deque[PromptLife] = field(default_factory=lambda: deque(maxlen=KEPT))
    boots: list[float] = field(default_factory=list)

    def posted(self, prompt_id: str, number: float, client_id: str | None) -> PromptLife:
        life = PromptLife(prompt_id=prompt_id, number=number, client_id=client_id, posted=time.time())
        self.prompts.append(life)
        return life

    def waiting(self, prompt_id: str, number: float) -> PromptLife | None:
        return next((life for life in reversed(self.prompts) if life.prompt_id == prompt_id and life.number == number), None)

    def lose_unfinished(self) -> None:
        """After a crash: what was pending or running will never be heard of again."""
        for life in self.prompts:
            if life.ended is None and life.status in ("pending", "running"):
                life.status, life.ended = "lost", time.time()

    def busy_seconds(self) -> float:
        now = time.time()
        return sum((life.ended or now) - life.started for life in self.prompts if life.started is not None)

    def as_json(self) -> dict[str, object]:
        return {
            "boots": self.boots,
            "busy_seconds": self.busy_seconds(),
            "requests": [asdict(line) for line in self.requests],
            "prompts": [asdict(life) for life in self.prompts],
        }

    def clear(self) -> None:
        self.requests.clear()
        self.prompts.clear()
