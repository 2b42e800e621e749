"""The gradients of several functions of the same parameters, in coordinates that match, so that they can be contracted.

The factors of a gradient name its coordinates as the function's own program does: those of `x @ w` and of `x @ w.T` by
the same `w` are each other's transposes. Two factors of one kind are contracted where that gives the inner products of
plain Jacobians, at parameters and inputs drawn at random: a question of how the functions are written, which is asked
once. Everywhere else both Jacobians are formed, in the parameter's own order.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.gradients import Gradients
>>> params, x = {"w": jnp.ones((9, 9)), "o": jnp.ones((9, 2))}, jnp.ones((4, 9))
>>> f = Gradients.of(lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"], params, "all")
>>> g = Gradients.of(lambda p, x: jnp.sin(x @ p["w"]) @ p["o"], params, "all")
>>> h = Gradients.of(lambda p, x: jnp.tanh(x @ p["w"].T) @ p["o"], params, "all")
>>> sides_of([f, g], [x, x], "all")[0].matched, sides_of([f, h], [x, x], "all")[0].matched
(("['w']",), ())
"""

import dataclasses
import math
from collections.abc import Collection, Hashable, Sequence
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from ntkbias.checks import is_known
from ntkbias.compilation import compiled, memory_of
from ntkbias.kernels.factors import Convolution, Factor, Lookup, Product, Whole
from ntkbias.kernels.gradients import CACHED, PASS_SHARE, Gradients
from ntkbias.kernels.outputs import num_entries, scale_of
from ntkbias.packing import are_several, packed_rows, unpacked
from ntkbias.types import Outputs

__all__ = ["Side", "contracted", "sides_of", "square_rows"]

NUM_DRAWN = 3  # examples a function that are drawn to compare two ways to one number
MATCHING = 100  # eps: what rounding of one inner product stays below, and another order of coordinates does not
WORTHWHILE = 4  # Jacobians of at most so many times the factors' numbers are formed without a question
KINDS = (Product, Convolution, Lookup)  # whose leaves are an activation and a cotangent


def sides_of(functions: Sequence[Gradients], inputs: Sequence[Array], outputs: Outputs) -> "list[Side]":
    """Each function's gradients at inputs of these shapes, by the parameters that it depends on.

    A parameter's gradients are factors, contracted as in the kernel of one function, where those of all functions that
    use it have their coordinates in one order; elsewhere Jacobians are formed.
    """
    memory, leaves, structure = memory_of(tuple(functions))
    shapes = _shapes(leaves, 0), tuple(_shapes(x, 1) for x in inputs)
    key: Hashable = (sides_of, structure, shapes, WORTHWHILE, jnp.result_type(float))
    if key not in memory:
        memory[key] = _paths(functions, inputs)
    paths = zip(functions, memory[key], strict=True)
    return [Side(f, matched, formed, outputs) for f, (matched, formed) in paths]


def _paths(functions: Sequence[Gradients], inputs: Sequence[Array]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """The paths of each function that are contracted as factors, and those that are formed."""
    factors = [_factors(f, x) for f, x in zip(functions, inputs, strict=True)]
    programs = [(f.f, f.only, _shapes(x, 1)) for f, x in zip(functions, inputs, strict=True)]
    matched = set()
    asked: dict[tuple[int, int], list[str]] = {}
    for path in dict.fromkeys(path for found in factors for path in found):
        users = [index for index, found in enumerate(factors) if path in found]
        first = users[0]
        others = list({programs[index]: index for index in users if programs[index] != programs[first]}.values())
        if all(_comparable(factors[first][path], factors[index][path]) for index in others):
            matched.add(path)
            for index in others:
                asked.setdefault((first, index), []).append(path)
    for (i, j), paths in asked.items():
        with jax.ensure_compile_time_eval():  # numbers, also where the parameters are traced
            matched -= _disagreeing(functions[i], functions[j], inputs[i], inputs[j], tuple(paths))
    return [
        (tuple(path for path in found if path in matched), tuple(path for path in found if path not in matched))
        for found in factors
    ]


def _disagreeing(left: Gradients, right: Gradients, x1: Array, x2: Array, paths: tuple[str, ...]) -> set[str]:
    """The paths whose factors do not give the inner products of Jacobians, or of which that cannot be said."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(partial(_drawn, rng), left.params)
    rows = [_drawn_examples(rng, gradients, x) for gradients, x in ((left, x1), (right, x2))]
    errors, sizes = _compared(left.by(paths).at(params), right.by(paths).at(params), *rows)
    agreeing = {
        path
        for path, error, size in zip(paths, errors, sizes, strict=True)
        if np.isfinite(size) and size > 0 and error <= MATCHING * jnp.finfo(error.dtype).eps * size
    }
    return set(paths) - agreeing


@compiled
def _compared(left: Gradients, right: Gradients, x1: Array, x2: Array) -> tuple[list[Array], list[Array]]:
    """For each path how far the two ways are apart at most, and the largest product of two norms."""
    factors = left.features(x1), right.features(x2)
    jacobians = _jacobians(left, x1), _jacobians(right, x2)
    errors, sizes = [], []
    with jax.default_matmul_precision("highest"):
        for path in left.only or ():
            formed = contracted(jacobians[0][path], jacobians[1][path], "all")
            norms = [jnp.sqrt(jnp.max(side[path].squares())) for side in jacobians]
            errors.append(jnp.max(jnp.abs(contracted(factors[0][path], factors[1][path], "all") - formed)))
            sizes.append(norms[0] * norms[1])
    return errors, sizes


def contracted(left: Factor, right: Factor, outputs: Outputs) -> Array:
    """One parameter's inner products of these gradients, of one function with those of another."""
    if len({len(leaf) for leaf in jax.tree.leaves((left, right))}) > 1:
        left, right = _in_full(left), _in_full(right)
    scale = left.scale * right.scale
    left, right = (dataclasses.replace(side, scale=1.0) for side in (left, right))
    parts = [(slice(left.num_examples), slice(right.num_examples))]
    return scale * left.blocks(right, parts, outputs)[0]


def _jacobians(gradients: Gradients, x: Array) -> dict[str, Whole]:
    """The Jacobians `(n, o, p)` of the parameters that count, in the parameters' own order."""

    def example(x: Array) -> list[Array]:
        function, values = gradients.outputs_by_params(x[None])
        outputs, pull = jax.vjp(lambda values: function(values)[0], values)
        return jax.vmap(pull)(jnp.eye(len(outputs), dtype=outputs.dtype))[0]

    with jax.default_matmul_precision(gradients.precision):
        found = jax.vmap(example)(x)
    names = [path for path in gradients.paths if path in (gradients.only or ())]
    jacobians = (leaf.reshape(*leaf.shape[:2], -1) for leaf in found)
    return {path: Whole(1.0, jacobian) for path, jacobian in zip(names, jacobians, strict=True)}


class Side(eqx.Module):
    """One of several functions: its gradients, those at the paths `matched` as factors, those at `formed` whole."""

    gradients: Gradients  # of all outputs, none of which are folded
    matched: tuple[str, ...] = eqx.field(static=True)
    formed: tuple[str, ...] = eqx.field(static=True)
    outputs: Outputs = eqx.field(static=True)

    def features(self, x: Array) -> dict[str, Factor]:
        """The gradients of a set of inputs, by the path of the parameter."""
        factors = self.gradients.by(self.matched).features(x) if self.matched else {}
        jacobians = _jacobians(self.gradients.by(self.formed), x) if self.formed else {}
        return {**factors, **jacobians}

    def contract(self, features1: dict[str, Factor], features2: Any) -> Array:
        """The inner products of this function's gradients with another's, by the parameters that both depend on."""
        paths = [path for path in features1 if path in features2]
        with jax.default_matmul_precision(self.gradients.precision):
            total: Any = sum(contracted(features1[path], features2[path], self.outputs) for path in paths)
        return scale_of(next(iter(features1.values())).num_outputs, self.outputs) ** 2 * total

    def among(self, paths: Collection[str]) -> "Side":
        """The same by these parameters alone."""
        matched, formed = (tuple(path for path in own if path in paths) for own in (self.matched, self.formed))
        return dataclasses.replace(self, matched=matched, formed=formed)

    def pass_rows(self, x: Array) -> int:
        """Of how many examples the gradients are computed at once."""
        num_bytes = self.gradients.memory_budget // PASS_SHARE
        if jax.default_backend() == "cpu":
            num_bytes = min(num_bytes, CACHED)
        return _together(
            self.gradients.by(self.matched).pass_rows(x) if self.matched else None,
            num_bytes // (2 * self._formed_bytes(x)) if self.formed else None,
        )

    def block_rows(self, x: Array) -> int:
        """How many examples this side of a block may have."""
        return _together(
            self.gradients.by(self.matched).block_rows(x) if self.matched else None,
            self.gradients.memory_budget // (7 * self._formed_bytes(x)) if self.formed else None,
        )

    def _formed_bytes(self, x: Array) -> int:
        """What an example's Jacobians take that are formed."""
        leaves = dict(zip(self.gradients.paths, jax.tree.leaves(self.gradients.params), strict=True))
        return self.gradients.num_outputs(x) * sum(leaves[path].nbytes for path in self.formed)


def square_rows(memory_budget: int, num_outputs: tuple[int, int], outputs: Outputs) -> int:
    """Rows of a square block of which four copies, in eight bytes, fit the budget."""
    entries = math.prod(num_outputs) if outputs == "all" else num_entries(num_outputs[0], outputs)
    return max(1, math.isqrt(memory_budget // (4 * 8 * entries)))


def _together(*rows: int | None) -> int:
    """The rows for which several shares have room, given those of which each alone would fill it."""
    return max(1, int(1 / sum(1 / max(1, number) for number in rows if number is not None)))


def _comparable(left: Factor, right: Factor) -> bool:
    """Whether two factors of one example can be contracted if their coordinates are in one order, and it saves work."""
    if type(left) is not type(right) or not isinstance(left, KINDS) or not isinstance(right, KINDS):
        return False
    names = [field.name for field in dataclasses.fields(left) if field.metadata.get("static") and field.name != "scale"]
    same_options = all(getattr(left, name) == getattr(right, name) for name in names)
    activations, cotangents = (
        [getattr(side, name).shape for side in (left, right)] for name in ("activation", "cotangent")
    )
    same_shapes = activations[0][1:] == activations[1][1:] and cotangents[0][2:] == cotangents[1][2:]
    saves = all(
        side.num_coordinates(1) > WORTHWHILE * sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(side))
        for side in (left, right)
    )
    return same_options and same_shapes and saves


def _in_full(factor: Factor) -> Factor:
    """A factor whose arrays all have the axis of examples, also those that are the same for all of them."""

    def full(leaf: Array) -> Array:
        if len(leaf) == factor.num_examples:
            return leaf
        # The barrier: XLA on CPUs (JAX 0.10) computes reduced products of two broadcast arrays wrongly.
        return lax.optimization_barrier(jnp.broadcast_to(leaf, (factor.num_examples, *leaf.shape[1:])))

    return jax.tree.map(full, factor)


def _factors(gradients: Gradients, x: Array) -> dict[str, Factor]:
    """The factors of one example as they are kept, with shapes in place of arrays."""
    counted = {path: f for path, f in gradients.shapes(x).items() if gradients.only is None or path in gradients.only}
    return {path: jax.eval_shape(lambda factor: factor.kept(), factor) for path, factor in counted.items()}


def _shapes(tree: Any, lead: int = 0) -> Hashable:
    """The shapes and types of the arrays of a pytree, without `lead` axes."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(leaf)[lead:], jnp.result_type(leaf)) for leaf in leaves)


def _drawn(rng: np.random.Generator, leaf: Array) -> Array:
    """Random numbers of a parameter's shape, of the size of weights, in float32 at least; whole numbers as they are."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf if is_known(leaf) else jnp.zeros(leaf.shape, leaf.dtype)
    values = rng.normal(size=leaf.shape) / max(1, math.prod(leaf.shape[:-1])) ** 0.5
    return jnp.asarray(values, jnp.result_type(leaf.dtype, np.float32))


def _drawn_examples(rng: np.random.Generator, gradients: Gradients, x: Array) -> Array:
    """Random examples like those of the inputs; whole numbers are zeros, which any table has."""
    rows = jax.ShapeDtypeStruct((NUM_DRAWN, *x.shape[1:]), x.dtype)

    def drawn(leaf: jax.ShapeDtypeStruct) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    examples = jax.tree.map(drawn, jax.eval_shape(lambda x: unpacked(gradients.f, x), rows))
    return packed_rows(examples, "x")[1] if are_several(examples) else examples
