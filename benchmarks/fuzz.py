"""Knocks at every door with bent bytes, for as long as it is told.

    python benchmarks/fuzz.py --minutes 10                # processor minutes, shared by all doors
    python benchmarks/fuzz.py --minutes 2 --door plan     # one door

Hypothesis draws and shrinks; a finding is written, as small as it gets, into `tests/corpus/DOOR`, where `make test`
tries it from then on. Bytes are bent by rules (`tests/doors.py`), not by what they reach in the code.
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

from doors import CORPUS, DOORS, Door, bent, knock

EXAMPLES = 100
"""Between two looks at the clock."""


class Tally:
    """What came of a door's examples."""

    def __init__(self) -> None:
        self.tried = self.let_in = 0
        self.last = b""

    def __str__(self) -> str:
        return f"{self.tried:,} tried, {self.let_in:,} let in, {self.tried - self.let_in:,} refused"


def fuzz(door: Door, seconds: float, folder: Path, start: int) -> tuple[Tally, BaseException | None]:
    """Knocks for so many processor seconds, or until something is found."""
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
            tally.last = data.draw(bent(door))
            tally.tried += 1
            tally.let_in += knock(door, folder, tally.last)

        try:
            once()
        except Exception as problem:
            return tally, problem
    return tally, None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="processor minutes in all (default 10)")
    parser.add_argument("--door", choices=list(DOORS), action="append", help="only this one; may be given again")
    parser.add_argument("--seed", type=int, default=0, help="another seed draws other bytes (default 0)")
    options = parser.parse_args()
    names = options.door or list(DOORS)
    findings = 0
    with tempfile.TemporaryDirectory(prefix="reid-fuzz-") as folder:
        for name in names:
            started = time.process_time()
            seconds = 60 * options.minutes / len(names)
            tally, problem = fuzz(DOORS[name], seconds, Path(folder) / "room", 1_000_000 * options.seed)
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
