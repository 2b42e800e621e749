"""Are low frequencies learned first? The experiment of Rahaman et al. 2019 (arXiv 1806.08734), at its own size.

Claim: a 6 x 256 ReLU network (full-batch Adam, learning rate 3e-4) learns a sum of sines with frequencies 5, 10 ... 50,
at 200 points of [0, 1), in the order of their frequencies. Frequency k counts as learned when 2 |FFT(f)_k| / A_k passes
0.8. The rank correlation of this order with k is at least 0.9 for each of 5 networks if all amplitudes are equal, and 1
if the amplitudes grow from 0.1 to 1.

The network has biases and PyTorch's default initialization. A frequency that does not pass within the steps counts as
last. The networks are trained together, which takes about 20 minutes per signal on two cores. `--figures` saves, for
each signal, a heat map of the power that the first network has not yet learned.

    python benchmarks/spectral_bias.py [--steps N] [--every N] [--seeds N] [--signal NAME] [--figures FOLDER]
"""

import argparse
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.stats
from matplotlib import pyplot as plt
from peers.process import machine

import ntkbias as nb
from ntkbias.tracking import measures, track_many

POINTS, FREQUENCIES = 200, np.arange(5, 51, 5)
SIZES = (1, *[256] * 6, 1)
PASSED = 0.8  # of the amplitude
SIGNALS = {"equal": np.ones(10), "growing": np.linspace(0.1, 1, 10)}
CIRCLE = nb.domains.Circle()


def init(key: jax.Array) -> list:
    """Weights and biases, uniform in +-1 / sqrt(fan-in)."""
    layers = []
    for fan_in, fan_out, own in zip(SIZES, SIZES[1:], jax.random.split(key, len(SIZES) - 1), strict=False):
        weights, bias = jax.random.split(own)
        uniform = {"minval": -(fan_in**-0.5), "maxval": fan_in**-0.5}
        shapes = (fan_in, fan_out), (fan_out,)
        layers.append(
            tuple(jax.random.uniform(k, shape, **uniform) for k, shape in zip((weights, bias), shapes, strict=True))
        )
    return layers


def network(params: list, x: jax.Array) -> jax.Array:
    """A ReLU network of z in [0, 1), where z is the position on the circle."""
    h = CIRCLE.angle(x)[:, None] / (2 * jnp.pi)
    for w, b in params[:-1]:
        h = jax.nn.relu(h @ w + b)
    w, b = params[-1]
    return h @ w + b


def main() -> None:
    """Train, and print the step at which each frequency was learned."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=40_000)
    parser.add_argument("--every", type=int, default=250, help="steps between two measurements")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--signal", choices=SIGNALS, help="run only the signal with these amplitudes")
    parser.add_argument("--figures", type=Path, help="a folder to save heat maps in")
    options = parser.parse_args()
    print(f"{machine()}\n{options.seeds} networks, {options.steps} steps, looked at every {options.every}\n")
    x, _ = CIRCLE.quadrature(POINTS)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(FREQUENCIES))
    sines = np.sin(np.outer(np.asarray(CIRCLE.angle(x)), FREQUENCIES) + phases)
    params = jax.vmap(init)(jax.random.split(jax.random.key(0), options.seeds))
    for name in [options.signal] if options.signal else SIGNALS:
        amplitudes = SIGNALS[name]
        start = time.perf_counter()
        history = track_many(
            network,
            params,
            (x, jnp.asarray(sines @ amplitudes, jnp.float32)),
            optimizer=optax.adam(3e-4),
            num_steps=options.steps,
            at=range(0, options.steps + 1, options.every),
            probe=nb.tracking.Probe(domain=CIRCLE),
            measures=measures.chosen("loss", "output_spectrum", "residual_spectrum"),
        )
        learned = np.sqrt(2 * history["output_spectrum"][:, :, FREQUENCIES]) / amplitudes > PASSED
        steps = np.where(learned.any(1), np.asarray(history.steps)[learned.argmax(1)], options.steps + options.every)
        print(
            f"{name} amplitudes: the step at which each frequency passed {PASSED} ({time.perf_counter() - start:.0f} s)"
        )
        print("    k =    " + "".join(f"{k:8d}" for k in FREQUENCIES) + "   rank correlation    loss")
        for seed, (row, loss) in enumerate(zip(steps, history["loss"][:, -1], strict=True)):
            order = scipy.stats.spearmanr(FREQUENCIES, row).statistic if np.ptp(row) else np.nan
            cells = "".join(f"{step:8d}" if step <= options.steps else "   never" for step in row)
            print(f"    seed {seed:2d}{cells}{order:19.3f}{loss:8.1e}")
        print(flush=True)
        if options.figures:
            options.figures.mkdir(parents=True, exist_ok=True)
            ax = nb.plots.frequency_spectrogram(history)
            ax.figure.savefig(options.figures / f"spectral_bias_{name}.png", dpi=150, bbox_inches="tight")
            plt.close(ax.figure)


if __name__ == "__main__":
    main()
