"""Reads mutated bytes with every fuzz target, for as long as it is told.

    python benchmarks/fuzz.py --minutes 10                  # processor minutes, shared by all targets
    python benchmarks/fuzz.py --minutes 2 --target plan     # one target

Hypothesis draws and shrinks; a finding is written, as small as it gets, into `tests/corpus/TARGET`, where `make test`
tries it from then on. Bytes are mutated by rules (`tests/fuzz_targets.py`), not by what they reach in the code.
"""

import argparse
import hashlib
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from fuzz_targets import CORPUS, TARGETS, FuzzTarget, mutated, run_target

EXAMPLES = 100
"""Between two looks at the clock."""


class Tally:
    """What came of a target's examples."""

    def __init__(self) -> None:
        self.tried = self.accepted = 0
        self.last = b""

    def __str__(self) -> str:
        return f"{self.tried:,} tried, {self.accepted:,} accepted, {self.tried - self.accepted:,} refused"


def fuzz(target: FuzzTarget, seconds: float, folder: Path, start: int) -> tuple[Tally, BaseException | None]:
    """Runs a target for so many processor seconds, or until something is found."""
    tally = Tally()
    until = time.process_time() + seconds
    while time.process_time() < until:
        start += 1

        @seed(start)
        @settings(
            max_examples=EXAMPLES,
            database=None,
            deadline=None,
            phases=(Phase.generate, Phase.shrink),
            suppress_health_check=list(HealthCheck),
            verbosity=Verbosity.quiet,
        )
        @given(data=st.data())
        def once(data: st.DataObject) -> None:
            tally.last = data.draw(mutated(target))
            tally.tried += 1
            tally.accepted += run_target(target, folder, tally.last)

        try:
            once()
        except Exception as problem:
            return tally, problem
    return tally, None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="processor minutes in all (default 10)")
    parser.add_argument("--target", choices=list(TARGETS), action="append", help="only this one; may be given again")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other bytes (default 0)")
    options = parser.parse_args()
    names = options.target or list(TARGETS)
    findings = 0
    with tempfile.TemporaryDirectory(prefix="reid-fuzz-") as folder:
        for name in names:
            started = time.process_time()
            seconds = 60 * options.minutes / len(names)
            tally, problem = fuzz(TARGETS[name], seconds, Path(folder) / "target", 1_000_000 * options.seed)
            print(f"{name:12} {tally} in {time.process_time() - started:.0f} s", flush=True)
            if problem is not None:
                findings += 1
                kept = CORPUS / name / f"{hashlib.sha256(tally.last).hexdigest()[:12]}.bin"
                kept.parent.mkdir(parents=True, exist_ok=True)
                kept.write_bytes(tally.last)
                traceback.print_exception(problem)
                print(f"found: {kept}", flush=True)
    print(f"{findings} findings in {time.process_time() / 60:.1f} processor minutes")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
