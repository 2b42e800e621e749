"""Kernels against width: their variance over initializations, and their change in training, under NTK scaling and muP.

    python benchmarks/width.py [--widths 64 128 256 512] [--num-networks 2000] [--num-seeds 8] [--figure PATH]

The networks have two hidden layers of ReLU and inputs on the circle. The first line has the power of the width with
which the variance of the kernel's entries falls, over many random networks in one program: theory says -1. (With equal
widths a network has the same kernel at initialization under muP as in the NTK parameterization.) Then, for both
parameterizations, comes the power of the kernel's relative change ||K_t - K_0|| / ||K_0|| after gradient descent at one
rate: negative in the NTK parameterization, where wide networks are lazy, and zero under muP. Intervals are of 95 %:
from ten groups of networks for the variance, and from seeds for the change. `--figure` draws the change.
"""

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ntkbias as nb

PARAMETERIZATIONS = ("ntk", "mup")
NUM_GROUPS = 10
BATCH = 50  # networks whose kernels are computed at once
RATE = 0.5


def network(width: int, parameterization: str) -> nb.layers.Layer:
    return nb.nets.mlp(width, 2, parameterization=parameterization, b_std=0.1)


def variances(width: int, num_networks: int) -> np.ndarray:
    """The variance of the kernel's entries over the networks of each group, relative to their squared mean."""
    net, x = network(width, "ntk"), nb.domains.Circle().grid(4)

    @jax.jit
    def grams(keys):
        def one(key):
            return nb.empirical_ntk(net.apply, net.init(key, (2,)))(x)

        return jax.lax.map(one, keys, batch_size=BATCH)

    found = np.asarray(grams(jax.random.split(jax.random.key(width), num_networks)), float)
    groups = found.reshape(NUM_GROUPS, -1, *found.shape[1:])
    return groups.var(1, ddof=1).mean((1, 2)) / (found.mean(0) ** 2).mean()


def changes(width: int, parameterization: str, num_seeds: int, num_steps: int) -> np.ndarray:
    """The relative change of the kernel from the start to the end of training, for each seed."""
    net, (x, _) = network(width, parameterization), nb.domains.Circle().quadrature(16)
    params = jax.vmap(lambda key: net.init(key, (2,)))(jax.random.split(jax.random.key(width), num_seeds))
    optimizer = optax.sgd(RATE)
    if parameterization == "mup":
        optimizer = optax.chain(optimizer, nb.training.scale_by_mup(net, (2,), "sgd"))
    history = nb.track_many(
        net.apply,
        params,
        (x, jnp.sign(x[:, 0] + 0.1)),
        optimizer=optimizer,
        num_steps=num_steps,
        at=[0, num_steps],
        measures=nb.tracking.measures.chosen("kernel_drift", "train_loss"),
    )
    change, loss = (np.asarray(history[name], float)[:, -1] for name in ("kernel_drift", "train_loss"))
    print(f"  {parameterization}, width {width}: change {change.mean():.4f}, loss {loss.mean():.4f}", flush=True)
    return change


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--widths", type=int, nargs="+", default=[64, 128, 256, 512])
    parser.add_argument("--num-networks", type=int, default=2_000)
    parser.add_argument("--num-seeds", type=int, default=8)
    parser.add_argument("--num-steps", type=int, default=40)
    parser.add_argument("--figure")
    options = parser.parse_args()
    sizes = np.array(options.widths, float)
    found = np.stack([variances(width, options.num_networks) for width in options.widths], 1)
    law = nb.scaling_law(sizes, found)
    print(f"variance over {options.num_networks} networks of each width: power of the width {law.exponent}", flush=True)
    print(f"change of the kernel in {options.num_steps} steps of gradient descent of rate {RATE}")
    laws = {}
    for name in PARAMETERIZATIONS:
        found = np.stack([changes(width, name, options.num_seeds, options.num_steps) for width in options.widths], 1)
        laws[name] = nb.scaling_law(sizes, found)
        print(f"  {name}: power of the width {laws[name].exponent}")
    if options.figure:
        ax = nb.plots.scaling_laws(laws, reach=1.0)
        ax.set(xlabel="width", ylabel="relative change of the kernel in training")
        ax.figure.savefig(options.figure, dpi=150, bbox_inches="tight")


if __name__ == "__main__":
    main()
