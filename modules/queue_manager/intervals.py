"""How long the workers wait for what. One value object, so that a test may shorten it; the program uses it as it stands."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Seconds. The reasons stand in docs/durability.md and docs/scheduling.md."""

    #: Wake-ups may be lost (a pooler breaks PostgreSQL's LISTEN): this often a worker looks by itself.
    poll_s: float = 1.0
    #: The next batch is posted this long before the running one should end, so that ComfyUI never waits for us.
    lead_s: float = 2.0

    #: Between the two looks at a server that does not know an attempt (any more).
    look_again_s: float = 5.0
    #: Before a picture that was missing or cut is fetched again; doubled each time.
    fetch_again_s: float = 0.5
    #: No sign of life for this long while sampling counts as hung, however slow the model.
    silence_s: float = 90.0
    #: How long a cancelled prompt may take to stop before the server counts as stuck, and how often we look.
    stopping_s: float = 30.0
    stopping_poll_s: float = 0.5

    #: An idle server is asked this often whether it is still there, so that its loss is known before somebody needs it.
    heartbeat_s: float = 15.0

    #: A dead process's server is free for others after this long; the lease is renewed three times in between.
    lease_life_s: float = 15.0
    lease_renewal_s: float = 5.0
    #: A server away for longer than this gives its jobs to others, where others can run them.
    rehome_after_s: float = 60.0
    #: At the end: how long a batch that only waits on its server may take to come back to the queue.
    farewell_s: float = 5.0
