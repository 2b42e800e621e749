"""A loss: a function of outputs and targets, with all that others need to know of it.

A loss acts on the last axis of the outputs. Axes between the inputs' and that one are positions, of tokens or pixels:
they count as outputs, and the loss of one input is the sum over them; divide by their number for the mean.

Its Hessian in the outputs u of one position is H(u) = S S^T, which weighs the kernel of its linearized training:
`loss_weighted_ntk` reads S here.

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

__all__ = ["Loss", "LossFunction", "Targets", "are_alike", "concrete", "like", "single", "with_targets"]

LossFunction = Callable[[Array, Array], Array]
Targets = Literal["values", "signs", "classes"]


@dataclasses.dataclass(frozen=True, eq=False)
class Loss:
    """A mean over inputs, and sum over positions, of a loss of outputs `(n, *positions, o)` and targets.

    Called as the function is. `name` is what `loss=` and `--loss` call it. `targets` says which it takes: "values",
    numbers of the outputs' shape; "signs", -1 and +1 for one output, o = 1; "classes", whole numbers `(n, *positions)`,
    or probabilities of the outputs' shape, for an output a class. `root(u, v)` is S^T v `(n, o)` for outputs u, each
    row of which is a position; None where the Hessian is zero almost everywhere, or is not known.
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
        """S^T v of each input and position, with S S^T the Hessian at its outputs, those along the last axis.

        For a loss that has a `root`; raises `InputError` on several outputs of a loss of one, and one of several.
        """
        assert self.root is not None
        count = outputs.shape[-1]
        if self.targets == "signs" and count != 1:
            raise InputError(f"Expected one output for the {self.name} loss; got {count}, the last axis.")
        if self.targets == "classes" and count < 2:
            raise InputError(f"Expected an output a class for the {self.name} loss; got {count}, the last axis.")
        found = self.root(outputs.reshape(-1, count), vectors.reshape(-1, count))
        return found.reshape(outputs.shape)

    def num_outputs(self, num_classes: int) -> int:
        """How many outputs a network needs to tell classes apart under this loss."""
        return 1 if self.targets == "signs" else num_classes

    def of_classes(self, labels: Int[np.ndarray, "n *positions"], num_classes: int) -> Array:
        """Labels 0 .. `num_classes` - 1 in the form that this loss takes: "values" are one column a class."""
        if self.targets == "classes":
            return jnp.asarray(labels)
        return jnp.asarray(2.0 * labels - 1 if self.targets == "signs" else np.eye(num_classes)[labels], float)


def with_targets(
    targets: Targets, root: Callable[[Array, Array], Array] | None = None
) -> Callable[[LossFunction], Loss]:
    """Make a function the `Loss` of its name, which takes these targets and has this root of its Hessian."""
    return lambda function: Loss(getattr(function, "__name__", ""), function, targets, root)


def like(outputs: Array, targets: Array) -> Array:
    """The targets in the outputs' shape, of which last axes of one may be left out.

    They would broadcast to all pairs if `(n,)` met `(n, 1)`.
    """
    if not are_alike(outputs.shape, targets.shape):
        raise InputError(f"Expected targets of the outputs' shape, {outputs.shape}; got {targets.shape}.")
    return jnp.reshape(targets, outputs.shape)


def are_alike(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes are the same but for last axes of one."""
    return _without_ones(one) == _without_ones(other)


def single(outputs: Array) -> Array:
    """Outputs in float32 at least: a sum of squares in bfloat16 has two digits."""
    return outputs.astype(jnp.promote_types(outputs.dtype, jnp.float32))


def _without_ones(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def concrete(holds: Callable[[], bool]) -> bool:
    """Whether a statement about values holds; true where they are traced, and not known yet."""
    try:
        return holds()
    except jax.errors.ConcretizationTypeError:
        return True
