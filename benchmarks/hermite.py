"""The spectrum that the covariance of images predicts, beside the spectrum on the images.

    python benchmarks/hermite.py --folder PATH [--data mnist cifar10] [--num-examples 2000] [--depth 1]

The kernel is the NTK of an infinitely wide MLP. Each row has the rank correlation of predicted and measured eigenvalues
of the first 100 modes by their place, and the median of their ratio; and the rank correlation and the median ratio of
the Rayleigh quotients of the predicted eigenfunctions on the data and their predicted eigenvalues, by degree: the first
says how well the spectrum is predicted, the second how well each function's place is.
"""

import argparse
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax.numpy as jnp
import numpy as np
import scipy.stats

import ntkbias as nb

NUM_MODES = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--data", nargs="+", default=["mnist", "cifar10"])
    parser.add_argument("--num-examples", type=int, default=2_000)
    parser.add_argument("--depth", type=int, default=1)
    options = parser.parse_args()
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=options.depth, b_std=0.1))
    for name in options.data:
        images = getattr(nb.datasets, name)(options.folder, "train", options.num_examples).x
        x = np.asarray(images, float).reshape(len(images), -1)
        x = jnp.asarray(x - x.mean(0), jnp.float32)
        predicted = nb.exact.predicted_spectrum(kernel, jnp.cov(x.T, bias=True), NUM_MODES)
        values = np.asarray(predicted.eigenvalues, float)
        spectrum = nb.spectrum(kernel, x)
        measured = np.asarray(spectrum.eigenvalues, float)[:NUM_MODES]
        rho = scipy.stats.spearmanr(values, measured).statistic
        print(f"{name}: {len(x)} images, degrees up to {predicted.degrees.max()}, depth {options.depth}")
        print(f"  eigenvalues by place: rank correlation {rho:.3f}, median ratio {np.median(values / measured):.2f}")
        functions = np.asarray(predicted.functions(x), float)
        functions = functions / np.sqrt(np.mean(functions**2, 0))
        quotients = np.sum(functions * (kernel.operator(x) @ functions), 0) / len(x) ** 2
        for degree in (None, *np.unique(predicted.degrees)):
            kept = np.ones(NUM_MODES, bool) if degree is None else predicted.degrees == degree
            rho = scipy.stats.spearmanr(values[kept], quotients[kept]).statistic if kept.sum() > 2 else np.nan
            ratio = np.median(values[kept] / quotients[kept])
            what = "all" if degree is None else f"degree {degree}"
            print(f"  Rayleigh quotients, {what}, {kept.sum()}: rank correlation {rho:.3f}, median ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
