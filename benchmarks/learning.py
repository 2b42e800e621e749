"""How long do the predictions of a kernel take at n = 5,000, also compared with scikit-learn?

Claim: on two cores, every function of `ntkbias.learning` takes seconds for 5,000 examples once the Gram matrix is
computed. Regression with leave-one-out errors takes about twice as long as scikit-learn's KernelRidge, which gives the
same predictions but no such errors. Gradient flow, the best ridge, learnability and learning curves take one
eigendecomposition each, or none if a spectrum is given.

KernelRidge and `kernel_regression` are fitted in turn, on the same matrix in float64. The ratio is that of the medians.

    python benchmarks/learning.py [--sizes N ...] [--repeats R]
"""

import argparse
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import sklearn
from peers.process import machine
from sklearn.kernel_ridge import KernelRidge

import ntkbias as nb
from ntkbias.learning import (
    critical_learning_rate,
    gradient_descent,
    gradient_flow,
    kernel_regression,
    learnability,
    learning_curve,
)

RIDGE = 1e-2


def main() -> None:
    """Measure regression beside scikit-learn, and then everything else once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 2_000, 5_000])
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    print(f"{machine()}\njax {jax.__version__}, numpy {np.__version__}, scikit-learn {sklearn.__version__}\n")
    for n in options.sizes:
        x, x_test = (jax.random.normal(jax.random.key(seed), (count, 10)) for seed, count in ((0, n), (1, 1_000)))
        y = jnp.sign(x[:, 0] * x[:, 1]) + 0.3 * x[:, :3].T  # three targets, (3, n)
        kernel = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
        seconds, K = timed(lambda: kernel(x))  # noqa: B023
        K, K_test, y = np.asarray(K), np.asarray(kernel(x_test, x)), np.asarray(y.T)
        print(f"n = {n:,}: the matrix {seconds:.2f} s")
        beside_scikit_learn(K, K_test, y, options.repeats)
        everything(K, K_test, y[:, 0])
        print(flush=True)


def beside_scikit_learn(K: np.ndarray, K_test: np.ndarray, y: np.ndarray, repeats: int) -> None:
    """Time fits and predictions in turn, and compare their answers."""
    peer = KernelRidge(alpha=RIDGE, kernel="precomputed")
    ways = {
        "KernelRidge": lambda: peer.fit(K, y).predict(K_test),
        "kernel_regression": lambda: np.asarray(kernel_regression(K, y, ridge=RIDGE).predict(K_test=K_test)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    answers = {}
    for _ in range(repeats + 1):
        for name, way in ways.items():
            taken, answers[name] = timed(way)
            seconds[name].append(taken)
    medians = {name: float(np.median(found[1:])) for name, found in seconds.items()}  # the first one compiles
    difference = np.max(np.abs(answers["KernelRidge"] - answers["kernel_regression"])) / np.max(np.abs(y))
    ratio = medians["kernel_regression"] / medians["KernelRidge"]
    print(
        f"  KernelRidge {medians['KernelRidge']:.2f} s, kernel_regression with leave-one-out "
        f"{medians['kernel_regression']:.2f} s: {ratio:.2f} times; answers differ by {difference:.1e}"
    )


def everything(K: np.ndarray, K_test: np.ndarray, y: np.ndarray) -> None:
    """Time the other functions once each, with a matrix or a spectrum."""
    seconds, spectrum = timed(lambda: nb.eigen.eigh(K))
    print(f"  {'eigh':52}{seconds:8.2f} s")
    times, sizes = np.geomspace(1, 1e6, 30), np.geomspace(10, len(K) / 4, 20).astype(int)
    rate = critical_learning_rate(spectrum) / 2
    targets = {"first": np.sign(K[:, 0] - np.median(K[:, 0])), "target": y}
    cases: dict[str, Callable] = {
        "kernel_regression, the ridge by cross-validation": lambda: kernel_regression(K, y),
        "gradient_flow of a matrix, 30 times": lambda: gradient_flow(K, y, times, K_test=K_test),
        "gradient_flow of a spectrum, 30 times": lambda: gradient_flow(spectrum, y, times, K_test=K_test),
        "gradient_descent of a spectrum, momentum, 10^6 steps": lambda: gradient_descent(
            spectrum, y, np.array([10**4, 10**6]), rate, momentum=0.9
        ),
        "learnability of a matrix, 2 targets": lambda: learnability(K, targets),
        "learnability given the spectrum": lambda: learnability(K, targets, modes=spectrum),
        "learning_curve of a spectrum, 20 sizes": lambda: learning_curve(spectrum, y, sizes, ridge=RIDGE),
        "critical_learning_rate of a matrix": lambda: critical_learning_rate(K),
    }
    for name, case in cases.items():
        print(f"  {name:52}{timed(case)[0]:8.2f} s", flush=True)


def timed(function: Callable) -> tuple[float, object]:
    """The seconds that a call takes until its value is ready, and the value."""
    start = time.perf_counter()
    value = jax.block_until_ready(function())
    return time.perf_counter() - start, value


if __name__ == "__main__":
    main()
