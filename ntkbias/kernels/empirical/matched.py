"""The gradients of several functions of the same parameters, in matching coordinates, so that they can be contracted.

The factors of a gradient order its coordinates as the function's program does: the gradients of `x @ w` and `x @ w.T`
by the same `w` are transposes of each other. Two factors of one kind may be contracted if that gives the inner products
of plain Jacobians. This depends only on how the functions are written, so it is tested once, at random parameters and
inputs. Otherwise both Jacobians are formed, in the parameter's own order.

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

from ntkbias.checks import is_known, widened
from ntkbias.compilation import compiled, memory_of
from ntkbias.kernels.factors import Convolution, Factor, FullJacobian, Lookup, Product
from ntkbias.kernels.gradients import CACHED, PASS_SHARE, Gradients
from ntkbias.kernels.outputs import gradient_scale, num_entries
from ntkbias.packing import are_several, packed_rows, unpacked
from ntkbias.types import Outputs

__all__ = ["Side", "contracted", "sides_of", "square_rows"]

NUM_DRAWN = 3  # random examples per function at which factors are compared with Jacobians
MATCHING = 100  # eps: rounding of an inner product stays below this; another order of coordinates does not
WORTHWHILE = 4  # Jacobians at most this many times as large as the factors are formed without a comparison
KINDS = (Product, Convolution, Lookup)  # factors whose leaves are an activation and a cotangent


def sides_of(functions: Sequence[Gradients], inputs: Sequence[Array], outputs: Outputs) -> "list[Side]":
    """The gradients of each function, for inputs of these shapes, by the parameters that it depends on.

    If all functions that use a parameter order its coordinates alike, its gradients stay factors, contracted as in the
    kernel of one function. Otherwise its Jacobians are formed.
    """
    memory, leaves, structure = memory_of(tuple(functions))
    shapes = _shapes(leaves, 0), tuple(_shapes(x, 1) for x in inputs)
    key: Hashable = (sides_of, structure, shapes, WORTHWHILE, jnp.result_type(float))
    if key not in memory:
        memory[key] = _paths(functions, inputs)
    paths = zip(functions, memory[key], strict=True)
    return [Side(f, matched, formed, outputs) for f, (matched, formed) in paths]


def _paths(functions: Sequence[Gradients], inputs: Sequence[Array]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """For each function, the paths whose gradients are contracted as factors, and those whose Jacobians are formed."""
    factors = [_factors(f, x) for f, x in zip(functions, inputs, strict=True)]
    programs = [(f.f, f.only, _shapes(x, 1)) for f, x in zip(functions, inputs, strict=True)]
    matched = set()
    to_compare: dict[tuple[int, int], list[str]] = {}
    for path in dict.fromkeys(path for found in factors for path in found):
        users = [index for index, found in enumerate(factors) if path in found]
        first = users[0]
        others = list({programs[index]: index for index in users if programs[index] != programs[first]}.values())
        if all(_comparable(factors[first][path], factors[index][path]) for index in others):
            matched.add(path)
            for index in others:
                to_compare.setdefault((first, index), []).append(path)
    for (i, j), paths in to_compare.items():
        with jax.ensure_compile_time_eval():  # compute values even if the parameters are traced
            matched -= _paths_that_disagree(functions[i], functions[j], inputs[i], inputs[j], tuple(paths))
    return [
        (tuple(path for path in found if path in matched), tuple(path for path in found if path not in matched))
        for found in factors
    ]


def _paths_that_disagree(left: Gradients, right: Gradients, x1: Array, x2: Array, paths: tuple[str, ...]) -> set[str]:
    """The paths whose factors do not give the inner products of Jacobians, or for which the comparison fails."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(partial(_random_like, rng), left.params)
    rows = [_random_examples(rng, gradients, x) for gradients, x in ((left, x1), (right, x2))]
    errors, sizes = _compared(left.by(paths).at(params), right.by(paths).at(params), *rows)
    agreeing = {
        path
        for path, error, size in zip(paths, errors, sizes, strict=True)
        if np.isfinite(size) and size > 0 and error <= MATCHING * jnp.finfo(error.dtype).eps * size
    }
    return set(paths) - agreeing


@compiled
def _compared(left: Gradients, right: Gradients, x1: Array, x2: Array) -> tuple[list[Array], list[Array]]:
    """For each path, the largest difference between factors and Jacobians, and the largest product of two norms."""
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
    """The inner products of one function's gradients by a parameter with another function's."""
    if len({len(leaf) for leaf in jax.tree.leaves((left, right))}) > 1:
        left, right = _for_every_example(left), _for_every_example(right)
    scale = left.scale * right.scale
    left, right = (dataclasses.replace(side, scale=1.0) for side in (left, right))
    parts = [(slice(left.num_examples), slice(right.num_examples))]
    return scale * left.blocks(right, parts, outputs)[0]


def _jacobians(gradients: Gradients, x: Array) -> dict[str, FullJacobian]:
    """The Jacobians `(n, o, p)` by the selected parameters, in the parameters' own order."""

    def example(x: Array) -> list[Array]:
        function, values = gradients.outputs_by_params(x[None])
        outputs, pull = jax.vjp(lambda values: function(values)[0], values)
        return jax.vmap(pull)(jnp.eye(len(outputs), dtype=outputs.dtype))[0]

    with jax.default_matmul_precision(gradients.precision):
        found = jax.vmap(example)(x)
    names = [path for path in gradients.paths if path in (gradients.only or ())]
    jacobians = (widened(leaf).reshape(*leaf.shape[:2], -1) for leaf in found)
    return {path: FullJacobian(1.0, jacobian) for path, jacobian in zip(names, jacobians, strict=True)}


class Side(eqx.Module):
    """The gradients of one of several functions: as factors for the paths `matched`, as Jacobians for `formed`."""

    gradients: Gradients  # of all outputs, none of them folded
    matched: tuple[str, ...] = eqx.field(static=True)
    formed: tuple[str, ...] = eqx.field(static=True)
    outputs: Outputs = eqx.field(static=True)

    def features(self, x: Array) -> dict[str, Factor]:
        """The gradients at a set of inputs, by the path of the parameter."""
        factors = self.gradients.by(self.matched).features(x) if self.matched else {}
        jacobians = _jacobians(self.gradients.by(self.formed), x) if self.formed else {}
        return {**factors, **jacobians}

    def contract(self, features1: dict[str, Factor], features2: Any) -> Array:
        """The inner products of this function's gradients with another's, over the parameters that both depend on."""
        paths = [path for path in features1 if path in features2]
        with jax.default_matmul_precision(self.gradients.precision):
            total: Any = sum(contracted(features1[path], features2[path], self.outputs) for path in paths)
        return gradient_scale(next(iter(features1.values())).num_outputs, self.outputs) ** 2 * total

    def among(self, paths: Collection[str]) -> "Side":
        """The gradients by only the parameters at these paths."""
        matched, formed = (tuple(path for path in own if path in paths) for own in (self.matched, self.formed))
        return dataclasses.replace(self, matched=matched, formed=formed)

    def pass_rows(self, x: Array) -> int:
        """How many examples the gradients are computed for at once."""
        num_bytes = self.gradients.memory_budget // PASS_SHARE
        if jax.default_backend() == "cpu":
            num_bytes = min(num_bytes, CACHED)
        return _rows_that_fit_together(
            self.gradients.by(self.matched).pass_rows(x) if self.matched else None,
            num_bytes // (2 * self._formed_bytes(x)) if self.formed else None,
        )

    def block_rows(self, x: Array) -> int:
        """How many examples this side of a block may have."""
        return _rows_that_fit_together(
            self.gradients.by(self.matched).block_rows(x) if self.matched else None,
            self.gradients.memory_budget // (7 * self._formed_bytes(x)) if self.formed else None,
        )

    def _formed_bytes(self, x: Array) -> int:
        """The bytes of the formed Jacobians per example."""
        leaves = dict(zip(self.gradients.paths, jax.tree.leaves(self.gradients.params), strict=True))
        return self.gradients.num_outputs(x) * sum(leaves[path].nbytes for path in self.formed)


def square_rows(memory_budget: int, num_outputs: tuple[int, int], outputs: Outputs) -> int:
    """The most examples per side of a square block such that four float64 copies of it fit the budget."""
    entries = math.prod(num_outputs) if outputs == "all" else num_entries(num_outputs[0], outputs)
    return max(1, math.isqrt(memory_budget // (4 * 8 * entries)))


def _rows_that_fit_together(*rows: int | None) -> int:
    """The rows that fit if several kinds of data share the memory, given the rows that each kind alone would allow."""
    return max(1, int(1 / sum(1 / max(1, number) for number in rows if number is not None)))


def _comparable(left: Factor, right: Factor) -> bool:
    """Whether factors of one example could be contracted if their coordinates match, and whether that saves work."""
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


def _for_every_example(factor: Factor) -> Factor:
    """The factor with every array broadcast over the examples, including arrays that all examples share."""

    def full(leaf: Array) -> Array:
        if len(leaf) == factor.num_examples:
            return leaf
        # The barrier avoids a bug: XLA on CPUs (JAX 0.10) computes reduced products of two broadcast arrays wrongly.
        return lax.optimization_barrier(jnp.broadcast_to(leaf, (factor.num_examples, *leaf.shape[1:])))

    return jax.tree.map(full, factor)


def _factors(gradients: Gradients, x: Array) -> dict[str, Factor]:
    """The factors of one example, as they are kept, with shapes in place of arrays."""
    counted = {path: f for path, f in gradients.shapes(x).items() if gradients.only is None or path in gradients.only}
    return {path: jax.eval_shape(lambda factor: factor.kept(), factor) for path, factor in counted.items()}


def _shapes(tree: Any, lead: int = 0) -> Hashable:
    """The shapes and types of the arrays of a pytree, without their first `lead` axes."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, tuple((jnp.shape(leaf)[lead:], jnp.result_type(leaf)) for leaf in leaves)


def _random_like(rng: np.random.Generator, leaf: Array) -> Array:
    """Random weights of a parameter's shape, in float32 or wider. Parameters of whole numbers stay as they are."""
    if not jnp.issubdtype(leaf.dtype, jnp.floating):
        return leaf if is_known(leaf) else jnp.zeros(leaf.shape, leaf.dtype)
    values = rng.normal(size=leaf.shape) / max(1, math.prod(leaf.shape[:-1])) ** 0.5
    return jnp.asarray(values, jnp.result_type(leaf.dtype, np.float32))


def _random_examples(rng: np.random.Generator, gradients: Gradients, x: Array) -> Array:
    """Random examples like those of the inputs. Whole numbers are zero, an id that every table has."""
    rows = jax.ShapeDtypeStruct((NUM_DRAWN, *x.shape[1:]), x.dtype)

    def drawn(leaf: jax.ShapeDtypeStruct) -> Array:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return jnp.zeros(leaf.shape, leaf.dtype)
        return jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype)

    examples = jax.tree.map(drawn, jax.eval_shape(lambda x: unpacked(gradients.f, x), rows))
    return packed_rows(examples, "x")[1] if are_several(examples) else examples
