"""Two claims about training on digits: the edge of stability, and the neural feature ansatz.

    python benchmarks/curvature.py edge [--rates 0.2 0.3] [--num-steps 3000] [--seeds 2] [--figure PATH]
    python benchmarks/curvature.py features [--num-steps 3000] [--seeds 2]

`edge`: full-batch gradient descent on the squared error raises the largest eigenvalue of the Hessian to 2 / learning
rate, and keeps it at or somewhat above that (Cohen et al. 2021, arXiv 2103.00065). Each row has the eigenvalue at the
start, the step at which it first reaches 2 / rate, and its median over the last half of training, divided by 2 / rate:
the claim is a median within 10 %. The network has two hidden layers of 64 tanh units, zero biases at the start, and
normal weights with the variance of PyTorch's default, 1 / (3 d) for d inputs.

`features`: the correlation of W W^T with the average gradient outer product in the inputs of each layer, before and
after training, and with W minus its initial value (Radhakrishnan et al. 2022, arXiv 2212.13881). The settings are those
of the authors' code for fully connected networks, which trains on SVHN: three hidden ReLU layers without biases, the
mean squared error over outputs, and gradient descent with rate 0.1. Here the width is 256 and not 1,024, the images are
digits, and each step takes all of them. The initialization is normal with the variance of PyTorch's default, 1 / (3 d)
for d inputs; in the second half of the rows, the first layer has a tenth of that standard deviation.
"""

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import optax

import ntkbias as nb

NUM_EXAMPLES = 500
W_STD = 3**-0.5  # times 1 / sqrt(d): the standard deviation of PyTorch's default for linear layers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("edge", "features"))
    parser.add_argument("--rates", nargs="+", type=float, default=[0.2, 0.3])
    parser.add_argument("--num-steps", type=int, default=3_000)
    parser.add_argument("--num-snapshots", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--figure")
    options = parser.parse_args()
    (edge if options.part == "edge" else features)(options)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The first digits, each pixel with mean zero and all with mean square one, and one-hot labels."""
    data = nb.datasets.digits(NUM_EXAMPLES)
    x = np.asarray(data.x, float).reshape(len(data.x), -1)
    x = x - x.mean(0)
    return (x / np.sqrt(np.mean(x**2))).astype(np.float32), np.asarray(nb.datasets.one_hot(data.y))


def edge(options: argparse.Namespace) -> None:
    x, y = digits()
    net = nb.nets.mlp(
        width=64,
        depth=2,
        num_outputs=10,
        activation="tanh",
        w_std=W_STD,
        b_std=1.0,
        b_init=0.0,
        parameterization="standard",
    )
    taken = nb.tracking.measures.chosen("train_loss", "train_accuracy", "sharpness", "sharpness_limit")
    at = np.unique(np.linspace(0, options.num_steps, options.num_snapshots + 1).astype(int)).tolist()
    histories = []
    print("rate  2 / rate  at start  reached at step  median / (2 / rate), last half  lowest  highest  loss  accuracy")
    for rate in options.rates:
        for seed in range(options.seeds):
            params = net.init(jax.random.key(seed), x.shape[1:])
            run = {"optimizer": optax.sgd(rate), "num_steps": options.num_steps, "at": at, "probe": x[:20]}
            history = nb.track(net.apply, params, (x, y), measures=taken, **run)
            histories.append(history)
            sharpness, limit = history["sharpness"], 2 / rate
            last = sharpness[history.steps >= options.num_steps / 2] / limit
            over = np.flatnonzero(sharpness >= limit)
            first = history.steps[over[0]] if len(over) else "never"
            print(
                f"{rate:4g}  {limit:8.2f}  {sharpness[0]:8.2f}  {first!s:>15}  {np.median(last):31.3f}  "
                f"{last.min():6.3f}  {last.max():7.3f}  {history['train_loss'][-1]:.4f}  "
                f"{history['train_accuracy'][-1]:.3f}",
                flush=True,
            )
    if options.figure:
        draw(histories, options.rates, options.figure)


def draw(histories: list, rates: list[float], path: str) -> None:
    """The sharpness of each run against the step, with dotted lines at 2 / learning rate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for index, history in enumerate(histories):
        rate = rates[index * len(rates) // len(histories)]
        color = f"C{rates.index(rate)}"
        first = index % (len(histories) // len(rates)) == 0
        label = f"learning rate {rate:g}" if first else None
        ax.plot(history.steps, history["sharpness"], color=color, linewidth=1.0, label=label)
        ax.plot(history.steps, history["sharpness_limit"], ":", color=color, linewidth=1.4)
    ax.set(xlabel="step", ylabel="largest eigenvalue of the Hessian", ylim=(0, None), xlim=(0, histories[0].steps[-1]))
    ax.legend(frameon=False, title="dotted: 2 / learning rate")
    figure.savefig(path, dpi=110)


def features(options: argparse.Namespace) -> None:
    x, y = digits()
    net = nb.nets.mlp(width=256, depth=3, num_outputs=10, w_std=W_STD, parameterization="standard")
    print("first layer  seed  layer     at start  trained  trained, W - W_0  accuracy")
    for scale in (1.0, 0.1):
        for seed in range(options.seeds):
            params = net.init(jax.random.key(seed), x.shape[1:])
            matrices = [index for index, each in enumerate(params) if "w" in (each or {})]
            params[matrices[0]]["w"] = params[matrices[0]]["w"] * np.float32(scale)
            rate = 0.1 * 2 / y.shape[1]  # the mean over outputs, not half of the sum
            trained = nb.train(
                net.apply,
                params,
                (x, y),
                optimizer=optax.sgd(rate),
                num_steps=options.num_steps,
                at=[options.num_steps],
            )
            *_, (_, after) = trained
            right = np.mean(np.argmax(net.apply(after, x), 1) == np.argmax(y, 1))
            of = nb.complexity.feature_correlations
            columns = of(net.apply, params, x), of(net.apply, after, x), of(net.apply, after, x, start=params)
            for path in columns[0]:
                numbers = "  ".join(f"{float(column[path]):8.3f}" for column in columns)
                print(f"{scale:11g}  {seed:4}  {path}  {numbers}  {right:.3f}", flush=True)


if __name__ == "__main__":
    main()
