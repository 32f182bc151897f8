# SPDX-License-Identifier: GPL-2.0-only
"""How often `toolkit compare` is wrong where nothing changed, and how many runs it takes to see a change.

    python -m bench.calibration DIR

DIR holds runs of one build of a driver (at least 10 that can be trusted), as `toolkit compare` reads them.

False verdicts: the runs are split at random into two sets that share none, again and again; what differs
between such sets is chance, so each `improved` or `worse` is false. Power: both sets are drawn from the runs
with replacement, and in one of them every duration is halved; frames refused and counts stay as they were,
though a shorter stall would lower them too.
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from toolkit.compare.comparison import set_aside
from toolkit.compare.metrics import METRICS
from toolkit.compare.statistics import ALPHA, measure
from toolkit.compare.verdict import IMPROVED, WORSE, decide
from toolkit.errors import UserError, one_sentence
from toolkit.runs import read_runs

SEED = 0
ROUNDS = 400
SIZES = (4, 5, 6, 7, 8, 10, 12, 15, 20)
SEEN = 0.8
LEAST = 10


@one_sentence("bench.calibration")
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("dir", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="comparisons for each number")
    options = parser.parse_args()
    runs = trusted(read_runs(options.dir))
    chance = np.random.default_rng(SEED)
    build = runs.iloc[0]
    print(f"{len(runs)} runs of {build['driver']}, {build['variant']}, {options.rounds} rounds each")
    held = say_false(runs, chance, options.rounds)
    say_power(runs, chance, options.rounds)
    if not held:
        print("the claim does not hold here", file=sys.stderr)
    return 0 if held else 1


def trusted(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs on which a verdict may rest.

    :raises UserError: if these are too few, or not of one build.
    """
    builds = runs[["driver", "kernel", "variant", "srcversion", "scenario"]].drop_duplicates()
    if len(builds) > 1:
        raise UserError("the runs are not all of one build, kernel and scenario.")
    kept = runs[set_aside(runs).isna()].reset_index(drop=True)
    if len(kept) < LEAST:
        raise UserError(f"{len(kept)} of {len(runs)} runs can be trusted; record at least {LEAST}.")
    return kept


def false_verdicts(runs: pd.DataFrame, chance: np.random.Generator, rounds: int) -> "Counter[str]":
    """Return how often each verdict was given on two halves of the same runs."""
    found: Counter[str] = Counter()
    for _ in range(rounds):
        order = chance.permutation(len(runs))
        first, second = runs.iloc[order[: len(runs) // 2]], runs.iloc[order[len(runs) // 2 :]]
        found[verdict(first, second)] += 1
    return found


def power(runs: pd.DataFrame, size: int, chance: np.random.Generator, rounds: int) -> float:
    """Return the share of comparisons of `size` runs each that see a halving of every duration."""
    half = halved(runs)
    seen = 0
    for _ in range(rounds):
        first, second = (frame.iloc[chance.integers(len(frame), size=size)] for frame in (runs, half))
        seen += verdict(first, second) == IMPROVED
    return seen / rounds


def halved(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs with their durations [ns] halved."""
    durations = [each.name for each in METRICS if each.unit == "ns"]
    return runs.assign(**{name: runs[name] // 2 for name in durations})


def verdict(base: pd.DataFrame, candidate: pd.DataFrame) -> str:
    """Return the verdict of `toolkit compare`, without computing intervals."""
    return decide(measure(base, candidate, intervals=False), len(base), len(candidate))


def say_false(runs: pd.DataFrame, chance: np.random.Generator, rounds: int) -> bool:
    """Print how often a difference was found where there is none.

    :return: whether that is at most ALPHA.
    """
    found = false_verdicts(runs, chance, rounds)
    wrong = found[IMPROVED] + found[WORSE]
    low, high = stats.binomtest(wrong, rounds).proportion_ci(0.95)
    print(
        f"false verdicts, {len(runs) // 2} and {len(runs) - len(runs) // 2} runs: {wrong / rounds:.1%} "
        f"(95 %: {low:.1%} to {high:.1%}), at most {ALPHA:.0%}; "
        + ", ".join(f"{name} {count}" for name, count in sorted(found.items()))
    )
    return wrong / rounds <= ALPHA


def say_power(runs: pd.DataFrame, chance: np.random.Generator, rounds: int) -> None:
    """Print, for some numbers of runs, how often a halving is seen."""
    print("a halving of every duration\nruns each  seen")
    shares = {size: power(runs, size, chance, rounds) for size in SIZES}
    for size, share in shares.items():
        print(f"{size:9}  {share:4.0%}")
    least = next((size for size, share in shares.items() if share >= SEEN), None)
    print(f"seen in at least {SEEN:.0%}: from {least} runs each" if least else "never seen often enough")


if __name__ == "__main__":
    sys.exit(main())
