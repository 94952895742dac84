"""Measures the kit against its peers, case by case, in one process and in turns.

    pip install -e '.[bench]'
    python benchmarks/run.py                  # every case
    python benchmarks/run.py search --quick   # one case, small sizes

The tables are printed as they are measured; they lie as CSV, with a plot each, in `--out`. `--publish` also writes
them into benchmarks/README.md and benchmarks/plots. Read the ratios: the peers of a table share the other load of the
machine, two tables don't.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import beside
import decode
import losses
import mining
import pandas as pd
import predict
import search
import training
from harness import Contest, NotHereError, Options, machine, plot, show, table


@dataclass(frozen=True)
class Case:
    """A line of the list below.

    Attributes:
        contests: from small to large.
        across: what the plot's x axis counts.
    """

    contests: Callable[[Options], Iterator[Contest]]
    across: str


HERE = Path(__file__).parent

CASES = {
    "predict": Case(predict.contests, "query photographs"),
    "beside": Case(beside.contests, "query photographs"),
    "search": Case(search.contests, "photographs in the gallery"),
    "training": Case(training.contests, "parameters"),
    "losses": Case(losses.contests, "photographs in the batch"),
    "mining": Case(mining.contests, "photographs in the batch"),
    "decode": Case(decode.contests, "pixels on a side"),
}


def main() -> None:
    """Runs the named cases, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; all when none is named")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--seconds", type=float, default=10, help="of timed rounds per size (at least 3 rounds); 10")
    parser.add_argument("--photos", type=Path, default=Path("../shared/photos-large"), help="a folder of large JPEGs")
    parser.add_argument("--out", type=Path, default=Path("build/bench"), help="where CSV and SVG go; build/bench")
    parser.add_argument("--publish", action="store_true", help="put tables and plots into benchmarks/ too")
    options = parser.parse_args()
    if unknown := set(options.names) - set(CASES):
        parser.error(f"expected cases of {', '.join(CASES)}; found {', '.join(sorted(unknown))}")
    options.out.mkdir(parents=True, exist_ok=True)
    chosen = Options(options.quick, options.seconds, options.photos)
    for name in options.names or CASES:
        run_case(name, CASES[name], chosen, options.out, options.publish)


def run_case(name: str, case: Case, options: Options, out: Path, published: bool) -> None:
    """Prints each contest's table as soon as it is measured; what is measured so far always lies in `out`."""
    where = machine()
    print(f"\n## {name}\n{where}", flush=True)
    measured: list[pd.DataFrame] = []
    try:
        for rows in table(case.contests(options), options.seconds):
            print(f"\n{show(rows)}", flush=True)
            measured.append(rows)
            everything = pd.concat(measured)
            everything.to_csv(out / f"{name}.csv", index=False)
            plot(everything, name, case.across, out / f"{name}.svg")
            if published:
                publish(name, case, everything, where)
    except NotHereError as reason:
        print(f"skipped: {reason}", file=sys.stderr)


def publish(name: str, case: Case, rows: pd.DataFrame, where: str) -> None:
    """Puts a case's tables between its marks in the README, and its plot beside it."""
    page, (first, last) = HERE / "README.md", (f"<!-- {name} -->", f"<!-- end of {name} -->")
    head, found, rest = page.read_text("utf-8").partition(first)
    _, ended, tail = rest.partition(last)
    if not (found and ended):
        raise SystemExit(f"error: {page}: expected the marks {first} and {last}, found none; add them")
    (HERE / "plots").mkdir(exist_ok=True)
    plot(rows, name, case.across, HERE / "plots" / f"{name}.svg")
    tables = [show(own) for _, own in rows.groupby("label", sort=False)]
    body = "\n\n".join([where, *tables, f"![{name}: seconds of a call against the size](plots/{name}.svg)"])
    page.write_text(f"{head}{first}\n{body}\n{last}{tail}", "utf-8")


if __name__ == "__main__":
    main()
