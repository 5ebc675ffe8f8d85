"""Discord's rate limits, as its headers tell them.

Discord publishes the mechanism, not the numbers ("Rate Limits" in the developer docs); those here are the ones its headers
carry in practice. Switched off, the headers are still there but generous, so that discord.py does not queue by itself.
"""

import hashlib
import time
from dataclasses import dataclass, field

from modules.sandbox.discord_server.wire import Json

#: Requests a second over all routes. Source: developer docs, "Global Rate Limit".
GLOBAL_PER_S = 50
#: Name and topic of one channel: two changes in ten minutes. Source: developer docs changelog and error reports.
RENAMES = 2
RENAME_WINDOW_S = 10 * 60.0


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many requests in so many seconds."""

    requests: int
    window_s: float


#: By method and route template; everything else has `OTHER`.
ALLOWANCES = {
    "POST /channels/{channel_id}/messages": Allowance(5, 5.0),
    "PATCH /channels/{channel_id}/messages/{message_id}": Allowance(5, 5.0),
    "DELETE /channels/{channel_id}/messages/{message_id}": Allowance(5, 1.0),
    "GET /channels/{channel_id}/messages": Allowance(5, 5.0),
    "POST /channels/{channel_id}/typing": Allowance(5, 5.0),
    "PUT /channels/{channel_id}/messages/{message_id}/reactions/{emoji}/@me": Allowance(1, 0.25),
    "POST /webhooks/{webhook_id}/{webhook_token}": Allowance(5, 2.0),
    "PATCH /webhooks/{webhook_id}/{webhook_token}/messages/{message_id}": Allowance(5, 2.0),
    "POST /guilds/{guild_id}/channels": Allowance(50, 10.0),
    "PUT /applications/{application_id}/commands": Allowance(2, 60.0),
    "PUT /applications/{application_id}/guilds/{guild_id}/commands": Allowance(2, 60.0),
}
OTHER = Allowance(50, 1.0)
GENEROUS = Allowance(10_000, 1.0)
#: Answers to interactions are outside every limit. Source: developer docs, "Receiving and Responding".
FREE = frozenset({"POST /interactions/{interaction_id}/{interaction_token}/callback"})
#: Path parameters that split a bucket. Source: developer docs, "Rate Limits", top-level resources.
MAJOR = ("channel_id", "guild_id", "webhook_id", "webhook_token")


@dataclass(slots=True)
class _Bucket:
    allowance: Allowance
    opened_at: float = 0.0
    used: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a request may pass, and the headers that go with the answer."""

    headers: dict[str, str] = field(default_factory=dict)
    body: Json | None = None  #: set: answer 429 with this


class RateLimits:
    """Counts requests by bucket."""

    def __init__(self, *, enforced: bool) -> None:
        self.enforced = enforced
        self._buckets: dict[str, _Bucket] = {}
        self._global = _Bucket(Allowance(GLOBAL_PER_S, 1.0))
        self._renames: dict[int, list[float]] = {}

    def admit(self, route: str, params: dict[str, str]) -> Verdict:
        """Count one request to `route` ("METHOD /template")."""
        if route in FREE:
            return Verdict()
        allowance = ALLOWANCES.get(route, OTHER) if self.enforced else GENEROUS
        name = hashlib.sha256(route.encode()).hexdigest()[:32]
        key = ":".join([name, *(params[m] for m in MAJOR if m in params)])
        bucket = self._buckets.setdefault(key, _Bucket(allowance))
        now = time.monotonic()
        if self.enforced and "webhook_token" not in params and (wait_s := _spend(self._global, now)) is not None:
            return _refusal(wait_s, {"X-RateLimit-Global": "true", "X-RateLimit-Scope": "global"}, is_global=True)
        wait_s = _spend(bucket, now)
        headers = _headers(bucket, name, now)
        if wait_s is not None:
            return _refusal(wait_s, headers | {"X-RateLimit-Scope": "user"}, is_global=False)
        return Verdict(headers=headers)

    def rename(self, channel_id: int, now: float) -> float | None:
        """Count a change of a channel's name or topic; the seconds to wait when it is one too many."""
        recent = [at for at in self._renames.get(channel_id, []) if now - at < RENAME_WINDOW_S]
        if len(recent) >= RENAMES:
            return RENAME_WINDOW_S - (now - recent[0])
        self._renames[channel_id] = [*recent, now]
        return None


def _spend(bucket: _Bucket, now: float) -> float | None:
    """Take one request out of a bucket; the seconds until the next one when it is empty."""
    if now - bucket.opened_at >= bucket.allowance.window_s:
        bucket.opened_at, bucket.used = now, 0
    if bucket.used >= bucket.allowance.requests:
        return bucket.opened_at + bucket.allowance.window_s - now
    bucket.used += 1
    return None


def _headers(bucket: _Bucket, name: str, now: float) -> dict[str, str]:
    reset_after = max(bucket.opened_at + bucket.allowance.window_s - now, 0.0)
    return {
        "X-RateLimit-Limit": str(bucket.allowance.requests),
        "X-RateLimit-Remaining": str(bucket.allowance.requests - bucket.used),
        "X-RateLimit-Reset": f"{time.time() + reset_after:.3f}",
        "X-RateLimit-Reset-After": f"{reset_after:.3f}",
        "X-RateLimit-Bucket": name,
    }


def _refusal(wait_s: float, headers: dict[str, str], *, is_global: bool) -> Verdict:
    return Verdict(headers=too_many_headers(wait_s) | headers, body=too_many_body(wait_s, is_global=is_global))


def too_many_body(wait_s: float, *, is_global: bool = False) -> Json:
    """The body of a 429."""
    return {"message": "You are being rate limited.", "retry_after": round(wait_s, 3), "global": is_global}


def too_many_headers(wait_s: float) -> dict[str, str]:
    """The headers of every 429 that comes from Discord itself; one without Via comes from Cloudflare."""
    return {"Via": "1.1 google", "Retry-After": str(max(1, round(wait_s)))}
