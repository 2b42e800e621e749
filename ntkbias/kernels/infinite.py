"""The NTK and the NNGP kernel of a network in the limit of infinite width.

The NNGP kernel is the covariance of the outputs over random parameters (Lee et al. 2018). The NTK is the limit of the
empirical NTK, and stays constant during training (Jacot et al. 2018). Each layer propagates the covariance
(`Layer.propagate`); this module runs the layers of a net on blocks of inputs.

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
from ntkbias.kernels.outputs import for_independent_outputs, num_entries
from ntkbias.kernels.tiles import in_one_program
from ntkbias.layers import Covariance, Layer, Needs, split_fixed
from ntkbias.memory import checked_memory_budget
from ntkbias.types import Outputs

__all__ = ["InfiniteKernel", "infinite_nngp", "infinite_ntk"]

LIVE_ARRAYS = 8  # arrays of a tile's size that are alive at once in the layer with the most temporaries
CACHED = 2**16  # entries of a tile on a CPU, whose arrays then stay in the cache from layer to layer
CACHED_PAIRS = 3 * 2**12  # the same if a pair of inputs has one entry: as fast, and a tile is tiny beside the result
UNCACHED = 2**26  # entries of a tile on an accelerator, which needs many at once to be busy
LONGEST = 2**30  # entries of a block: about ten seconds on a CPU, to show progress and to lose little if stopped


def infinite_ntk(net: Layer, *, outputs: Outputs = "mean", memory_budget: int | None = None) -> "InfiniteKernel":
    """The neural tangent kernel of `net` in the limit of infinite hidden widths.

    Outputs are independent and identically distributed: "mean" is the kernel of one output `(n, m)`, "sum" is o times
    it, "each" repeats it `(o, n, m)`, and "all" `(n, o, m, o)` has it at equal outputs and zeros elsewhere. Costs a
    few tens of operations per pair of inputs, layer, and position (with Flatten) or pair of positions (with pooling).
    `memory_budget` bounds the bytes of one block (default: a quarter of the device's memory). In the standard
    parameterization each layer's term is multiplied by its fan-in, so the widths in `net` matter.

    Under muP this is the kernel at initialization only: it says how outputs begin to move under gradient descent of a
    rate that does not depend on the width, and changes as features move, at every width. With equal widths it is the
    NTK of the NTK parameterization; in general each hidden layer's term is multiplied by its fan-out over the fan-in of
    the readout.

    >>> import ntkbias as nb
    >>> infinite_ntk(nb.nets.mlp(depth=1))(jnp.eye(3)).shape
    (3, 3)
    """
    return _infinite(net, "ntk", outputs, memory_budget)


def infinite_nngp(net: Layer, *, outputs: Outputs = "mean", memory_budget: int | None = None) -> "InfiniteKernel":
    """The covariance of the outputs of `net` over its random parameters, in the limit of infinite hidden widths.

    Arguments, costs and errors are those of `infinite_ntk`. Kernel regression with it is Bayesian inference under the
    network's prior. It is also the result of training only the last layer. Under muP outputs vanish at initialization
    as width^-1/2: this is their covariance at the widths in `net`, to first order in 1 / width.

    >>> import ntkbias as nb
    >>> infinite_nngp(nb.nets.mlp(depth=1))(jnp.eye(3), jnp.ones((2, 3))).shape
    (3, 2)
    """
    return _infinite(net, "nngp", outputs, memory_budget)


class InfiniteKernel(Kernel):
    """The NTK or NNGP of an infinitely wide network; made by `infinite_ntk` and `infinite_nngp`.

    >>> import ntkbias as nb
    >>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
    >>> isinstance(kernel, nb.kernels.InfiniteKernel), kernel.outputs
    (True, 'mean')
    """

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
        """The number of entries in the covariance of two inputs, and the number of inputs per side of a tile."""
        positions = math.prod(x.shape[1:-1]) ** self.net.needs(Needs()).cross
        entries = UNCACHED
        if jax.default_backend() == "cpu":
            entries = CACHED if positions > 1 else CACHED_PAIRS
        by_memory = self.memory_budget // (LIVE_ARRAYS * x.dtype.itemsize)
        return positions, max(1, math.isqrt(min(entries, by_memory) // positions))

    def features(self, x: Array) -> Array:
        """The inputs after the fixed (untrained) layers at the start of the network."""
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
        return for_independent_outputs(gram, net.output_shape(features1.shape[1:])[0], self.outputs)


def _infinite(net: Layer, kind: str, outputs: Outputs, memory_budget: int | None) -> InfiniteKernel:
    if not isinstance(net, Layer):
        raise InputTypeError(
            f"Expected a network made of ntkbias layers, e.g. nets.mlp(); got {type(net).__name__}. "
            "For other functions f(params, x) use empirical_ntk."
        )
    require_choice("outputs", outputs, Outputs)
    return InfiniteKernel(outputs, net, kind, checked_memory_budget(memory_budget))
