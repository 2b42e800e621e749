"""How fast is the empirical NTK, beside the plain Jacobian product and beside the matrix products that it cannot avoid?

Claim: reading how a network uses its parameters makes the kernel faster than forming the Jacobian, and never slower.
Three things run in turn, in one process, on the same inputs, and the first two are checked against each other:

- ours: `empirical_ntk(f, params)(x)`;
- Jacobian: `jax.vmap(jax.jacrev(f))` on all examples, one matrix product a parameter (torch.func's recipe, in JAX);
- floor: one forward pass, one backward pass an output, and the cheapest contraction that `explain_ntk` counts, as one
  bare matrix product of as many operations.

    python benchmarks/empirical_ntk.py [--repeats 3]
"""

import argparse
import functools
import platform
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp

import ntkbias as nb

CASES = {  # name -> net, number of examples, shape of one
    "mlp 256 x 3, 1 output": (nb.nets.mlp(256, 3, 1), 512, (64,)),
    "mlp 256 x 3, 10 outputs": (nb.nets.mlp(256, 3, 10), 128, (64,)),
    "mlp 1024 x 3, 1 output": (nb.nets.mlp(1024, 3, 1), 256, (64,)),
    "cnn flatten 3 x 32, 1 output": (nb.nets.cnn(32, 3, 1), 256, (16, 16, 3)),
    "cnn flatten 3 x 32, 10 outputs": (nb.nets.cnn(32, 3, 10), 64, (16, 16, 3)),
    "cnn pooled 3 x 32, 1 output": (nb.nets.cnn(32, 3, 1, readout="pool"), 256, (16, 16, 3)),
    "cnn pooled 3 x 32, 10 outputs": (nb.nets.cnn(32, 3, 10, readout="pool"), 64, (16, 16, 3)),
}


@functools.partial(jax.jit, static_argnums=0)
def jacobian_product(f: Callable, params: object, x: jax.Array) -> jax.Array:
    """The kernel's mean over outputs, by the Jacobian of every example."""

    def outputs(params: object, example: jax.Array) -> jax.Array:
        return jnp.ravel(f(params, example[None]))

    leaves = jax.tree.leaves(jax.vmap(jax.jacrev(outputs), (None, 0))(params, x))
    num_outputs = leaves[0].shape[1]
    rows = [leaf.reshape(len(x), -1) for leaf in leaves]
    return sum(jnp.matmul(row, row.T, precision="highest") for row in rows) / num_outputs


def multiplications(net: nb.layers.Layer, params: object, x: jax.Array, num_outputs: int) -> float:
    """What the kernel needs at least: passes through the network, and the contraction of one half of the matrix."""
    analysis = jax.jit(net.apply).lower(params, x[:1]).compile().cost_analysis()
    forward = float((analysis[0] if isinstance(analysis, list) else analysis)["flops"]) / 2
    factors = jax.eval_shape(nb.empirical_ntk(net.apply, params).features, x)
    contraction = sum(factor.operations(len(x), "mean") for factor in factors.values()) / 2
    return len(x) * forward * (1 + num_outputs) + contraction


def bare_product(count: float) -> Callable[[], jax.Array]:
    """A square matrix product with this many multiplications."""
    size = max(8, round(count ** (1 / 3)))
    a = jax.random.normal(jax.random.key(0), (size, size))
    multiply = jax.jit(lambda a: jnp.matmul(a, a, precision="highest"))
    return lambda: multiply(a)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    repeats = parser.parse_args().repeats
    print(
        f"{platform.machine()}, {jax.devices()[0].device_kind}, jax {jax.__version__}; median of {repeats}, in turn\n"
    )
    print(f"{'case':32}{'n':>5}{'ours':>10}{'Jacobian':>11}{'ratio':>8}{'floor':>10}{'ratio':>8}{'difference':>12}")
    speedups = []
    for name, (net, n, shape) in CASES.items():
        params = net.init(jax.random.key(0), shape)
        x = jax.random.normal(jax.random.key(1), (n, *shape))
        kernel = nb.empirical_ntk(net.apply, params)
        num_outputs = net.output_shape(shape)[0]
        works = [
            functools.partial(kernel, x),
            functools.partial(jacobian_product, net.apply, params, x),
            bare_product(multiplications(net, params, x, num_outputs)),
        ]
        results = [jax.block_until_ready(work()) for work in works]
        times: list[list[float]] = [[] for _ in works]
        for _ in range(repeats):
            for work, taken in zip(works, times, strict=True):
                start = time.perf_counter()
                jax.block_until_ready(work())
                taken.append(time.perf_counter() - start)
        ours, jacobian, floor = (statistics.median(taken) for taken in times)
        difference = float(jnp.max(jnp.abs(results[0] - results[1])) / jnp.max(jnp.abs(results[1])))
        assert difference < 1e-4, f"{name}: ours and the Jacobian product differ by {difference}"
        speedups.append(jacobian / ours)
        print(
            f"{name:32}{n:5}{ours:9.3f}s{jacobian:10.3f}s{jacobian / ours:7.1f}x"
            f"{floor:9.3f}s{ours / floor:7.1f}x{difference:12.1e}"
        )
    print(f"\ngeometric mean over the Jacobian product: {statistics.geometric_mean(speedups):.1f} times faster")


if __name__ == "__main__":
    main()
