"""How long something on a server should still take, also when it should have been over by now. Pure."""

from __future__ import annotations

#: What somebody else's prompt is taken to need before it was seen to need longer. Nobody knows; our own need seconds.
FOREIGN_PROMPT_S = 10.0


def remaining_s(due_in_s: float) -> float:
    """Seconds that it should still take; `due_in_s` is negative when it is overdue.

    What is overdue is expected to take as long again as it is overdue. So nobody waits for it much longer than they would for
    anything else, and each moment that is told and passes is followed by a later one.
    """
    return abs(due_in_s)


def foreign_s(prompts: int, there_for_s: float) -> float:
    """Seconds until somebody else's prompts should be over that have held the server for `there_for_s` without a break."""
    return max(prompts * FOREIGN_PROMPT_S, there_for_s) if prompts else 0.0
