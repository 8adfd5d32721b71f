# SPDX-License-Identifier: Apache-2.0
"""Give the package what it should not be given, for a time: ``python -m tests.fuzz --minutes 20``."""

from __future__ import annotations

import argparse
import sys
import time

from aegnn_core.cores import usable_cores
from tests.fuzz.campaign import Campaign, run, run_side_by_side

#: Kinds of inputs, as :data:`tests.fuzz.worker.KINDS` has them.
KINDS = ("decoder inputs", "files", "packets", "live states", "model files", "parameters")


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, print what came of it, and return 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None, help="of the inputs; by default another one every second")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind, several times for several")
    parser.add_argument("--jobs", type=int, default=usable_cores(), help="processes at once, with a seed each")
    parser.add_argument("--batch", type=int, help="only this batch of the one kind, to repeat what was found")
    parsed = parser.parse_args(arguments)
    if parsed.batch is not None and (parsed.kind is None or len(parsed.kind) != 1):
        parser.error("--batch is of one kind: --kind says which")
    if parsed.jobs < 1:
        parser.error(f"--jobs must be at least 1, found {parsed.jobs}")
    seed = int(time.time()) if parsed.seed is None else parsed.seed
    print(f"seed {seed}", flush=True)
    kinds, seconds = parsed.kind or KINDS, 60 * parsed.minutes

    def tell(fault: str) -> None:
        print(f"\n{fault}", flush=True)

    campaign: Campaign
    if parsed.batch is None:
        campaign = run_side_by_side(parsed.jobs, seconds, seed, kinds, tell)
    else:
        campaign = run(seconds, seed, kinds, parsed.batch, tell)
    print(f"\n{campaign}")
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
