# SPDX-License-Identifier: Apache-2.0
"""Give the package what it should not be given, for a time: ``python -m tests.fuzz --minutes 20``."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.campaign import run

#: Kinds of inputs, as :data:`tests.fuzz.worker.KINDS` has them.
KINDS = ("decoder inputs", "files", "packets", "live states", "model files", "parameters")


def main(arguments: list[str] | None = None) -> int:
    """Fuzz, print what came of it, and return 1 where something was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--seed", type=int, default=None, help="of the inputs; by default another one every second")
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this kind, several times for several")
    parser.add_argument("--batch", type=int, help="only this batch of the one kind, to repeat what was found")
    parsed = parser.parse_args(arguments)
    if parsed.batch is not None and (parsed.kind is None or len(parsed.kind) != 1):
        parser.error("--batch is of one kind: --kind says which")
    seed = int(time.time()) if parsed.seed is None else parsed.seed
    print(f"seed {seed}", flush=True)
    campaign = run(
        60 * parsed.minutes, seed, parsed.kind or KINDS, parsed.batch, lambda fault: print(f"\n{fault}", flush=True)
    )
    print(f"\n{campaign}")
    return 1 if campaign.faults else 0


if __name__ == "__main__":
    sys.exit(main())
