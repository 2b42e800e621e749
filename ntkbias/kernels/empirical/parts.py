"""The contribution of each parameter to the empirical NTK. Their sum over all parameters is the kernel.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=8, depth=1)
>>> params, x = net.init(jax.random.key(0), (2,)), jnp.eye(2)
>>> parts = empirical_ntk_by_layer(net.apply, params)
>>> bool(jnp.allclose(sum(parts.values())(x), nb.empirical_ntk(net.apply, params)(x), rtol=1e-5))
True
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from ntkbias.checks import are_known
from ntkbias.errors import InputError
from ntkbias.kernels.empirical.ntk import EmpiricalNTK
from ntkbias.kernels.evaluation import (
    blocks,
    gram_in_one_program,
    place_block,
    programs_of_device,
    require_finite_gram,
    require_inputs_alike,
)
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.gradients import Gradients, square_rows
from ntkbias.kernels.inputs import checked, of_one_array
from ntkbias.kernels.outputs import arrangement, transposed
from ntkbias.kernels.tiles import Tiles, block_indices
from ntkbias.packing import Layout
from ntkbias.parameters import Which
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["Parts", "empirical_ntk_by_layer", "ntk_of_some"]


@jax.tree_util.register_pytree_node_class
class Parts(dict[str, EmpiricalNTK]):
    """The kernel of each parameter, by path. Calling the dictionary computes all of their Gram matrices at once.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.mlp(width=16, depth=1)
    >>> params, x = net.init(jax.random.key(0), (2,)), jax.numpy.ones((4, 2))
    >>> parts = nb.empirical_ntk_by_layer(net.apply, params)
    >>> len(parts), {K.shape for K in parts(x).values()}
    (2, {(4, 4)})
    """

    def __call__(self, x1: Any, x2: Any = None) -> dict[str, Array]:
        """The Gram matrix of each parameter's part, by path, for the parameters that f depends on.

        Costs what the full kernel costs, with one compiled program for all parts. The blocks of each part take an equal
        share of the memory budget. Arguments and errors are those of a kernel.

        >>> import jax.numpy as jnp
        >>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
        >>> parts = empirical_ntk_by_layer(f, {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 1))})
        >>> {path: gram.shape for path, gram in parts(jnp.eye(3)).items()}
        {"['hidden']": (3, 3), "['out']": (3, 3)}
        """
        kernel: Stacked = Stacked(dataclasses.replace(next(iter(self.values())).gradients, only=None))
        kernel, x1 = of_one_array(kernel, x1, "x1")
        x1 = checked(kernel, x1, "x1")
        if x2 is not None:
            x2 = checked(*of_one_array(kernel, x2, "x2"), "x2")
            require_inputs_alike(x1, x2)
        paths = [path for path in kernel.gradients.shapes(x1) if path in self]
        if not paths:
            return {}
        kernel = Stacked(kernel.gradients.by(tuple(paths)))
        found = dict(zip(paths, _stacked(kernel, x1, x2), strict=True))
        if are_known(found):
            for gram in found.values():
                require_finite_gram(gram, lambda: kernel.nonfinite_reason(x1, *(() if x2 is None else (x2,))))
        return found

    def tree_flatten(self) -> tuple[list[EmpiricalNTK], tuple[str, ...]]:
        """The kernels, and their paths."""
        return list(self.values()), tuple(self)

    @classmethod
    def tree_unflatten(cls, paths: tuple[str, ...], kernels: Any) -> "Parts":
        """The parts with these paths."""
        return cls(zip(paths, kernels, strict=True))


class Stacked(EmpiricalNTK):
    """The parts of all selected parameters in one array: Gram matrices with a new first axis, over parameters."""

    def __init__(self, gradients: Gradients) -> None:
        super().__init__(gradients)

    def features(self, x: Array) -> dict[str, Factor]:
        return self.gradients.features(x)

    def contract(self, features1: dict[str, Factor], features2: dict[str, Factor] | None) -> Array:
        pairs = [(path, one, None if features2 is None else features2[path]) for path, one in features1.items()]
        contract = super().contract
        return jnp.stack([contract({path: a}, None if b is None else {path: b}) for path, a, b in pairs])

    def packed(self, layout: Layout) -> "Stacked":
        return Stacked(self.gradients.packed(layout))

    def block_rows(self, x: Array) -> int:
        gradients = self.gradients
        each = gradients.memory_budget // len(gradients.only or gradients.paths)
        return min(super().block_rows(x), square_rows(each, gradients.num_outputs(x), self.outputs))


def _stacked(kernel: Stacked, x1: Array, x2: Array | None) -> Array:
    """The Gram matrices of all parts, in blocks like those of any kernel. Each process computes all of them."""
    programs = kernel.device_programs() if are_known((kernel, x1, x2)) else [programs_of_device(kernel)]
    longest = max(len(x1), 0 if x2 is None else len(x2))
    rows = min(kernel.block_rows(x1), -(-longest // (2 * len(programs) if len(programs) > 1 else 1)))
    if len(programs) == 1 and longest <= min(rows, kernel.pass_rows(x1) // 2):
        return gram_in_one_program(kernel, x1, x2)
    first, second = Tiles(x1, rows), None if x2 is None else Tiles(x2, rows)
    axes = tuple(axis + 1 for axis in arrangement(kernel.outputs).axes)
    sizes = dict(zip(axes, (len(x1), len(x1 if x2 is None else x2)), strict=True))
    result: Any = None
    for (i, j), block in blocks(programs, first, second, block_indices(first, second)):
        places = first.bounds(i), (first if second is None else second).bounds(j)
        for axis, place in zip(axes, places, strict=True):
            block = jax.lax.slice_in_dim(block, 0, place.stop - place.start, axis=axis)
        if result is None:
            result = jnp.zeros([sizes.get(axis, size) for axis, size in enumerate(block.shape)], block.dtype)
        result = place_block(result, block, places[0].start, places[1].start, axes)
        if x2 is None and i != j:
            mirrored = jax.vmap(lambda part: transposed(part, kernel.outputs))(block)
            result = place_block(result, mirrored, places[1].start, places[0].start, axes)
    return result


def empirical_ntk_by_layer(
    f: ApplyFunction,
    params: Params,
    *,
    outputs: Outputs = "mean",
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> Parts:
    """The kernel that each parameter contributes to the empirical NTK, by its path in `params`; their sum is the NTK.

    The kernel of one parameter is the NTK of training only that parameter. `parts = empirical_ntk_by_layer(f, params)`
    can be called: `parts(x)` computes all Gram matrices in one pass and one compiled program, whereas `parts[path](x)`
    compiles one program per path. Arguments and errors are those of `empirical_ntk`. `parts(x)` leaves out parameters
    that `f` does not use; calling the kernel of one raises an `InputError` that names it.

    >>> import jax.numpy as jnp
    >>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
    >>> params = {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 1))}
    >>> sorted(empirical_ntk_by_layer(f, params))
    ["['hidden']", "['out']"]
    """
    gradients = Gradients.of(f, params, outputs, precision, memory_budget, wrt)
    return Parts({path: EmpiricalNTK(gradients.by((path,))) for path in gradients.only or gradients.paths})


def ntk_of_some(f: ApplyFunction, variables: Params, prefix: str, x: Array, **options: Any) -> EmpiricalNTK:
    """The NTK of `f` by its variables at and below the path `prefix`, for inputs like `x`.

    Those that f does not use contribute nothing. Raises `InputError` if f uses none of them.
    """
    gradients = Gradients.of(f, variables, wrt=prefix, **options)
    if not set(gradients.only or ()) & set(gradients.shapes(x)):
        raise InputError(f"Expected f to depend on its variables {prefix}; got outputs that are the same for all.")
    return EmpiricalNTK(gradients)
