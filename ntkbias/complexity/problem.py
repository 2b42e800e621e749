"""Checked arguments of the measures: a network with its data and loss, rows of numbers, class labels.

The loss is a mean over inputs, E(params) = mean_i loss(f(params, x_i), y_i). It is summed over batches, so it takes the
memory of one batch.

>>> import jax.numpy as jnp
>>> from ntkbias.complexity.problem import Problem
>>> problem = Problem(lambda w, x: x @ w, jnp.ones((2, 1)), jnp.eye(2), jnp.zeros(2), "mse", 1)
>>> float(problem.value(problem.params)), float(problem.gradient(problem.params).sum())
(0.5, 1.0)
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_finite, require_positive, require_wide, widened
from ntkbias.compilation import Function, compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.function import RealOutputs, checked_function, require_inputs, split_params
from ntkbias.losses import Loss, LossFunction, checked_targets, named
from ntkbias.packing import Unpacking, packed
from ntkbias.parameters import Which
from ntkbias.types import ApplyFunction, Params

__all__ = ["Network", "Problem", "checked_inputs", "checked_labels", "checked_layers", "checked_rows"]


class Network:
    """A function f(params, x) with checked parameters and inputs x `(n, ...)`, in float32 or wider, read in batches."""

    def __init__(self, f: ApplyFunction, params: Params, x: Any, batch_size: int, wrt: Which | None = None) -> None:
        f, x = packed(f, x, "x")
        self.f, params, only = checked_function(f, params, wrt)
        self.params = jax.tree.map(widened, params)
        self.x = checked_inputs(x)
        require_finite(self.x, "x")
        require_positive("batch_size", batch_size)
        self.batch_size = batch_size
        require_inputs(self.f, self.params, self.x, "x")
        if only is not None:
            self.f, self.params = _of_some(self.f, self.params, only)

    def require_coordinates(self) -> None:
        """Raise an `InputError` if an input consists of several arrays and not of one array of coordinates."""
        if isinstance(self.f.f, Unpacking):
            raise InputError(
                f"Expected inputs x (n, ...) as one array of coordinates; got several arrays, {self.f.f.layout}."
            )

    @property
    def outputs(self) -> jax.ShapeDtypeStruct:
        """The shape and dtype of the outputs."""
        return jax.eval_shape(self.f, self.params, self.x)

    def values(self, x: Array) -> np.ndarray:
        """The outputs, on the host, for inputs x of the same shape as the network's own."""
        return np.concatenate([np.asarray(_outputs(self.f, self.params, x[rows])) for rows in self.batches()])

    def batches(self) -> Iterator[slice]:
        """Slices that cover the inputs in order, `batch_size` at a time."""
        for start in range(0, len(self.x), self.batch_size):
            yield slice(start, min(start + self.batch_size, len(self.x)))


def _of_some(f: Function, params: Params, only: tuple[str, ...]) -> tuple[RealOutputs, dict[str, Array]]:
    """f as a function of the parameters at the paths `only`, and a dictionary of these. Each call compiles anew."""
    chosen, merge = split_params(params, only)
    of_chosen = RealOutputs.of(lambda named, x: f(merge([named[path] for path in only]), x))
    return of_chosen, dict(zip(only, chosen, strict=True))


class Problem(Network):
    """A network with targets and a loss. It gives the loss and its gradient, and its parts for Hessian products."""

    def __init__(
        self,
        f: ApplyFunction,
        params: Params,
        x: Any,
        y: Any,
        loss: str | LossFunction,
        batch_size: int,
        wrt: Which | None = None,
    ) -> None:
        super().__init__(f, params, x, batch_size, wrt)
        function = named(loss)
        self.loss = Function.of(function)
        self.y = checked_targets(function, self.outputs, y)
        if not isinstance(function, Loss):
            self._require_mean(function)

    def _require_mean(self, loss: LossFunction) -> None:
        """Raise `InputError` on a loss that grows with the number of examples, tried at two rows and the same twice."""
        rows = min(2, len(self.y))
        outputs = jnp.linspace(
            0.3, 0.7, rows * int(np.prod(self.outputs.shape[1:], dtype=int)), dtype=self.outputs.dtype
        )
        outputs, targets = outputs.reshape(rows, *self.outputs.shape[1:]), self.y[:rows]
        try:
            once, twice = (
                float(loss(jnp.concatenate([outputs] * count), jnp.concatenate([targets] * count))) for count in (1, 2)
            )
        except (TypeError, ValueError):  # a loss for one number of examples cannot be tried on another
            return
        if abs(twice - once) > 0.05 * abs(once):
            raise InputError(
                "Expected a loss that averages over examples; got one that is "
                f"{once:.4g} for {rows} of them and {twice:.4g} for the same ones twice. Divide it by their number."
            )

    def parts(self) -> Iterator[tuple[Array, Array, Array]]:
        """The inputs and targets of each batch, and its share of all examples."""
        for rows in self.batches():
            yield self.x[rows], self.y[rows], jnp.asarray((rows.stop - rows.start) / len(self.x))

    def value(self, params: Params) -> Float[Array, ""]:
        """The loss."""
        total: Any = jnp.zeros((), self.outputs.dtype)
        for x, y, share in self.parts():
            total = _plus_loss(self.f, self.loss, params, total, x, y, share)
        return total

    def gradient(self, params: Params) -> Params:
        """The gradient of the loss, a pytree like `params`."""
        total = jax.tree.map(jnp.zeros_like, params)
        for x, y, share in self.parts():
            total = _plus_gradient(self.f, self.loss, params, total, x, y, share)
        return total


@compiled
def _outputs(f: ApplyFunction, params: Params, x: Array) -> Array:
    with jax.default_matmul_precision("highest"):
        return f(params, x)


@compiled
def _plus_loss(
    f: ApplyFunction, loss: LossFunction, params: Params, total: Array, x: Array, y: Array, share: Array
) -> Array:
    with jax.default_matmul_precision("highest"):
        return total + share.astype(total.dtype) * loss(f(params, x), y)


@compiled
def _plus_gradient(
    f: ApplyFunction, loss: LossFunction, params: Params, total: Params, x: Array, y: Array, share: Array
) -> Params:
    with jax.default_matmul_precision("highest"):
        gradient = jax.grad(lambda p: loss(f(p, x), y))(params)
    return jax.tree.map(lambda a, b: a + share.astype(a.dtype) * b, total, gradient)


def checked_inputs(x: Any) -> Array:
    """Inputs as an array `(n, ...)` of two axes or more, of whole numbers or float32 at least, or an `InputError`."""
    inputs = require_wide(x, "x")
    if inputs.ndim < 2 or not inputs.size:
        raise InputError(
            f"Expected x (n, d) or (n, ...), with one input or more; got shape {inputs.shape}. Give inputs of one "
            "coordinate as x[:, None]."
        )
    return inputs


def checked_rows(values: Any, name: str, least: int = 1) -> Float[np.ndarray, "n d"]:
    """The finite numbers `values` `(n, ...)` as rows `(n, d)` in float64. An array `(n,)` has d = 1.

    Raises `InputError` if there are fewer than `least` rows, or if a number is not finite.
    """
    array = require_wide(values, name)
    if array.ndim < 1 or len(array) < least or not array.size:
        raise InputError(f"Expected {name} to have at least {least} rows, (n, ...); got shape {array.shape}.")
    host = np.asarray(values, float)  # from `values`, not from `array`: JAX may have rounded it to float32
    if not np.isfinite(host).all():
        require_finite(array, name)
    return host.reshape(len(host), -1)


def checked_labels(labels: Any, n: int, name: str = "labels") -> Int[np.ndarray, " n"]:
    """The labels `(n,)` renumbered 0, 1, ... in the order of their values. Raises `InputError` on another shape."""
    array = require_wide(labels, name)
    if array.shape != (n,):
        raise InputError(f"Expected one label for each of {n} inputs in {name}; got shape {array.shape}.")
    require_finite(array, name)
    return np.unique(np.asarray(array), return_inverse=True)[1]


def checked_layers(activations: Any) -> Sequence[Any]:
    """The activations unchanged. Raises `InputTypeError` if they are not a list with at least one layer."""
    if isinstance(activations, str) or not isinstance(activations, Sequence) or not len(activations):
        raise InputTypeError(
            f"Expected a list of the layers' activations, each (n, ...); got {type(activations).__name__}. "
            "One layer alone goes in a list."
        )
    return activations
