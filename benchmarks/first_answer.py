"""How long does a fresh process take until its first answer, and how many programs does it compile?

Each case runs in its own process and includes the imports: once cold, and once with JAX's persistent cache warm. Times
are processor times. `floor` is the time that NumPy needs for the matrix products and eigendecompositions of the case
alone. With `--before`, another checkout of the package runs the same cases, in alternating order.

    git worktree add ../before REVISION
    python benchmarks/first_answer.py [--before ../before] [--rounds 3] [--case NAME ...]
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NUM_INPUTS = 256
COMPILED = "/jax/core/compile/backend_compile_duration"  # an event of jax.monitoring, one per program


def command(*arguments):
    """A case that runs a command of the command line."""

    def run(folder):
        from ntkbias.cli import main

        assert main([*arguments, "--out", folder]) == 0

    return run


def circle():
    import ntkbias as nb

    domain = nb.domains.Circle()
    x, weights = domain.quadrature(NUM_INPUTS)
    return nb, domain, x, weights


def nothing(folder):
    import equinox
    import jax
    import optax

    assert equinox, jax
    assert optax


def one_kernel(folder):
    import jax.numpy as jnp

    import ntkbias as nb

    nb.empirical_ntk(lambda params, x: x @ params, jnp.ones((2, 1)))


def top_modes(folder):
    import jax

    nb, _, x, _ = circle()
    net = nb.nets.mlp(width=64, b_std=0.1)
    kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)))
    print(nb.top_modes(kernel.operator(x), 10, key=jax.random.key(1)).eigenvalues)


def exact_spectrum(folder):
    nb, domain, _, _ = circle()
    print(nb.exact_spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), domain, 20).eigenvalues)


def learnability(folder):
    import jax.numpy as jnp

    nb, domain, x, _ = circle()
    kernel = nb.infinite_ntk(nb.nets.mlp(b_std=0.1))
    print(nb.learnability(kernel, x, {"wave": jnp.cos(3 * domain.angle(x))}))


def rank_by_frequency(folder):
    nb, domain, x, weights = circle()
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), x, weights=weights)
    print(nb.rank_by_frequency(spectrum, domain))


def decomposed(*sizes):
    """Seconds that NumPy takes for one product and one symmetric eigendecomposition of each of these sizes."""
    import numpy as np

    matrices = [np.random.default_rng(0).normal(size=(n, n)) for n in sizes]
    began = time.process_time()
    for matrix in matrices:
        np.linalg.eigh(matrix @ matrix.T)
    return time.process_time() - began


CASES = {  # name -> (function, sizes of the eigenproblems that it must solve)
    "import jax, equinox, optax": (nothing, ()),
    "import, one empirical_ntk made": (one_kernel, ()),
    "command: spectrum, circle": (command("spectrum", "--data", "circle", "--limit", "infinite"), (NUM_INPUTS,)),
    "command: spectrum, digits": (command("spectrum", "--data", "digits", "--num-examples", "500"), (500,)),
    "command: track, circle": (command("track", "--data", "circle", "--num-steps", "200"), (NUM_INPUTS,) * 30),
    "top_modes": (top_modes, (64,)),
    "exact_spectrum": (exact_spectrum, ()),
    "learnability": (learnability, (NUM_INPUTS,)),
    "rank_by_frequency": (rank_by_frequency, (NUM_INPUTS,)),
}


def measure(name):
    """Run a case, and print the number of compiled programs to standard error."""
    programs = []
    with tempfile.TemporaryDirectory() as folder:
        if name not in list(CASES)[:2]:
            import jax

            jax.monitoring.register_event_duration_secs_listener(
                lambda event, seconds, **_: programs.append(seconds) if event == COMPILED else None
            )
            if cache := os.environ.get("JAX_COMPILATION_CACHE_DIR"):
                assert cache
                jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
                jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        CASES[name][0](folder)
    print(json.dumps(len(programs)), file=sys.stderr)


def run(checkout, name, cache=None):
    """The processor time of a fresh process with the package of this checkout, and the number of its programs."""
    environment = {**os.environ, "PYTHONPATH": str(checkout), "TQDM_DISABLE": "1", "MPLBACKEND": "Agg"}
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    environment["XDG_CACHE_HOME"] = str(cache or tempfile.mkdtemp())
    if cache is not None:
        environment["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, __file__, "--measure", name], env=environment, capture_output=True, text=True, cwd=checkout
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(done.stderr)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return seconds, json.loads(done.stderr.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of an earlier revision")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.measure)
        return
    sides = {"after": ROOT}
    if arguments.before is not None:
        sides = {"before": arguments.before.resolve(), **sides}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    print(f"{machine}; seconds of processor time, medians of {arguments.rounds} processes")
    heads = [f"{side}, {what}" for what in ("cold", "warm", "programs") for side in sides]
    print(f"| case | {' | '.join(heads)} | floor |\n|{'---|' * (len(heads) + 2)}")
    for name in arguments.case:
        cold, warm, programs = ({side: [] for side in sides} for _ in range(3))
        with tempfile.TemporaryDirectory() as folder:
            for number in range(arguments.rounds):
                for side in list(sides)[:: 1 if number % 2 else -1]:
                    seconds, count = run(sides[side], name)
                    cold[side].append(seconds)
                    programs[side].append(count)
                    cache = Path(folder) / side
                    if not cache.exists():
                        run(sides[side], name, cache)
                    warm[side].append(run(sides[side], name, cache)[0])
        texts = [f"{statistics.median(each):.2f}" for times in (cold, warm) for each in times.values()]
        texts += [f"{each[0]}" for each in programs.values()]
        print(f"| {name} | {' | '.join(texts)} | {decomposed(*CASES[name][1]):.2f} |", flush=True)


if __name__ == "__main__":
    main()
