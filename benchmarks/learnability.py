"""Does a kernel predict the order in which a network learns several targets?

Claim: `learnability`, computed from the NTK at initialization, predicts the order in which the network reaches 90 %
training accuracy on ten labelings of MNIST (rank correlation above 0.8 for each seed). Each labeling is trained
separately, from the same initialization, by full-batch gradient descent on the mean squared error.

The predictions are the learning time (half of a labeling's power is learned), the Rayleigh quotient, the number of
samples needed, and the label time, at which gradient flow has 90 % of the labels right. A labeling may have the right
signs long before it has the right size. Labelings that do not reach 90 % within `--steps` share the last place.

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
PREDICTIONS = {
    "learning time": 1,
    "samples": 1,
    "Rayleigh quotient": -1,
    "label time": 1,
}  # the sign of the correlation
EVERY = 2  # steps between checks of the accuracy; they form one compiled program
MNIST = Path(__file__).parents[2] / "shared" / "data" / "mnist"


def main() -> None:
    """Predict, train and compare, once per seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=400, help="images of each labeling")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--steps", type=int, default=1_000)
    parser.add_argument("--mnist", type=Path, default=MNIST)
    options = parser.parse_args()
    print(f"{machine()}\njax {jax.__version__}, optax {optax.__version__}")
    print(f"MLP of 2 x {options.width} ReLU, {options.examples} digits of MNIST, rate half the critical one\n")
    correlations: dict[str, list[float]] = {name: [] for name in PREDICTIONS}
    for seed in range(options.seeds):
        start = time.perf_counter()
        rows = compared(options.mnist, options.examples, options.width, options.steps, seed)
        for name, found in correlations.items():
            found.append(spearman(rows, name))
        print(f"seed {seed} ({time.perf_counter() - start:.0f} s)")
        print(
            f"{'labeling':26}{'learning time':>15}{'95 %':>16}{'samples':>9}{'quotient':>11}{'labels':>11}{'90 %':>9}"
        )
        for name, row in sorted(rows.items(), key=lambda item: item[1]["learning time"]):
            low, high = row["interval"]
            print(
                f"{name:26}{row['learning time']:15.4g}{f'{low:.3g} to {high:.3g}':>16}{row['samples']:9.0f}"
                f"{row['Rayleigh quotient']:11.4f}{row['label time']:11.4g}{row['measured']:9.4g}"
            )
        print("; ".join(f"by {name} {found[-1]:.3f}" for name, found in correlations.items()) + "\n", flush=True)
    print("rank correlation with the time at which the network reaches 90 %")
    for name, found in correlations.items():
        print(f"{name:16}" + ", ".join(f"{value:.3f}" for value in found) + f"; median {np.median(found):.3f}")


def compared(folder: Path, num_examples: int, width: int, num_steps: int, seed: int) -> dict[str, dict]:
    """The predictions for each labeling, and the network's time to 90 % accuracy."""
    images, digits = nb.datasets.mnist(folder, num_examples=20 * num_examples)
    images = images.reshape(len(images), -1)
    images = images - images.mean(0)  # a common part would make a constant far faster to learn than anything else
    images = (images / np.sqrt(np.mean(images**2))).astype(np.float32)
    net = nb.nets.mlp(width=width, depth=2)
    params = net.init(jax.random.key(seed), images.shape[1:])
    kernel = nb.empirical_ntk(net.apply, params)
    model = lazy(net.apply, params, 1.0)  # the outputs start at zero, as the prediction assumes
    rows = {}
    for name, (x, labels) in labelings(images, digits, num_examples, kernel, seed).items():
        result = learnability(kernel, x, labels, centered=False)
        rate = critical_learning_rate(kernel, x) / 2
        steps = steps_to_accuracy(
            model, params, jnp.asarray(x), jnp.asarray(labels[:, None]), jnp.asarray(rate), num_steps
        )
        rows[name] = {
            "learning time": float(result.learning_time[0, 0]),
            "interval": np.asarray(result.learning_time_interval)[0, 0],
            "samples": float(result.samples_needed[0, 0]),
            "Rayleigh quotient": float(result.rayleigh_quotient[0, 0]),
            "label time": float(result.label_time[0, 0]),
            "measured": steps * rate,
        }
    return rows


def labelings(images: np.ndarray, digits: np.ndarray, count: int, kernel: nb.Kernel, seed: int) -> dict[str, tuple]:
    """Ten labelings of `count` images each: the images, and labels of -1 and 1."""
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
    """1 where the condition is true, -1 elsewhere."""
    return np.where(right, 1.0, -1.0).astype(np.float32)


def steps_to_accuracy(model: Lazy, params: dict, x: jax.Array, labels: jax.Array, rate: float, num_steps: int) -> float:
    """The number of steps until 90 % of the labels are right, rounded up to `EVERY`; infinity if that never happens."""
    for step in range(EVERY, num_steps + EVERY, EVERY):
        params, accuracy = several_steps(model, params, x, labels, rate)
        if float(accuracy) >= ACCURACY:
            return step
    return np.inf


@eqx.filter_jit
def several_steps(model: Lazy, params: dict, x: jax.Array, labels: jax.Array, rate: jax.Array) -> tuple:
    """Run a few steps as one program, and return the accuracy after them."""
    optimizer = optax.sgd(rate)
    state = optimizer.init(params)
    for _ in range(EVERY):
        updates, state = optimizer.update(jax.grad(model.loss)(params, x, labels), state)
        params = optax.apply_updates(params, updates)
    return params, jnp.mean(model(params, x) * labels > 0)


def spearman(rows: dict[str, dict], prediction: str) -> float:
    """The rank correlation of a prediction and the measured times, which may have ties."""
    predicted = [PREDICTIONS[prediction] * row[prediction] for row in rows.values()]
    return float(scipy.stats.spearmanr(predicted, [row["measured"] for row in rows.values()]).statistic)


if __name__ == "__main__":
    main()
