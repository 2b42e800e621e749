"""The inputs of a kernel, checked: as one array, and how the work on them is to be divided.

>>> import jax.numpy as jnp, ntkbias as nb
>>> planned(nb.infinite_ntk(nb.nets.mlp(depth=1)), jnp.eye(3), "x")[0].shape
(3, 3)
"""

from typing import Any, NamedTuple, Protocol, Self, TypeVar, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import are_known, require_array, require_finite
from ntkbias.compilation import memory_of
from ntkbias.errors import InputError
from ntkbias.packing import Layout, are_several, packed_rows

__all__ = ["Plan", "checked", "of_one_array", "planned"]


@runtime_checkable
class Asked(Protocol):
    """What is asked of a kernel about its inputs."""

    def check(self, x: Array, name: str) -> None:
        """Raise an `InputError` if it cannot take these."""

    def block_rows(self, x: Array) -> int:
        """How many examples a side of a block may have."""

    def pass_rows(self, x: Array) -> int:
        """Of how many its features are computed at once."""

    def packed(self, layout: Layout) -> Self:
        """The kernel of inputs that are packed so."""


K = TypeVar("K", bound=Asked)


class Plan(NamedTuple):
    """What a kernel makes of inputs of one shape, once they are found to be right: the sizes of blocks and passes."""

    block_rows: int
    pass_rows: int


def of_one_array(kernel: K, x: Any, name: str) -> tuple[K, Any]:
    """The kernel of packed inputs, and these; both as they are where the inputs are one array."""
    if not are_several(x):
        return kernel, x
    layout, rows = packed_rows(x, name)
    return kernel.packed(layout), rows


def checked(kernel: K, x: Any, name: str) -> Array:
    """The inputs as an array; an `InputError` if they are none that this kernel takes."""
    return planned(kernel, x, name)[0]


def planned(kernel: K, x: Any, name: str) -> tuple[Array, Plan]:
    """The inputs as an array, and how to go about them; an `InputError` if they are none that this kernel takes."""
    x = require_array(x, name)
    if x.ndim < 2:
        raise InputError(
            f"Expected {name} to be a batch of inputs, with two axes or more; got shape {x.shape}. "
            "One input of d features is (1, d); n inputs of one feature are (n, 1)."
        )
    if x.size == 0:
        raise InputError(f"Expected at least one input in {name}; got shape {x.shape}.")
    require_finite(x, name)
    plans, leaves, structure = memory_of((kernel, x))
    shapes = (type(leaf) if isinstance(leaf, int | float) else _shape(leaf) for leaf in leaves)
    key = Plan, structure, tuple(shapes), jnp.result_type(float)
    plan = plans.get(key)
    if plan is None:
        kernel.check(x, name)
        plan = Plan(kernel.block_rows(x), kernel.pass_rows(x))
        if are_known((kernel, x)):  # some of what is checked takes values
            plans[key] = plan
    return x, plan


def _shape(leaf: Any) -> Any:
    """The shape and type of an array; anything else itself."""
    return (leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf
