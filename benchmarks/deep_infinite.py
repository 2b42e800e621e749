"""How does the first call of a deep infinite-width network grow with its depth?

Claim: equal blocks of layers compile as one scanned body, so 200 layers compile about as fast as 5.

Each row measures `infinite_ntk(nets.mlp(depth=...))(x)` in a fresh process without a compilation cache. The first call
is in seconds of processor time after the imports; XLA compiles on several threads, and all of them count. Later calls
are in milliseconds of wall-clock time; the fastest of several counts. If neural-tangents can be imported, its jitted
`kernel_fn` of the same network is measured on the same inputs.

    git worktree add ../before REVISION
    python benchmarks/deep_infinite.py [--before ../before] [--depths 5 10 20] [--inputs 256] [--limit 300]
"""

import argparse
import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPTHS = (5, 10, 20, 30, 100, 200)
CALLS = 5  # after the first one


def kernel(peer, depth):
    """The NTK of a ReLU MLP of this depth as a function of one set of inputs."""
    if not peer:
        import ntkbias as nb

        return nb.infinite_ntk(nb.nets.mlp(depth=depth))
    import jax

    from ntkbias.adapters.neural_tangents import stax

    hidden = [layer for k in range(depth) for layer in (stax.Dense(512, W_std=2**0.5 if k else 1.0), stax.Relu())]
    _, _, kernel_fn = stax.serial(*hidden, stax.Dense(1))
    return jax.jit(lambda x: kernel_fn(x, None, "ntk"))


def measure(peer, depth, num_inputs):
    """Print as JSON the processor time of the first call (s) and the wall-clock time of the fastest later call (ms)."""
    import jax
    import numpy as np

    found = kernel(peer, depth)
    x = jax.device_put(np.random.default_rng(0).normal(size=(num_inputs, 16)).astype(np.float32))
    jax.jit(lambda x: x + 1)(x).block_until_ready()  # start the compiler itself before the clock
    began = time.process_time()
    found(x).block_until_ready()
    first = time.process_time() - began
    later = []
    for _ in range(CALLS):
        began = time.perf_counter()
        found(x).block_until_ready()
        later.append(time.perf_counter() - began)
    print(json.dumps([first, 1e3 * min(later)]))


def run(checkout, peer, depth, num_inputs, limit):
    """The result of `measure` in a fresh process with the package of this checkout; None if it exceeds the limit."""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, __file__, "--measure", "peer" if peer else "ours", str(depth), str(num_inputs)]
    try:
        done = subprocess.run(
            command,
            env=environment | {"PYTHONPATH": str(checkout)},
            capture_output=True,
            text=True,
            cwd=checkout,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of an earlier revision")
    parser.add_argument("--depths", type=int, nargs="+", default=DEPTHS)
    parser.add_argument("--inputs", type=int, default=256)
    parser.add_argument("--limit", type=float, default=300.0, help="seconds on the clock for one process")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.measure:
        peer, depth, num_inputs = wanted.measure
        measure(peer == "peer", int(depth), int(num_inputs))
        return
    sides = {"before": (wanted.before.resolve(), False)} if wanted.before else {}
    sides["after" if wanted.before else "ours"] = ROOT, False
    if importlib.util.find_spec("neural_tangents"):
        sides["neural-tangents"] = ROOT, True
    else:
        print("Missing: neural-tangents. pip install --no-deps neural-tangents==0.6.5 frozendict")
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}, {wanted.inputs} inputs\n")
    print("| hidden layers |" + "".join(f" {side}: first call, s | later, ms |" for side in sides))
    print("|---" * (1 + 2 * len(sides)) + "|")
    too_long = set()
    for depth in wanted.depths:
        cells = []
        for side, (checkout, peer) in sides.items():
            found = None if side in too_long else run(checkout, peer, depth, wanted.inputs, wanted.limit)
            if found is None:
                too_long.add(side)  # a deeper network would take even longer
            cells += [f"{found[0]:.2f} | {found[1]:.3g}"] if found else [f"over {wanted.limit:.0f} | "]
        print(f"| {depth} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
