"""What a warm call of a kernel costs at 32 inputs, beside jitted functions that do the same work.

Claim: checks, planning and the test for NaN cost at most as much as the call itself, so that a warm call takes at most
twice the time of a jitted function of the same work. Two such functions stand beside the kernel: the Jacobian by `vmap`
and `grad` with its product, as one writes it by hand, and the kernel's own program within `jax.jit`.

    python benchmarks/warm_call.py [--rounds 5] [--num-inputs 32]
"""

import argparse
import platform
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

import ntkbias as nb

CALLS = 200


def microseconds(call):
    """The median time of a call."""
    times = []
    for _ in range(CALLS):
        start = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--num-inputs", type=int, default=32)
    arguments = parser.parse_args()
    net = nb.nets.mlp(64, 2, 1)
    params = net.init(jax.random.key(0), (8,))
    x = np.asarray(np.random.default_rng(0).normal(size=(arguments.num_inputs, 8)), np.float32)

    @jax.jit
    def by_hand(params, x):
        one = jax.vmap(jax.grad(lambda p, xi: net.apply(p, xi[None])[0, 0]), (None, 0))
        rows = [leaf.reshape(len(x), -1) for leaf in jax.tree.leaves(one(params, x))]
        return sum(jnp.matmul(row, row.T, precision="highest") for row in rows)

    empirical, infinite = nb.empirical_ntk(net.apply, params), nb.infinite_ntk(net)
    inside = jax.jit(lambda kernel, x: kernel(x))
    calls = {
        "empirical": lambda: empirical(x),
        "empirical, by hand": lambda: by_hand(params, x),
        "empirical, inside jit": lambda: inside(empirical, x),
        "infinite": lambda: infinite(x),
        "infinite, inside jit": lambda: inside(infinite, x),
    }
    np.testing.assert_allclose(empirical(x), by_hand(params, x), rtol=1e-4, atol=1e-4)
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(arguments.rounds):
        for name, call in calls.items():
            times[name].append(microseconds(call))
    print(f"{platform.machine()}, {jax.default_backend()}, jax {jax.__version__}, {arguments.num_inputs} inputs")
    print("| call | us, median over rounds (range) | kernel / this |\n|---|---|---|")
    for name, values in times.items():
        kernel = statistics.median(times[name.partition(",")[0]])
        low, middle, high = min(values), statistics.median(values), max(values)
        print(f"| {name} | {middle:.0f} ({low:.0f} to {high:.0f}) | {kernel / middle:.2f} |")


if __name__ == "__main__":
    main()
