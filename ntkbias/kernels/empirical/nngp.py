"""The products of the outputs of one network with given parameters: a one-sample estimate of its NNGP kernel.

    K(x, x')[a, b] = f_a(x) f_b(x')

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=32, depth=2, num_outputs=3)
>>> kernel = empirical_nngp(net.apply, net.init(jax.random.key(0), (2,)), outputs="all")
>>> kernel(jnp.ones((4, 2))).shape
(4, 3, 4, 3)
"""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array

from ntkbias.checks import require_choice, widened
from ntkbias.compilation import Function
from ntkbias.function import checked_function, num_outputs, require_inputs
from ntkbias.kernels.gradients import square_rows
from ntkbias.kernels.kernel import Kernel
from ntkbias.kernels.outputs import inner_products
from ntkbias.memory import checked_memory_budget
from ntkbias.packing import Layout, of_packed, unpacked
from ntkbias.tables import name_of
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["EmpiricalNNGP", "empirical_nngp"]


def empirical_nngp(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
) -> "EmpiricalNNGP":
    """The kernel of products of the outputs of `f` at `params`; by default their mean over outputs, `(n, m)`.

    Its expectation over random parameters is the NNGP kernel (Lee et al. 2018). A single network with o outputs is a
    noisy estimate, with a relative error of about sqrt(2 / o). An f that returns the features of the last hidden layer
    gives a better one. Arguments and errors are those of `empirical_ntk`. Costs one forward pass and n^2 o
    multiplications.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params
    >>> empirical_nngp(f, jnp.ones((2, 1)))(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[9.0, 21.0], [21.0, 49.0]]
    """
    require_choice("outputs", outputs, Outputs)
    require_choice("precision", precision, Precision)
    function, params, _ = checked_function(f, params)
    return EmpiricalNNGP(outputs, function, params, checked_memory_budget(memory_budget), precision)


class EmpiricalNNGP(Kernel):
    """The products of a network's outputs as a kernel; made by `empirical_nngp`.

    >>> import jax, ntkbias as nb
    >>> kernel = nb.empirical_nngp(lambda params, x: x @ params, jax.numpy.ones((2, 1)))
    >>> isinstance(kernel, nb.kernels.EmpiricalNNGP), kernel(jax.numpy.eye(2)).tolist()
    (True, [[1.0, 1.0], [1.0, 1.0]])
    """

    f: Function
    params: Params
    memory_budget: int = eqx.field(static=True)
    precision: Precision = eqx.field(static=True)

    def described(self) -> str:
        count = sum(np.size(leaf) for leaf in jax.tree.leaves(self.params))
        return f'empirical NNGP of {name_of(self.f)}, {count:,} parameters, outputs "{self.outputs}"'

    def check(self, x: Array, name: str) -> None:
        """Raise an `InputError` unless `f` takes the inputs, returns one array, and treats each example alone."""
        require_inputs(self.f, self.params, x, name)

    def packed(self, layout: Layout) -> "EmpiricalNNGP":
        return dataclasses.replace(self, f=of_packed(self.f, layout))

    def unpacked(self, x: Any) -> Any:
        return unpacked(self.f, x)

    def num_outputs(self, x: Array) -> int:
        """The number of outputs of `f` per example: the product of all output axes after the batch axis."""
        return num_outputs(self.f, self.params, x)

    def block_rows(self, x: Array) -> int:
        return square_rows(self.memory_budget, self.num_outputs(x), self.outputs)

    def features(self, x: Array) -> Array:
        with jax.default_matmul_precision(self.precision):
            return widened(self.f(self.params, x)).reshape(len(x), -1, 1)

    def contract(self, features1: Array, features2: Array | None) -> Array:
        with jax.default_matmul_precision(self.precision):
            products = inner_products(features1, features1 if features2 is None else features2, self.outputs)
        return products / features1.shape[1] if self.outputs == "mean" else products
