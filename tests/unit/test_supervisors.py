"""What starts the bot again must not use up the day's sessions at Discord: 1,000 IDENTIFYs reset the token."""

from __future__ import annotations

import configparser
import re
from pathlib import Path

DEPLOY = Path(__file__).parents[2] / "deploy"
#: Source: Discord developer documentation, "Gateway", "Identifying".
SESSIONS_A_DAY = 1_000
DAY_S = 24 * 3600


def test_systemd_starts_it_less_than_a_thousand_times_a_day() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign] # the documented way to keep capitals
    unit.read(DEPLOY / "fullet.service")
    assert unit["Unit"]["StartLimitIntervalSec"] == "1d"
    assert int(unit["Unit"]["StartLimitBurst"]) < SESSIONS_A_DAY
    first_s, steps, longest_s = (int(unit["Service"][name]) for name in ("RestartSec", "RestartSteps", "RestartMaxDelaySec"))
    # Source: systemd.service(5), RestartSteps: from RestartSec to RestartMaxDelaySec in so many steps, exponentially.
    growing_s = sum(first_s * (longest_s / first_s) ** (step / steps) for step in range(steps))
    assert steps + (DAY_S - growing_s) / longest_s < SESSIONS_A_DAY
    assert unit["Service"]["RestartPreventExitStatus"] == "2"


def test_pm2_gives_up_after_a_hundred_short_lives() -> None:
    text = (DEPLOY / "ecosystem.config.js").read_text()
    options = {name: int(value) for name, value in re.findall(r"(\w+): (\d+),", text)}
    assert options["exp_backoff_restart_delay"] >= 5_000
    assert options["max_restarts"] < SESSIONS_A_DAY
    # pm2 counts short lives only within min_uptime x max_restarts of the first start: that many must fit into it.
    assert options["min_uptime"] >= 15_000
    assert "restart_delay" not in options


def test_docker_gives_up_after_a_hundred_failures() -> None:
    for name in ("compose.yaml", "compose.postgres.yaml"):
        policies = re.findall(r"^ *restart: (.+)$", (DEPLOY / name).read_text(), flags=re.MULTILINE)
        assert len(policies) == 1  # of the three services of the second file, which share it
        assert re.fullmatch(r"on-failure:\d{1,3}", policies[0])
