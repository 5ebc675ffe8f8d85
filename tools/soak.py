"""`make soak`: the long proofs. The crash checker over every pair of troubles, and a storm of 200 kills over the real program.

Hours, not minutes. Exit code 1 when anything was lost, sent twice, sent to somebody else or drawn needlessly.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.support.chaos import Storm, ride_out
from tests.support.world import checker

#: Mean time between two kills, beside the start after each: no life is long.
KILL_EVERY_S = 4.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The long proofs.")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=9_000, help="enough that the last kill still finds some under way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--every", type=int, default=1, help="only every n-th pair of the crash checker; 0 leaves it out")
    options = parser.parse_args(arguments)
    failed = 0
    if options.every:
        print("crash checker", flush=True)
        failed += checker.main(["--every", str(options.every)])
    print(f"storm of {options.kills} kills over {options.jobs} jobs, seed {options.seed}", flush=True)
    storm = Storm(seed=options.seed, jobs=options.jobs, kills=options.kills, kill_every_s=KILL_EVERY_S, calm_within_s=600.0)
    with tempfile.TemporaryDirectory(prefix="fullet-soak-") as folder:
        toll = asyncio.run(ride_out(Path(folder), storm))
    print(toll)
    for wrong in toll.wrongs:
        print(f"  {wrong}")
    return 1 if failed or toll.wrongs else 0


if __name__ == "__main__":
    sys.exit(main())
