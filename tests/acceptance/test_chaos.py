"""The whole program in a storm: nothing lost, nothing twice, nothing to the wrong person. The long one: `make soak`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.chaos import Storm, ride_out


@pytest.mark.timeout(400)
async def test_three_hundred_jobs_come_through_kills_crashes_and_a_failing_discord(tmp_path: Path) -> None:
    toll = await ride_out(tmp_path, Storm(seed=1))
    print(toll, *toll.wrongs, sep="\n")
    assert toll.wrongs == []
    assert toll.kills == 7
    assert toll.accepted >= 300
    assert toll.states["undeliverable"] == 0, "what Cloudflare says is nothing about a channel"
    assert toll.states["delivered"] >= 0.95 * toll.accepted, "honest failures must stay rare"
