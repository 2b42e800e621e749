"""Linearized networks, which follow the kernel's theory exactly, and lazy networks, which tend to it.

    linearize    f0(x) + J(x) (params - params0). Its kernel is constant, so at any width its training by gradient
                 descent follows `gradient_descent` to rounding (Lee et al. 2019, arXiv 1902.06720).
    lazy         alpha (f - f0), with the loss divided by alpha^2. As alpha grows, f has to move less, and its training
                 tends to that of its linearization (Chizat, Oyallon and Bach 2019, arXiv 1812.07956).

Both are functions of (params, x) and work with optax or any other training loop.

>>> import jax, jax.numpy as jnp, optax, ntkbias as nb
>>> from ntkbias.learning import gradient_descent, linearize
>>> net = nb.nets.mlp(width=32, depth=1, b_std=0.1)
>>> x, _ = nb.domains.Circle().quadrature(8)
>>> params, y = net.init(jax.random.key(0), (2,)), x[:, :1] * x[:, 1:]
>>> model, optimizer = linearize(net.apply, params, centered=True), optax.sgd(0.1)
>>> moving, state = params, optimizer.init(params)
>>> for step in range(50):
...     updates, state = optimizer.update(jax.grad(model.loss)(moving, x, y), state)
...     moving = optax.apply_updates(moving, updates)
>>> predicted = gradient_descent(nb.empirical_ntk(net.apply, params), x, y, [50], 0.1).outputs[0]
>>> bool(jnp.allclose(model(moving, x), predicted, atol=1e-5))
True
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.compilation import Function
from ntkbias.errors import InputError, InputTypeError
from ntkbias.losses import mse
from ntkbias.parameters import is_complex
from ntkbias.tables import Described, name_of
from ntkbias.types import ApplyFunction, Params

__all__ = ["Lazy", "Linearized", "lazy", "linearize"]


class Linearized(Described):
    """The linearization of a network in its parameters: a function of (params, x), made by `linearize`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> line = nb.linearize(lambda p, x: x * p**2, jnp.array([1.0]), centered=True)
    >>> line(jnp.array([1.5]), jnp.ones((1, 1))).tolist()  # without its value at the start
    [[1.0]]
    """

    f: Function
    params: Params  # the point of the linearization
    centered: bool = eqx.field(static=True, default=False)

    def described(self) -> str:
        """One line that names the linearized function."""
        return f"linearization of {name_of(self.f)}"

    def __call__(self, params: Params, x: Array) -> Float[Array, "n ..."]:
        """The outputs for a batch, `(n, ...)`. Costs a forward pass and its forward-mode derivative.

        Raises `InputError` on params whose structure or shapes differ from those that were linearized.
        """
        _require_like(params, self.params)
        shift = jax.tree.map(jnp.subtract, params, self.params)
        value, change = jax.jvp(lambda p: self.f(p, x), (self.params,), (shift,))
        return change if self.centered else value + change

    def loss(self, params: Params, x: Array, y: Array) -> Float[Array, ""]:
        """The squared error, summed over outputs and averaged over inputs, times 1/2."""
        return _loss(self(params, x), y)


class Lazy(Described):
    """The scaled change of a network's outputs since its start: a function of (params, x), made by `lazy`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> lazy = nb.learning.lazy(lambda p, x: x * p**2, jnp.array([1.0]), scale=10.0)
    >>> lazy(jnp.array([1.1]), jnp.ones((1, 1))).round(3).tolist()  # 10 * (1.1^2 - 1)
    [[2.1]]
    """

    f: Function
    params: Params  # the start, at which the outputs are zero
    scale: float | Array

    def described(self) -> str:
        """One line that names the function and its scale."""
        return f"{self.scale:.4g} * ({name_of(self.f)} less its start)"

    def __call__(self, params: Params, x: Array) -> Float[Array, "n ..."]:
        """The outputs for a batch, `(n, ...)`. Costs two forward passes."""
        return self.scale * (self.f(params, x) - self.f(jax.lax.stop_gradient(self.params), x))

    def loss(self, params: Params, x: Array, y: Array) -> Float[Array, ""]:
        """The squared error, summed over outputs, averaged over inputs, times 1 / (2 scale^2): f keeps its speed."""
        return _loss(self(params, x), y) / self.scale**2


def linearize(f: ApplyFunction, params: Params, *, centered: bool = False) -> Linearized:
    """f0(x) + J(x) (params - params0) as a function of (params, x), by one forward-mode derivative; J is never formed.

    `centered` leaves f0 out, so that training starts from zero outputs. The empirical NTK of the result is that of f at
    `params`, for any parameters. `gradient_descent` with that kernel therefore predicts its training exactly. JAX
    compiles again for every new lambda f.

    Raises `InputTypeError` if f is not a function, or if params are not all arrays of real floating-point numbers.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> start = jnp.array([1.0])
    >>> line = nb.linearize(lambda p, x: x * p**2, start)
    >>> line(jnp.array([1.5]), jnp.ones((1, 1))).tolist()  # 1 + 2 * (1.5 - 1)
    [[2.0]]
    """
    return Linearized(*_checked(f, params), centered)


def lazy(f: ApplyFunction, params: Params, scale: float) -> Lazy:
    """scale * (f - f0) as a function of (params, x), whose `loss` is divided by scale^2.

    Its kernel is scale^2 times that of f, and the division of the loss compensates for it. Rates of learning therefore
    do not depend on the scale. The distance that parameters move falls as 1 / scale. If a training loop uses its own
    loss, divide the learning rate by scale^2.

    Raises `InputTypeError` as `linearize` does, and `InputError` on a scale that is not above zero.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> lazy = nb.learning.lazy(lambda p, x: x * p**2, jnp.array([1.0]), scale=10.0)
    >>> lazy(jnp.array([1.0]), jnp.ones((1, 1))).tolist()  # it begins at zero
    [[0.0]]
    """
    if jnp.ndim(scale) or not scale > 0:
        raise InputError(f"Expected a scale above zero; got {scale!r}.")
    return Lazy(*_checked(f, params), scale)


def _require_like(params: Params, own: Params) -> None:
    """Raise an `InputError` unless both trees have the same leaves, of the same shapes."""
    theirs, ours = (
        {jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
        for tree in (params, own)
    )
    for path in (*ours, *theirs):
        if theirs.get(path) != ours.get(path):
            got, asked = (f"shape {tree[path]}" if path in tree else "none" for tree in (theirs, ours))
            raise InputError(
                f"Expected params like those that were linearized, {asked} at {path or 'the root'}; got {got}. Start "
                "from them, as linearize(f, params).params."
            )
    structures: list[Any] = [jax.tree.structure(tree) for tree in (own, params)]
    if structures[0] != structures[1]:
        raise InputTypeError(
            f"Expected params like those that were linearized, {structures[0]}; got {structures[1]}. Start from them, "
            "as linearize(f, params).params."
        )


def _loss(outputs: Array, y: Array) -> Array:
    if outputs.shape != y.shape:  # (n, 1) minus (n,) would broadcast to (n, n)
        raise InputError(f"Expected targets of the shape of the outputs, {outputs.shape}; got {y.shape}. Reshape them.")
    return mse(outputs, jnp.asarray(y))


def _checked(f: ApplyFunction, params: Params) -> tuple[Function, Params]:
    if not callable(f):
        raise InputTypeError(f"Expected a function f(params, x); got {type(f).__name__}.")
    params = jax.tree.map(jnp.asarray, params)
    leaves = jax.tree.leaves(params)
    if any(is_complex(leaf) for leaf in leaves):
        raise InputTypeError(
            "Expected real params; got complex ones. Keep the real and imaginary parts as separate parameters, and "
            "combine them in f by jax.lax.complex."
        )
    if not leaves or not all(jnp.issubdtype(leaf.dtype, jnp.floating) for leaf in leaves):
        raise InputTypeError(
            "Expected params to be a pytree of floating-point arrays; got no arrays, or arrays of other types among "
            "them. Pass the others to f by functools.partial."
        )
    return Function.of(f), params
