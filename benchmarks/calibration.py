"""How often the intervals of a Gaussian process with a network's kernel hold the observations that it has not seen.

    python benchmarks/calibration.py [--draws 20] [--num-train 800]

Two cases. On a line, a wave with noise of known size, whose inputs and noise are drawn anew. On the digits, the ten
one-hot columns of the labels, shifted to mean zero, with the split drawn anew. The kernel is the NNGP of an infinitely
wide MLP. Its scale and the noise are those of the greatest marginal likelihood on the training set. A row has the level
of the intervals and the share of held-out observations within, as the mean over draws and its standard error; "left
out" is the same share on the training set, each example by a fit to all others.
"""

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special

import ntkbias as nb

LEVELS = (0.5, 0.8, 0.95)
NOISES = 10.0 ** np.arange(-4, 0.01, 0.25)  # relative to the scale of the kernel


def fitted(kernel, x, y):
    """The scale of the kernel and the relative noise with the greatest marginal likelihood, by eigenvalues once."""
    spectrum = nb.spectrum(kernel, x)
    n = len(x)
    values = np.maximum(np.asarray(spectrum.eigenvalues, float), 0.0) * n
    functions = np.asarray(spectrum.eigenfunctions, float) / n**0.5
    powers = (functions.T @ np.asarray(y, float).reshape(n, -1)) ** 2
    best = None
    for noise in NOISES:
        total = values + noise
        scale = np.mean(np.sum(powers / total[:, None], 0)) / n  # where the likelihood is greatest, given the noise
        likelihood = -0.5 * n * np.log(scale) - 0.5 * np.sum(np.log(total))
        if best is None or likelihood > best[0]:
            best = likelihood, scale, noise
    return best[1:]


def shares(kernel, x, y, x_new, y_new):
    """The share of observations within each interval: of new ones, and of the training set by leaving one out."""
    scale, noise = fitted(kernel, x, y)
    found = nb.kernel_posterior(kernel * scale, x, y, x_new, noise=float(scale * noise))
    z = scipy.special.ndtri((1 + np.array(LEVELS)) / 2)

    def within(mean, variance, values):
        spread = np.sqrt(np.asarray(variance, float) + found.noise).reshape(-1, *(1,) * (np.ndim(mean) - 1))
        distance = np.abs(np.asarray(values, float) - np.asarray(mean, float)) / spread
        return [float(np.mean(distance <= each)) for each in z]

    return within(found.mean, found.variance, y_new), within(found.left_out, found.left_out_variance, y), noise


def line(seed, num_train):
    """A wave on a line, observed with noise of standard deviation 0.3."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (num_train // 8 + 400, 1))
    y = np.sin(3 * x[:, 0]) + 0.3 * rng.standard_normal(len(x))
    return x, y - y[: num_train // 8].mean(), num_train // 8


def digits(seed, num_train):
    """The digits, in a new order."""
    data = nb.datasets.digits()
    order = np.random.default_rng(seed).permutation(len(data.x))
    x = np.asarray(data.x, float).reshape(len(order), -1)[order]
    y = np.asarray(nb.datasets.one_hot(data.y), float)[order]
    return x, y - y[:num_train].mean(0), num_train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--num-train", type=int, default=800)
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    kernel = nb.infinite_nngp(nb.nets.mlp(depth=2, b_std=0.5))
    for name, case in (("a wave on a line", line), ("one-hot labels of the digits", digits)):
        found = []
        for seed in range(options.draws):
            x, y, n = case(seed, options.num_train)
            x, y = jnp.asarray(x), jnp.asarray(y)
            found.append(shares(kernel, x[:n], y[:n], x[n:], y[n:]))
        print(f"{name}: {n} for training, {len(x) - n} held out, {options.draws} draws")
        print(f"  relative noise of the greatest likelihood: {np.median([noise for *_, noise in found]):.2g}")
        for place, level in enumerate(LEVELS):
            held = np.array([[new[place], left[place]] for new, left, _ in found])
            mean, error = held.mean(0), held.std(0, ddof=1) / len(held) ** 0.5
            print(
                f"  {level:4.0%} intervals hold {mean[0]:6.1%} +- {error[0]:.1%} of held-out observations, "
                f"left out {mean[1]:6.1%} +- {error[1]:.1%}"
            )


if __name__ == "__main__":
    main()
