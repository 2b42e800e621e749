"""The neural tangent kernel of one network with given parameters, for any function f(params, x).

    K(x, x')[a, b] = <d f_a(x) / d params, d f_b(x') / d params>      (Jacot et al. 2018, arXiv 1806.07572)

The axes of the outputs a, b are flattened to `o`. `outputs` says how they are reduced: "mean" (the mean of the
diagonal a = b, as neural-tangents' trace_axes), "sum" (the trace over outputs, as torch.func's 'trace'), "each" (the
diagonal), or "all" (no reduction).

>>> import jax, ntkbias as nb
>>> net = nb.nets.mlp(width=32, depth=2, num_outputs=3)
>>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)), outputs="all")
>>> kernel(jax.numpy.ones((4, 2))).shape
(4, 3, 4, 3)
"""

from typing import Any

import numpy as np
from jaxtyping import Array

from ntkbias.kernels.blame import nonfinite_reason
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

    `f(params, x)` maps `(n, ...)` to `(n, ...)` and treats each example alone. `params` is a pytree of floating-point
    or complex arrays. If f computes in a narrower type than its parameters, gradients are still contracted in the type
    of the parameters, in float32 at least. With o outputs the kernel is `(n, m)` for "mean" and "sum", `(o, n, m)` for
    "each" and `(n, o, m, o)` for "all".

    `memory_budget` bounds the bytes of one block's Jacobians (default: a quarter of the device's memory). The result is
    held in addition. Costs up to about n^2 o P / 2 multiplications for P parameters (o times as many for "all"), and
    n o backward passes for each row of blocks. `explain_ntk` says how each parameter is contracted.

    `precision` is that of matrix products and convolutions, also inside `f` if f does not set its own. On accelerators
    "high" uses TensorFloat-32 or three bfloat16 passes, and "default" the fastest way, with as few as 8 bits; sums are
    accumulated in float32. On a CPU all of them are float32.

    `wrt` selects the parameters to differentiate by: a path as `jax.tree_util.keystr` writes it, the prefix of several
    paths ("['head']"), a list of these, a predicate of a path, or a pytree like `params` of True and False. The other
    parameters may be arrays or numbers of any type.

    Inputs are an array, or a pytree of arrays with the examples on their first axes, as `f` takes them. A complex
    parameter counts as two real ones, its real and imaginary parts. Complex outputs count as twice as many real ones:
    all real parts, then all imaginary parts. This is the kernel that governs training; `holomorphic_ntk` is J J^H.

    `f` has to be pure: it is traced once, and keeps the values that it read from outside at that time. Programs are
    kept per function, so a fresh lambda compiles again. Under `jit` and `vmap` each block becomes part of the
    surrounding program.

    Raises `InputError` if `params` is empty or holds NaN, and if a selected parameter is not floating-point or complex.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: x @ params  # linear, so that its NTK is x1 @ x2.T
    >>> empirical_ntk(f, jnp.ones((2, 1)))(jnp.array([[1.0, 2.0], [3.0, 4.0]])).tolist()
    [[5.0, 11.0], [11.0, 25.0]]
    """
    return EmpiricalNTK(Gradients.of(f, params, outputs, precision, memory_budget, wrt))


class EmpiricalNTK(Kernel):
    """The inner products of a network's gradients as a kernel; made by `empirical_ntk`.

    >>> import jax, ntkbias as nb
    >>> kernel = nb.empirical_ntk(lambda params, x: x @ params, jax.numpy.ones((2, 1)))
    >>> isinstance(kernel, nb.kernels.EmpiricalNTK), isinstance(kernel, nb.Kernel)
    (True, True)
    """

    gradients: Gradients

    def __init__(self, gradients: Gradients) -> None:
        self.outputs = gradients.outputs
        self.gradients = gradients

    def described(self) -> str:
        return f"empirical NTK of {self.gradients.described()}"

    def check(self, x: Array, name: str) -> None:
        """Raise an `InputError` unless `f` treats each input alone, and depends on a selected parameter."""
        self.gradients.check(x, name)

    def packed(self, layout: Layout) -> "EmpiricalNTK":
        return EmpiricalNTK(self.gradients.packed(layout))

    def unpacked(self, x: Any) -> Any:
        return unpacked(self.gradients.f, x)

    def num_outputs(self, x: Array) -> int:
        """The number of outputs of `f` per example: the product of all output axes after the batch axis."""
        return self.gradients.num_outputs(x)

    def features(self, x: Array) -> dict[str, Factor] | Array:
        """The factor of each parameter's gradient, by path; the inputs themselves if outputs are taken in groups."""
        return x if self.gradients.outputs_at_once(x) is not None else self.gradients.features(x)

    def contract(self, features1: Any, features2: Any | None) -> Array:
        if isinstance(features1, dict):
            return self.gradients.contract(features1, features2)
        count = self.gradients.outputs_at_once(features1) or 1
        return self.gradients.contract_by_output_range(features1, features2, count)

    def nonfinite_reason(self, *sides: Any) -> str:
        return nonfinite_reason(self.gradients, *sides)

    def block_rows(self, x: Array) -> int:
        return self.gradients.block_rows(x)

    def pass_rows(self, x: Array) -> int:
        return self.gradients.pass_rows(x)

    def _operator(self, x: np.ndarray, source: Source, num_products: int) -> KernelOperator:
        return JacobianOperator(Jacobian(self.gradients, x), self, num_products=num_products, source=source)
