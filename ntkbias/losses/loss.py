"""The type `Loss`: a function of outputs and targets, with its name, its targets and its Hessian.

A loss acts on the last axis of the outputs. The axes between the first and the last are positions, of tokens or
pixels. The loss of one input is the sum over its positions; for the mean, divide by their number.

At one position with outputs u, the Hessian of the loss in u is H(u) = S S^T. It weights the kernel of the linearized
training: `loss_weighted_ntk` takes S from here.

>>> import jax.numpy as jnp
>>> from ntkbias.losses import Loss
>>> cosh = Loss("log cosh", lambda u, y: jnp.mean(jnp.sum(jnp.log(jnp.cosh(u - y)), -1)), "values")
>>> cosh.name, float(cosh(jnp.zeros((4, 2)), jnp.zeros((4, 2))))
('log cosh', 0.0)
"""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_choice
from ntkbias.errors import InputError, InputTypeError
from ntkbias.results.names import constant_of, name_of_constant

__all__ = [
    "Loss",
    "LossFunction",
    "Targets",
    "are_alike",
    "at_least_float32",
    "holds_or_is_traced",
    "targets_shaped_like",
    "with_targets",
]

LossFunction = Callable[[Array, Array], Array]
Targets = Literal["values", "signs", "classes"]


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """A loss of outputs `(n, *positions, o)` and targets: a mean over inputs of a sum over positions.

    Call it like its function, `loss(outputs, targets)`. `name` selects it in `loss=` and `--loss`. `targets` says which
    targets it accepts:

        "values"     numbers of the outputs' shape
        "signs"      -1 and +1, for one output (o = 1)
        "classes"    whole numbers `(n, *positions)` or probabilities of the outputs' shape, for one output per class

    `root(u, v)` returns S^T v `(n, o)` for outputs u and vectors v `(n, o)`, in which each row is one position. It is
    None if the Hessian is zero almost everywhere or not known.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> absolute = nb.losses.Loss("absolute", lambda u, y: jnp.mean(jnp.sum(jnp.abs(u - y), -1)), "values")
    >>> float(absolute(jnp.ones((4, 2)), jnp.zeros((4, 2))))
    2.0
    """

    name: str
    function: LossFunction
    targets: Targets
    root: Callable[[Float[Array, "n o"], Float[Array, "n o"]], Float[Array, "n o"]] | None = None

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise InputTypeError(
                f"Expected a function (outputs, targets) -> scalar; got {type(self.function).__name__}."
            )
        require_choice("targets", self.targets, Targets)
        for attribute, value in (("__doc__", self.function.__doc__), ("__name__", self.name)):
            object.__setattr__(self, attribute, value)
        object.__setattr__(self, "__qualname__", self.name)

    def __deepcopy__(self, _: Any) -> "Loss":  # as Python's own functions, which are never copied
        return self

    def __reduce__(self) -> tuple:
        """By its name, where the package exports it, so that it stays the same function."""
        if (own := name_of_constant(self)) is not None:
            return constant_of, (own,)
        return Loss, (self.name, self.function, self.targets, self.root)

    def __call__(self, outputs: Array, targets: Array) -> Array:
        """The loss."""
        return self.function(outputs, targets)

    def root_times(
        self, outputs: Float[Array, "n *positions o"], vectors: Float[Array, "n *positions o"]
    ) -> Float[Array, "n *positions o"]:
        """S^T v for each input and position, where S S^T is the Hessian of the loss in the outputs of that position.

        The loss must have a `root`. Raises `InputError` if the last axis does not have as many outputs as the loss
        needs: one for "signs", at least two for "classes".
        """
        assert self.root is not None
        count = outputs.shape[-1]
        if self.targets == "signs" and count != 1:
            raise InputError(f"Expected one output for the {self.name} loss; got {count}, the last axis.")
        if self.targets == "classes" and count < 2:
            raise InputError(f"Expected one output per class for the {self.name} loss; got {count}, the last axis.")
        found = self.root(outputs.reshape(-1, count), vectors.reshape(-1, count))
        return found.reshape(outputs.shape)

    def num_outputs(self, num_classes: int) -> int:
        """The number of outputs that a network needs to learn `num_classes` classes with this loss."""
        return 1 if self.targets == "signs" else num_classes

    def of_classes(self, labels: Int[np.ndarray, "n *positions"], num_classes: int) -> Array:
        """Labels 0 .. `num_classes` - 1 as targets of this loss: "values" are one-hot, with one column per class."""
        if self.targets == "classes":
            return jnp.asarray(labels)
        return jnp.asarray(2.0 * labels - 1 if self.targets == "signs" else np.eye(num_classes)[labels], float)


def with_targets(
    targets: Targets, root: Callable[[Array, Array], Array] | None = None
) -> Callable[[LossFunction], Loss]:
    """A decorator that turns a function into a `Loss` of the same name, with these targets and this root."""
    return lambda function: Loss(getattr(function, "__name__", ""), function, targets, root)


def targets_shaped_like(outputs: Array, targets: Array) -> Array:
    """The targets, reshaped to the outputs' shape. Trailing axes of length one may be missing from either.

    Without this, targets `(n,)` and outputs `(n, 1)` would broadcast to all pairs `(n, n)`. Raises `InputError` on
    another shape.
    """
    if not are_alike(outputs.shape, targets.shape):
        raise InputError(f"Expected targets of the outputs' shape, {outputs.shape}; got {targets.shape}.")
    return jnp.reshape(targets, outputs.shape)


def are_alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes are the same but for last axes of one."""
    return _without_ones(one) == _without_ones(other)


def at_least_float32(outputs: Array) -> Array:
    """The outputs in float32 or wider: a sum of squares in bfloat16 has two digits."""
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def holds_or_is_traced(holds: Callable[[], bool]) -> bool:
    """Whether a statement about values holds. True if the values are traced, and so not known yet."""
    try:
        return holds()
    except jax.errors.ConcretizationTypeError:
        return True
