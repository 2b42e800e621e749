"""Check the inputs of a kernel, pack them into one array, and plan the sizes of blocks and passes.

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
class TakesInputs(Protocol):
    """The methods of a kernel that concern its inputs."""

    def check(self, x: Array, name: str) -> None:
        """Raise an `InputError` if the kernel cannot take `x`."""

    def block_rows(self, x: Array) -> int:
        """How many examples each side of a block may have."""

    def pass_rows(self, x: Array) -> int:
        """How many examples the features are computed for at once."""

    def packed(self, layout: Layout) -> Self:
        """The kernel as a function of packed inputs."""


K = TypeVar("K", bound=TakesInputs)


class Plan(NamedTuple):
    """The sizes of blocks and passes for checked inputs of one shape."""

    block_rows: int
    pass_rows: int


def of_one_array(kernel: K, x: Any, name: str) -> tuple[K, Any]:
    """Return the kernel of packed inputs, and the packed inputs. One real array and its kernel stay as they are."""
    if not are_several(x):
        return kernel, x
    layout, rows = packed_rows(x, name)
    return kernel.packed(layout), rows


def checked(kernel: K, x: Any, name: str) -> Array:
    """Return the inputs as an array. Raises `InputError` if this kernel does not take them."""
    return planned(kernel, x, name)[0]


def planned(kernel: K, x: Any, name: str) -> tuple[Array, Plan]:
    """Return the inputs as an array, and their plan. Raises `InputError` if this kernel does not take them."""
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
        if are_known((kernel, x)):  # some checks need values, and are skipped for traced arrays
            plans[key] = plan
    return x, plan


def _shape(leaf: Any) -> Any:
    """The shape and type of an array; anything else unchanged."""
    return (leaf.shape, leaf.dtype) if eqx.is_array(leaf) else leaf
