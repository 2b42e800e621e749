"""The neural tangent kernel of one network with given parameters, for any function f(params, x).

    K(x, x')[a, b] = <d f_a(x) / d params, d f_b(x') / d params>      (Jacot et al. 2018, arXiv 1806.07572)

`outputs` says what becomes of the outputs a, b, whose axes are flattened to `o`: "mean" (the mean of the diagonal a =
b, as neural-tangents' trace_axes), "sum" (the trace over outputs, as torch.func's 'trace'), "each" (the diagonal),
"all".

>>> import jax, ntkbias as nb
>>> net = nb.nets.mlp(width=32, depth=2, num_outputs=3)
>>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)), outputs="all")
>>> kernel(jax.numpy.ones((4, 2))).shape
(4, 3, 4, 3)
"""

from typing import Any

import numpy as np
from jaxtyping import Array

from ntkbias.kernels.blame import blamed
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.kernel import Kernel
from ntkbias.kernels.operators import Jacobian, JacobianOperator, KernelOperator, Source
from ntkbias.packing import Layout, unpacked
from ntkbias.parameters import Which
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["EmpiricalNTK", "empirical_ntk"]


def empirical_ntk(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> "EmpiricalNTK":
    """The empirical neural tangent kernel of `f` at `params`.

    `f(params, x)` maps `(n, ...)` to `(n, ...)` and does not mix examples. Where it computes in a narrower type than
    its parameters', gradients are contracted in the parameters' type. `params` is a pytree of floating-point or complex
    arrays.
    `memory_budget` bounds the bytes of one block's Jacobians (default: a quarter of the device's memory); it does not
    hold the result. With P parameters, n^2 o P / 2 multiplications for "mean", "sum" and "each", o times that for
    "all", and (n / rows of a block) times n o backward passes.

    `precision` is that of matrix products and convolutions, also inside `f`, where f does not ask for another: on
    accelerators "high" takes TensorFloat-32 or three bfloat16 passes, and "default" what is fastest there, of as few
    as 8 bits. Sums are accumulated in float32. On a CPU all of them are float32.

    `wrt` says which parameters count: a path as `jax.tree_util.keystr` writes it, or the beginning of some
    ("['head']"), a list of them, a predicate of the path, or a pytree like `params` of True and False. The others may
    be of any type.

    Inputs are an array, or a pytree of arrays with the examples on their first axes, as `f` takes it. A complex
    parameter counts as its real and imaginary parts, two real ones. Complex outputs count as real ones, twice as many:
    all real parts, then all imaginary ones. That is the kernel by which f trains; see `holomorphic_ntk` for J J^H.

    `f` has to be pure: it is traced once, and what it read then from elsewhere is kept. A kernel built with a fresh
    lambda compiles again; pass one function to keep its program. Under `jit` and `vmap`
    each block becomes part of the surrounding program.

    Raises `InputError` if `params` hold NaN, nothing, or other than floating-point numbers.
    """
    return EmpiricalNTK(Gradients.of(f, params, outputs, precision, memory_budget, wrt))


class EmpiricalNTK(Kernel):
    """The inner products of a network's gradients as a kernel; made by `empirical_ntk`."""

    gradients: Gradients

    def __init__(self, gradients: Gradients) -> None:
        self.outputs = gradients.outputs
        self.gradients = gradients

    def described(self) -> str:
        return f"empirical NTK of {self.gradients.described()}"

    def check(self, x: Array, name: str) -> None:
        """Find out whether `f` accepts the inputs one by one, and depends on the parameters that count."""
        self.gradients.check(x, name)

    def packed(self, layout: Layout) -> "EmpiricalNTK":
        return EmpiricalNTK(self.gradients.packed(layout))

    def unpacked(self, x: Any) -> Any:
        return unpacked(self.gradients.f, x)

    def num_outputs(self, x: Array) -> int:
        """The number of outputs of `f` for one input, its axes multiplied."""
        return self.gradients.num_outputs(x)

    def features(self, x: Array) -> dict[str, Factor] | Array:
        """What each parameter's part of the kernel is made of, by its path; the inputs where outputs are too many."""
        return x if self.gradients.outputs_at_once(x) is not None else self.gradients.features(x)

    def contract(self, features1: Any, features2: Any | None) -> Array:
        if isinstance(features1, dict):
            return self.gradients.contract(features1, features2)
        count = self.gradients.outputs_at_once(features1) or 1
        return self.gradients.contract_some_at_a_time(features1, features2, count)

    def blamed(self, *sides: Any) -> str:
        return blamed(self.gradients, *sides)

    def block_rows(self, x: Array) -> int:
        return self.gradients.block_rows(x)

    def pass_rows(self, x: Array) -> int:
        return self.gradients.pass_rows(x)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        return JacobianOperator(Jacobian(self.gradients, x), self, num_products=num_products, source=source)
