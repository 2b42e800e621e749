"""Where does the main job spend its time, and how far is each part from its floor?

Each part of the job on the digits (kernel, eigendecomposition, ranking) is timed against a floor, in turn in one run.
The floor is usually a bare matrix product with the minimal number of floating-point operations for that part. The ratio
of the two times is the most that could still be gained.

    python benchmarks/main_job.py [--num-examples 600] [--width 128]

The floors for n examples are:

- empirical kernel: a forward and a backward pass per example, and half of the contraction that `explain_ntk` counts,
  since the matrix is symmetric;
- infinite kernel: it needs no matrix product; the floor is to read and write two float32 numbers per layer, per
  position and for each of n^2 / 2 pairs, at the memory bandwidth that a copy reaches;
- eigendecomposition: 9 n^3 operations in float64 (4/3 for the tridiagonalization, up to 8 for the vectors; Golub and
  Van Loan, section 8.3);
- ranking: the Rayleigh quotients of the graph, with 4 operations per edge and mode, and 100 resampled m x m
  eigenproblems.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import ntkbias as nb


def seconds(work: Callable[[], object], reference: Callable[[], object], repeats: int) -> tuple[float, float]:
    """The median times of two functions that run in turn, after a first run of each that is not counted."""
    times: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for function, list_ in zip((work, reference), times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(function())
            if repeat:
                list_.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def product(operations: float, dtype: type) -> Callable[[], object]:
    """A square matrix product with about this many floating-point operations."""
    size = max(8, round((operations / 2) ** (1 / 3)))
    if dtype is np.float64:
        a = np.random.default_rng(0).normal(size=(size, size))
        return lambda: a @ a
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    return lambda: multiply(a)


def copy(num_bytes: float) -> Callable[[], object]:
    """A function that reads and writes this many bytes in total."""
    a = jnp.zeros(max(1, round(num_bytes / 8)), jnp.float32)
    add = jax.jit(lambda a: a + 1)
    return lambda: add(a)


def forward_operations(f: Callable, params: object, x: jax.Array) -> float:
    """The floating-point operations of one forward pass of one example, as counted by the compiler."""
    analysis = jax.jit(f).lower(params, x[:1]).compile().cost_analysis()
    return float((analysis[0] if isinstance(analysis, list) else analysis)["flops"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--num-examples", type=int, default=600)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    n = options.num_examples
    x = jnp.asarray(nb.datasets.digits(n).x)
    print(f"{platform.machine()}, {jax.devices()[0].device_kind}, jax {jax.__version__}, numpy {np.__version__}")
    print(f"{n} digits, width {options.width}, two hidden layers, one output; median of {options.repeats}\n")
    print(f"{'part':34}{'time':>10}{'its floor':>12}{'ratio':>8}")

    def row(part: str, work: Callable[[], object], floor: Callable[[], object]) -> None:
        took, least = seconds(work, floor, options.repeats)
        print(f"{part:34}{took:9.3f}s{least:11.3f}s{took / least:8.1f}")

    networks = {"mlp": nb.nets.mlp(options.width, 2, b_std=0.1), "cnn": nb.nets.cnn(options.width, 2, b_std=0.1)}
    for name, net in networks.items():
        params = net.init(jax.random.key(0), x.shape[1:])
        empirical, infinite = nb.empirical_ntk(net.apply, params), nb.infinite_ntk(net)
        factors = jax.eval_shape(empirical.features, x)
        contraction = sum(factor.operations(n, "mean") for factor in factors.values())  # half of 2 a multiplication
        operations = 2 * n * forward_operations(net.apply, params, x) + contraction
        row(f"{name}, empirical kernel", lambda k=empirical: k(x), product(operations, np.float32))
        positions = 64 if name == "cnn" else 1
        num_bytes = 3 * (n**2 / 2) * positions * 2 * 8  # layers, pairs, positions, two numbers, read and written
        row(f"{name}, infinite kernel", lambda k=infinite: k(x), copy(num_bytes))
    K = infinite(x)
    row("eigendecomposition", lambda: nb.eigen.eigh(K).eigenvalues, product(9 * n**3, np.float64))
    spectrum, domain = nb.spectrum(infinite, x), nb.domains.Images()
    edges = len(domain.neighbors(x).distance)
    last = 2 * min(n // 5, 200)  # modes in each of 100 resamples: a Gram matrix and its eigenvalues
    operations = 4 * edges * n + 100 * (2 * n * last**2 + 4 / 3 * last**3)
    row("ranking by graph frequency", lambda: nb.rank_by_frequency(spectrum, domain), product(operations, np.float64))


if __name__ == "__main__":
    main()
