"""Compare two checkouts of this package: has a change made anything slower?

Each round runs every case in a fresh process with one checkout and then with the other, in alternating order. A process
calls the case once to compile, and then reports the fastest of several calls. The table gives medians over rounds,
their range, and the ratio of the medians.

    git worktree add ../before REVISION
    python benchmarks/before_and_after.py --before ../before [--rounds 7] [--case NAME ...]
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CASES = ("empirical, MLP", "empirical, CNN", "empirical, warm call", "infinite", "top modes", "tracking")
CALLS = {"empirical, warm call": 100, "tracking": 1}  # calls per process; other cases take 5


def cases():
    """A dictionary from names to functions to time. Each returns arrays, which must be ready before the clock stops."""
    import jax
    import numpy as np
    import optax

    import ntkbias as nb

    rng = np.random.default_rng(0)

    def network(net, shape, n):
        return net, net.init(jax.random.key(0), shape), np.asarray(rng.normal(size=(n, *shape)), np.float32)

    mlp, mlp_params, x = network(nb.nets.mlp(256, 2, 10), (64,), 512)
    cnn, cnn_params, images = network(nb.nets.cnn(16, 2, 10, readout="pool"), (16, 16, 3), 64)
    small, small_params, few = network(nb.nets.mlp(64, 2, 1), (8,), 32)
    dense = nb.empirical_ntk(mlp.apply, mlp_params)
    convolutional = nb.empirical_ntk(cnn.apply, cnn_params)
    warm = nb.empirical_ntk(small.apply, small_params)
    limit = nb.infinite_ntk(nb.nets.mlp(depth=4))
    operator = nb.empirical_ntk(mlp.apply, mlp_params, outputs="all").operator(x[:256])
    labels = np.eye(10, dtype=np.float32)[rng.integers(0, 10, 64)]
    return {
        "empirical, MLP": lambda: dense(x),
        "empirical, CNN": lambda: convolutional(images),
        "empirical, warm call": lambda: warm(few),
        "infinite": lambda: limit(x),
        "top modes": lambda: nb.top_modes(operator, 20, key=jax.random.key(1)).eigenvalues,
        "tracking": lambda: list(
            nb.track(
                mlp.apply, mlp_params, (x[:64], labels), optimizer=optax.sgd(0.1), num_steps=100, key=jax.random.key(2)
            )
        ),
    }


def measure(name):
    """Print the seconds of the fastest call of a case as JSON."""
    import jax

    call = cases()[name]
    times = []
    for _ in range(CALLS.get(name, 5) + 1):
        began = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - began)
    print(json.dumps(min(times[1:])))


def run(checkout, name):
    """The time of a case, in a fresh process with the package of this checkout."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TQDM_DISABLE": "1"}
    command = [sys.executable, __file__, "--measure", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=checkout)
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of the earlier revision")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--case", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    if arguments.before is None:
        print("Skipped: name a checkout of an earlier revision by --before.")
        return
    names = arguments.case
    sides = {"before": arguments.before.resolve(), "after": ROOT}
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {arguments.rounds} rounds"
    )
    print("| case | before, ms | after, ms | after / before |\n|---|---|---|---|")
    for name in names:
        found = {side: [] for side in sides}
        for number in range(arguments.rounds):
            for side in list(sides)[:: 1 if number % 2 else -1]:
                found[side].append(1e3 * run(sides[side], name))
        texts = [f"{statistics.median(times):.3g} ({min(times):.3g} to {max(times):.3g})" for times in found.values()]
        ratio = statistics.median(found["after"]) / statistics.median(found["before"])
        print(f"| {name} | {texts[0]} | {texts[1]} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
