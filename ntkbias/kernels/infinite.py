"""The kernels of a network whose hidden layers are infinitely wide.

The NNGP is the covariance of the outputs over random parameters (Lee et al. 2018); the NTK is the limit of the
empirical one, which stays constant in training (Jacot et al. 2018). A layer says how it carries the covariance
(`Layer.propagate`); here the layers of a net are run, by blocks of inputs.

>>> import jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(depth=1)
>>> x = jnp.sqrt(2.0) * jnp.eye(2)           # <x, x> / d = 1
>>> print(nb.infinite_nngp(net)(x)[0, 0], nb.infinite_ntk(net)(x)[0, 0])
0.5 1.0
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import require_choice, widened
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.kernel import Kernel
from ntkbias.kernels.outputs import num_entries, of_independent
from ntkbias.kernels.tiles import in_one_program
from ntkbias.layers import Covariance, Layer, Needs, split_fixed
from ntkbias.memory import checked_memory_budget
from ntkbias.types import Outputs

__all__ = ["InfiniteKernel", "infinite_nngp", "infinite_ntk"]

LIVE_ARRAYS = 8  # of a tile's entries at once, where a layer's temporaries are largest
CACHED = 2**16  # entries of a tile on a CPU: its arrays stay in the cache from layer to layer
CACHED_PAIRS = 3 * 2**12  # where a pair of inputs is one entry: as fast, and next to nothing beside the result
UNCACHED = 2**26  # and on an accelerator, which needs many at once to be busy
LONGEST = 2**30  # entries of a block: some ten seconds on a CPU, so that progress shows and little is lost


def infinite_ntk(net: Layer, *, outputs: Outputs = "mean", memory_budget: int | None = None) -> "InfiniteKernel":
    """The neural tangent kernel of `net` as its hidden widths go to infinity.

    Outputs are independent and alike: "mean" is the kernel of each, "sum" is o times it, "each" repeats it and "all"
    has it at equal outputs and zeros elsewhere. Costs a few tens of operations a pair of inputs, a layer and a
    position (flatten) or pair of positions (pool). `memory_budget` bounds the bytes of one block (default: a quarter
    of the device's memory). In the standard parameterization each layer's term is multiplied by its fan-in, so the
    widths in `net` matter.
    """
    return _infinite(net, "ntk", outputs, memory_budget)


def infinite_nngp(net: Layer, *, outputs: Outputs = "mean", memory_budget: int | None = None) -> "InfiniteKernel":
    """The covariance of the outputs of `net` over its random parameters, as its hidden widths go to infinity.

    Arguments, costs and errors are those of `infinite_ntk`. Kernel regression with it is Bayesian inference with the
    network's prior, or training of the last layer alone.
    """
    return _infinite(net, "nngp", outputs, memory_budget)


class InfiniteKernel(Kernel):
    """The NTK or NNGP of an infinitely wide network; made by `infinite_ntk` and `infinite_nngp`."""

    net: Layer
    kind: str = eqx.field(static=True)
    memory_budget: int = eqx.field(static=True)

    def described(self) -> str:
        return f'infinite {self.kind.upper()} of {self.net.described()}, outputs "{self.outputs}"'

    def check(self, x: Array, name: str) -> None:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InputTypeError(f"Expected floating-point inputs in {name}; got {x.dtype}. Use x.astype(float).")
        shape = self.net.output_shape(x.shape[1:])
        if len(shape) != 1:
            raise InputError(
                f"Expected a network whose outputs are (n, o); got outputs of shape {shape} for one input of {name}. "
                "End it with Flatten or GlobalAvgPool and a Dense layer."
            )

    def block_rows(self, x: Array) -> int:
        positions, _ = self._positions_and_tile_rows(x)
        entries = num_entries(self.net.output_shape(x.shape[1:])[0], self.outputs)
        by_memory = self.memory_budget // (LIVE_ARRAYS * x.dtype.itemsize * entries)
        return max(1, math.isqrt(min(by_memory, LONGEST // positions)))

    def _positions_and_tile_rows(self, x: Array) -> tuple[int, int]:
        """How many entries the covariance of two inputs has, and how many inputs a side of a tile has."""
        positions = math.prod(x.shape[1:-1]) ** self.net.needs(Needs()).cross
        entries = UNCACHED
        if jax.default_backend() == "cpu":
            entries = CACHED if positions > 1 else CACHED_PAIRS
        by_memory = self.memory_budget // (LIVE_ARRAYS * x.dtype.itemsize)
        return positions, max(1, math.isqrt(min(entries, by_memory) // positions))

    def features(self, x: Array) -> Array:
        """The inputs, after the fixed maps that the network begins with."""
        fixed, _ = split_fixed(self.net)
        return fixed.apply([()] * len(fixed.layers), widened(x))

    def contract(self, features1: Array, features2: Array | None) -> Array:
        _, rows = self._positions_and_tile_rows(features1)
        _, net = split_fixed(self.net)
        needs = net.needs(Needs())

        def tile(x1: Array, x2: Array, same: Array | None) -> Array:
            covariance = net.propagate(Covariance.of_inputs(x1, x2, needs, same=same))
            kernel = getattr(covariance, self.kind)
            return jnp.zeros_like(covariance.nngp) if kernel is None else kernel

        gram = in_one_program(tile, features1, features2, rows)
        return of_independent(gram, net.output_shape(features1.shape[1:])[0], self.outputs)


def _infinite(net: Layer, kind: str, outputs: Outputs, memory_budget: int | None) -> InfiniteKernel:
    if not isinstance(net, Layer):
        raise InputTypeError(
            f"Expected a network made of ntkbias layers, e.g. nets.mlp(); got {type(net).__name__}. "
            "For any other function f(params, x) use empirical_ntk."
        )
    require_choice("outputs", outputs, Outputs)
    return InfiniteKernel(outputs, net, kind, checked_memory_budget(memory_budget))
