"""`make bench-scheduler`: four policies over the same community, and the gates that ours must pass (exit code 1 if not)."""

from __future__ import annotations

import statistics
import sys
import time
from uuid import UUID

from modules.domain.jobs import JobId, ServerName
from modules.domain.people import UserId
from modules.domain.queue import Account, QueueSnapshot, WaitingJob
from modules.queue_manager.scheduler import Line, Policy, ServerView
from tools.simulation import MODELS, POLICIES, RATES, Community, Outcome, Simulation, mean_of, ours

SEEDS = (1, 2, 3)
HOURS = 4.0


def main() -> int:
    """Print the tables; 0 when every gate holds."""
    print(f"60 people x 2 jobs, 2 fast GPUs and a slow one, three models, {HOURS:g} h of virtual time, seeds {SEEDS}\n")
    runs = {
        name: [Simulation(policy, Community(), seed=seed, hours=HOURS).run() for seed in SEEDS]
        for name, policy in POLICIES.items()
    }
    _print_policies(runs)
    mine = runs["this scheduler"]
    gates = [
        ("GPU busy share", mean_of(mine, lambda run: run.busy), ">=", 0.99),
        ("share of the bound", mean_of(mine, lambda run: run.of_bound), ">=", 0.95),
        ("switches per 100 jobs", mean_of(mine, lambda run: run.switches_per_100), "<=", 1.5),
        ("Jain index", mean_of(mine, lambda run: run.jain), ">=", 0.999),
        ("spread / c_max (exact bound 2)", max(run.spread for run in mine), "<=", 2.0 + 1e-9),
        ("p95 wait, rounds", mean_of(mine, lambda run: run.rounds(0.95)), "<=", 3.6),
        ("longest wait, rounds", max(run.rounds(1.0) for run in mine), "<=", 6.0),
        ("polite p95 with 5 flooders / without", _flood_ratio(), "<=", 1.5),
        *_decision_gates(),
        *_eta_gates(),
    ]
    return _print_gates(gates)


def _print_policies(runs: dict[str, list[Outcome]]) -> None:
    print(
        f"{'policy':26}{'GPU busy':>9}{'switches/100':>14}{'of bound':>10}{'Jain':>8}{'p95 rounds':>12}{'max':>7}{'spread/c':>10}"
    )
    for name, outcomes in runs.items():
        print(
            f"{name:26}{mean_of(outcomes, lambda run: run.busy):9.3f}{mean_of(outcomes, lambda run: run.switches_per_100):14.2f}"
            f"{mean_of(outcomes, lambda run: run.of_bound):10.3f}{mean_of(outcomes, lambda run: run.jain):8.4f}"
            f"{mean_of(outcomes, lambda run: run.rounds(0.95)):12.2f}{max(run.rounds(1.0) for run in outcomes):7.1f}"
            f"{max(run.spread for run in outcomes):10.2f}"
        )
    print()


def _flood_ratio() -> float:
    """Five of sixty people keep twenty jobs in the queue; what does that cost the others?"""
    ratios = []
    for seed in SEEDS:
        calm = Simulation(ours, Community(), seed=seed, hours=HOURS / 2).run()
        flooded = Simulation(ours, Community(flooders=5, flood_jobs=20), seed=seed, hours=HOURS / 2).run()
        polite = [UserId(index) for index in range(6, 61)]
        ratios.append(_p95_s(flooded, polite) / _p95_s(calm, polite))
    return statistics.fmean(ratios)


def _p95_s(outcome: Outcome, people: list[UserId]) -> float:
    waits = sorted(wait for user in people for wait in outcome.waits[user])
    return waits[int(0.95 * len(waits))]


def _decision_gates() -> list[tuple[str, float, str, float]]:
    """Milliseconds of processor time (other programs' share of the machine does not count) of one decision with 1,000 people
    waiting, two jobs each."""
    names = list(MODELS)
    jobs = tuple(
        WaitingJob(
            id=JobId(UUID(int=index)),
            user_id=UserId(index % 1_000),
            seq=index,
            exact_key=names[index % 3],
            heavy_key=names[index % 3],
            cost_s=MODELS[names[index % 3]][0],
            rows=1,
        )
        for index in range(2_000)
    )
    accounts = {UserId(user): Account(user_id=UserId(user), vt=user % 7) for user in range(1_000)}
    snapshot = QueueSnapshot(jobs=jobs, accounts=accounts)
    line, times_ms = Line(snapshot, Policy()), list[float]()
    views = [ServerView(name=ServerName(name), loaded=names[0]) for name in ("fast-1", "fast-2", "slow")]
    while len(times_ms) < 400:
        if line.is_empty:
            line = Line(snapshot, Policy())
        started = time.thread_time()
        line.pick(views[0], views[1:], RATES)
        times_ms.append((time.thread_time() - started) * 1_000)
    return [("decision among 1,000 people, p99 ms", sorted(times_ms)[int(0.99 * len(times_ms))], "<=", 1.0)]


def _eta_gates() -> list[tuple[str, float, str, float]]:
    saturated = Simulation(ours, Community(), seed=1, hours=2, with_forecasts=True).run()
    light = Simulation(ours, Community(people=20, jobs_each=1, think_s=120), seed=1, hours=4, with_forecasts=True).run()
    print(f"{'expected moment':26}{'forecasts':>10}{'median error':>14}{'there by the 9-in-10 moment':>30}")
    for name, outcome in (("saturated", saturated), ("light", light)):
        print(f"{name:26}{len(outcome.forecasts):10}{_median_error(outcome):14.3f}{_coverage(outcome):30.3f}")
    print()
    return [
        ("ETA median error, saturated", _median_error(saturated), "<=", 0.18),
        ("ETA median error, light", _median_error(light), "<=", 0.09),
        ("ETA 9-in-10 coverage, saturated, low", _coverage(saturated), ">=", 0.87),
        ("ETA 9-in-10 coverage, saturated, high", _coverage(saturated), "<=", 0.93),
        ("ETA 9-in-10 coverage, light, low", _coverage(light), ">=", 0.87),
        ("ETA 9-in-10 coverage, light, high", _coverage(light), "<=", 0.93),
    ]


def _median_error(outcome: Outcome) -> float:
    return statistics.median(abs(actual - likely) / actual for likely, _, actual in outcome.forecasts)


def _coverage(outcome: Outcome) -> float:
    return statistics.fmean(actual <= safe for _, safe, actual in outcome.forecasts)


def _print_gates(gates: list[tuple[str, float, str, float]]) -> int:
    failed = 0
    for name, value, sign, bound in gates:
        holds = value >= bound if sign == ">=" else value <= bound
        failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'}  {name:42}{value:9.3f}  {sign} {bound:.3f}")
    print(f"\n{len(gates) - failed} gates hold, {failed} do not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
