"""Does a kernel say beforehand in which order a network learns behaviours?

Claim: `learnability`, from the NTK of a network at its initialisation, predicts the order in which the network reaches
90 % training accuracy on ten labellings of MNIST (rank correlation above 0.8, for each seed). Each labelling is learned
by itself, from the same initialisation, by full-batch gradient descent on the mean squared error.

What is learned late is learned in part: labellings that have not reached 90 % within `--steps` share the last place.

    python benchmarks/learnability.py [--examples N] [--seeds S] [--width W] [--steps N]
"""

import argparse
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from peers.process import machine

import ntkbias as nb
from ntkbias.learning import Lazy, critical_learning_rate, lazy, learnability

ACCURACY = 0.9
EVERY = 2  # steps between looks at the accuracy, one compiled program
MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


def main() -> None:
    """Predict, train and compare, once a seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=400, help="images of each labelling")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--mnist", type=Path, default=MNIST)
    options = parser.parse_args()
    print(f"{machine()}\njax {jax.__version__}, optax {optax.__version__}")
    print(f"MLP of 2 x {options.width} ReLU, {options.examples} digits of MNIST, rate half the critical one\n")
    correlations = []
    for seed in range(options.seeds):
        start = time.perf_counter()
        rows = compared(options.mnist, options.examples, options.width, options.steps, seed)
        correlations.append(spearman(rows))
        print(f"seed {seed} ({time.perf_counter() - start:.0f} s)")
        print(f"{'labelling':24}{'predicted time':>16}{'95 %':>20}{'samples':>10}{'time to 90 %':>14}")
        for name, (predicted, low, high, samples, measured) in sorted(rows.items(), key=lambda row: row[1][0]):
            print(f"{name:24}{predicted:16.4g}{f'{low:.3g} to {high:.3g}':>20}{samples:10.4g}{measured:14.4g}")
        print(f"rank correlation {correlations[-1]:.3f}\n", flush=True)
    print("rank correlations: " + ", ".join(f"{value:.3f}" for value in correlations))


def compared(folder: Path, num_examples: int, width: int, num_steps: int, seed: int) -> dict[str, tuple]:
    """Of each labelling its predicted learning time, with interval, samples needed, and its time to 90 % accuracy."""
    images, digits = nb.datasets.mnist(folder, num_examples=20 * num_examples)
    images = images.reshape(len(images), -1)
    images = images - images.mean(0)  # a common part would make a constant the one function that is learned soon
    images = (images / np.sqrt(np.mean(images**2))).astype(np.float32)
    net = nb.nets.mlp(width=width, depth=2)
    params = net.init(jax.random.key(seed), images.shape[1:])
    kernel = nb.empirical_ntk(net.apply, params)
    model = lazy(net.apply, params, 1.0)  # its outputs start at zero, as in the prediction
    rows = {}
    for name, (x, labels) in labellings(images, digits, num_examples, kernel, seed).items():
        result = learnability(kernel, labels, x=x, centered=False)
        rate = critical_learning_rate(kernel, x) / 2
        steps = steps_to_accuracy(
            model, params, jnp.asarray(x), jnp.asarray(labels[:, None]), jnp.asarray(rate), num_steps
        )
        interval = np.asarray(result.learning_time_interval)[0, 0]
        rows[name] = (
            float(result.learning_time[0, 0]),
            *interval.tolist(),
            float(result.samples_needed[0, 0]),
            steps * rate,
        )
    return rows


def labellings(images: np.ndarray, digits: np.ndarray, count: int, kernel: nb.Kernel, seed: int) -> dict[str, tuple]:
    """Ten labellings of `count` images each: the images, and labels of -1 and 1."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(images))
    images, digits = images[order], digits[order]
    x, y = images[:count], digits[:count]
    parity = signs(y % 2 == 0)
    flipped = parity.copy()
    flipped[rng.choice(count, count // 5, replace=False)] *= -1
    functions = np.asarray(nb.spectrum(kernel, x).eigenfunctions)
    found = {
        f"{a} against {b}": (images[rows], signs(digits[rows] == a))
        for a, b in ((0, 1), (3, 5), (4, 9))
        for rows in [np.flatnonzero(np.isin(digits, (a, b)))[:count]]
    }
    shared = {
        "5 and above": signs(y >= 5),
        "with a loop: 0, 6, 8, 9": signs(np.isin(y, (0, 6, 8, 9))),
        "parity": parity,
        "parity, a fifth flipped": flipped,
        "random labels": rng.permutation(signs(np.arange(count) % 2 == 0)),
        "sign of eigenfunction 10": signs(functions[:, 9] > 0),
        "sign of eigenfunction 100": signs(functions[:, 99] > 0),
    }
    return found | {name: (x, labels) for name, labels in shared.items()}


def signs(right: np.ndarray) -> np.ndarray:
    """1 where it is true, -1 elsewhere."""
    return np.where(right, 1.0, -1.0).astype(np.float32)


def steps_to_accuracy(model: Lazy, params: dict, x: jax.Array, labels: jax.Array, rate: float, num_steps: int) -> float:
    """The steps until 90 % of the labels are right, to within `EVERY`; infinity if that takes longer."""
    for step in range(EVERY, num_steps + EVERY, EVERY):
        params, accuracy = several_steps(model, params, x, labels, rate)
        if float(accuracy) >= ACCURACY:
            return step
    return np.inf


@eqx.filter_jit
def several_steps(model: Lazy, params: dict, x: jax.Array, labels: jax.Array, rate: jax.Array) -> tuple:
    """A few steps in one program, and the accuracy after them."""
    optimizer = optax.sgd(rate)
    state = optimizer.init(params)
    for _ in range(EVERY):
        updates, state = optimizer.update(jax.grad(model.loss)(params, x, labels), state)
        params = optax.apply_updates(params, updates)
    return params, jnp.mean(model(params, x) * labels > 0)


def spearman(rows: dict[str, tuple]) -> float:
    """The rank correlation of predicted and measured times."""
    return float(scipy.stats.spearmanr([row[0] for row in rows.values()], [row[-1] for row in rows.values()]).statistic)


if __name__ == "__main__":
    main()
