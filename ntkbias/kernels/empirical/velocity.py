"""The derivative of the empirical NTK along a direction of the parameters.

    d/dt K(x, x'; params + t direction)  at t = 0       (a Jacobian-vector product of the kernel, exact)

If the direction is the negative gradient of a loss, the derivative is the kernel's velocity under gradient flow. It is
zero for a linear model, and of order 1 / width for a wide network in the NTK parameterization (Huang and Yau 2020,
arXiv 1909.08156).

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=8, depth=1)
>>> params = net.init(jax.random.key(0), (2,))
>>> velocity = nb.ntk_velocity(net.apply, params, direction=params)   # all weights grow in proportion
>>> x = jnp.eye(2)
>>> degree = velocity(x) / nb.empirical_ntk(net.apply, params)(x)
>>> print(degree[0, 0].round(4))                 # the kernel of two layers of weights is homogeneous of degree 2
2.0
"""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import require_array, require_finite
from ntkbias.errors import InputError
from ntkbias.function import split_params
from ntkbias.kernels.empirical.ntk import EmpiricalNTK, empirical_ntk
from ntkbias.kernels.form import SymmetricForm
from ntkbias.packing import Layout
from ntkbias.parameters import Which, is_complex, with_real_params
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["VelocityForm", "ntk_velocity"]


def ntk_velocity(
    f: ApplyFunction,
    params: Params,
    direction: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> "VelocityForm":
    """The derivative of the empirical NTK of `f` at `params` along `direction`, a pytree like `params`.

    All parameters move along the direction, including those that `wrt` excludes from the kernel.

    The result is a `SymmetricForm` and not a kernel, because its Gram matrix has negative eigenvalues. You can call it,
    multiply by `operator(x)` and store it by `gram_on_disk`. Functions that need a kernel, such as `spectrum`, refuse
    it. It costs about three times as much as the kernel, and twice the memory.

    The other arguments are those of `empirical_ntk`. Raises `InputError` as `empirical_ntk` does, and if `direction`
    has another structure or other shapes than `params`. The result raises `InputError` at its first inputs if `f` has a
    `custom_vjp`, which JAX cannot differentiate in forward mode.

    >>> f, params = lambda params, x: jnp.sin(x @ params), jnp.ones(2)
    >>> velocity = ntk_velocity(f, params, direction=params)
    >>> velocity(jnp.eye(2)).shape
    (2, 2)
    """
    kernel = empirical_ntk(f, params, outputs=outputs, memory_budget=memory_budget, precision=precision, wrt=wrt)
    wanted, given = str(jax.tree.structure(params)), str(jax.tree.structure(direction))
    if wanted != given:
        raise InputError(f"Expected direction to be a pytree like params, {wanted}; got {given}.")
    direction = jax.tree.map(lambda leaf, part: part + 0j if is_complex(leaf) else part, params, direction)
    direction = with_real_params(f, direction)[1]
    tangents = []
    for (path, leaf), part in zip(
        jax.tree_util.tree_leaves_with_path(kernel.gradients.params), jax.tree.leaves(direction), strict=True
    ):
        name = f"direction{jax.tree_util.keystr(path)}"
        array = require_array(part, name)
        if array.shape != leaf.shape:
            raise InputError(f"Expected {name} to have the shape of its parameter, {leaf.shape}; got {array.shape}.")
        require_finite(array, name)
        tangents.append(jnp.asarray(array, leaf.dtype))
    return VelocityForm(outputs, kernel, jax.tree.unflatten(jax.tree.structure(kernel.gradients.params), tangents))


class VelocityForm(SymmetricForm):
    """The derivative of an empirical NTK along a direction. A symmetric form, not a kernel; `ntk_velocity` makes it.

    >>> import jax, ntkbias as nb
    >>> velocity = nb.ntk_velocity(lambda p, x: jax.numpy.sin(x @ p), jax.numpy.ones(2), direction=jax.numpy.ones(2))
    >>> isinstance(velocity, nb.Kernel), velocity(jax.numpy.eye(2)).shape
    (False, (2, 2))
    """

    no_kernel = "whose Gram matrix has negative eigenvalues; use jax.numpy.linalg.eigh(velocity(x))"
    kernel: EmpiricalNTK
    direction: Params
    form = "derivative of the {0.kernel}"

    def features(self, x: Array) -> tuple[Any, Any]:
        """The features of the kernel, and their derivative."""
        gradients = self.kernel.gradients
        chosen, merge = split_params(gradients.params)
        tangents, _ = split_params(self.direction)
        return jax.jvp(lambda chosen: gradients.at(merge(chosen)).features(x), (chosen,), (tangents,))

    def contract(self, features1: tuple[Any, Any], features2: tuple[Any, Any] | None) -> Array:
        values, tangents = zip(*((features1,) if features2 is None else (features1, features2)), strict=True)
        return jax.jvp(lambda left, right=None: self.kernel.contract(left, right), values, tangents)[1]

    def block_rows(self, x: Array) -> int:
        return max(1, self.kernel.block_rows(x) // 2)

    def pass_rows(self, x: Array) -> int:
        return max(1, self.kernel.pass_rows(x) // 2)

    def packed(self, layout: Layout) -> "VelocityForm":
        return VelocityForm(self.outputs, self.kernel.packed(layout), self.direction)

    def unpacked(self, x: Any) -> Any:
        return self.kernel.unpacked(x)

    def check(self, x: Array, name: str) -> None:
        self.kernel.check(x, name)
        try:
            jax.jit(lambda x: self.features(x)).lower(x[:1])  # tracing is where JAX detects it
        except TypeError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"Expected the gradient of f(params, x) to be differentiable in forward mode; got: {reason} "
                "Write a custom derivative as a custom_jvp."
            ) from error
