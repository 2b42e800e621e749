"""Coverage: how often each interval, standard error and bound holds the truth, on data with a known truth.

    python benchmarks/coverage.py                              # all, 200 draws each; an hour or more on two cores
    python benchmarks/coverage.py --only learnability decay    # the intervals whose names contain one of these words

A row is one interval. It covers if it holds the truth in a share of at least its nominal coverage, less two binomial
standard errors. The cases are in `tests/statistics`, and those that train networks are here. The last lines repeat
what does not cover, and the exit code is then 1.
"""

import argparse
import functools
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "statistics")]
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TQDM_DISABLE", "1")

import jax  # noqa: E402
import numpy as np  # noqa: E402
import of_decay  # noqa: E402
import of_ease  # noqa: E402
import of_fits  # noqa: E402
import of_frequencies  # noqa: E402
import of_learnability  # noqa: E402
import of_probes  # noqa: E402
import optax  # noqa: E402
from covering import DRAWS, Case, Row, rows  # noqa: E402

import ntkbias as nb  # noqa: E402
from ntkbias.scaling import scaling_law  # noqa: E402
from ntkbias.tracking import track_many  # noqa: E402

SIZES, SEEDS, POOL = (4, 8, 16, 32), 4, 200


@functools.cache
def trained() -> np.ndarray:
    """The losses of networks on their probe after training on 4 to 32 nodes of a circle, `(POOL, sizes)`."""
    net = nb.nets.mlp(width=32, depth=1, b_std=0.1)
    probe = nb.domains.Circle().quadrature(64)[0]
    losses = []
    for size in SIZES:
        x = nb.domains.Circle().quadrature(size)[0]
        seeds = jax.vmap(lambda key: net.init(key, (2,)))(jax.random.split(jax.random.key(size), POOL))
        history = track_many(
            net.apply,
            seeds,
            (x, x[:, 0]),
            optimizer=optax.sgd(0.3),
            num_steps=100,
            at=(0, 100),
            probe=(probe, probe[:, 0]),
            measures=nb.tracking.measures.chosen("loss"),
        )
        losses.append(np.asarray(history["loss"])[:, -1])
    return np.stack(losses, 1)


def of_trained_seeds(seed: int) -> dict[str, bool]:
    """The exponent over a few seeds, against that of the mean over the whole pool."""
    pool, chosen = trained(), np.random.default_rng(seed).choice(POOL, SEEDS, replace=False)
    truth = scaling_law(SIZES, pool, num_resamples=10).exponent.value
    law = scaling_law(SIZES, pool[chosen], num_resamples=200)
    return {"exponent over seeds": truth in law.exponent}


TRAINING = [
    Case("scaling law of trained networks", f"{SEEDS} seeds", f"mean of {POOL} seeds", of_trained_seeds, trains=True)
]
CASES = [
    *of_decay.CASES,
    *of_ease.CASES,
    *of_frequencies.CASES,
    *of_learnability.CASES,
    *of_fits.CASES,
    *of_probes.CASES,
    *TRAINING,
]
LINE = "{:32} {:58} {:37} {:>7} {:>5} {:>8}  {}"


def line(row: Row) -> str:
    case = row.case
    return LINE.format(
        case.interval,
        f"{row.name}; {case.data}",
        case.truth,
        f"{case.nominal:.1%}",
        row.draws,
        f"{row.coverage:.1%}",
        row.verdict,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=DRAWS, help="fresh data sets per case")
    parser.add_argument("--only", nargs="+", default=[""], help="words, of which the interval's name has to hold one")
    options = parser.parse_args()
    began, missing = time.perf_counter(), []
    print(LINE.format("interval", "case", "truth", "nominal", "draws", "coverage", "verdict"), flush=True)
    chosen = [case for case in CASES if any(word.lower() in case.interval.lower() for word in options.only)]
    for number, case in enumerate(chosen, 1):
        start = time.perf_counter()
        for row in rows(case, options.draws):
            print(line(row), flush=True)
            missing += [row] * (row.verdict == "DOES NOT COVER")
        took = time.perf_counter() - start
        print(f"{number} of {len(chosen)} cases, {case.interval}: {took:.0f} s", file=sys.stderr, flush=True)
    for row in missing:
        print("DOES NOT COVER:", line(row))
    print(f"{len(chosen)} cases, {len(missing)} intervals do not cover; {time.perf_counter() - began:.0f} s")
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
