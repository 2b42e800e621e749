"""The gradients of a network at given parameters, as factors from which its kernel and Jacobian products are computed.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.gradients import Gradients
>>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
>>> gradients = Gradients.of(f, {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 2))}, "all")
>>> sorted(gradients.features(jnp.ones((4, 3))))
["['hidden']", "['out']"]
"""

import dataclasses
import math
from collections.abc import Callable, Iterable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool

from ntkbias.checks import require_choice
from ntkbias.compilation import Function
from ntkbias.errors import InputError
from ntkbias.function import checked_function, num_outputs, require_inputs, signature, split_params
from ntkbias.kernels.factors import Factor, Lookup
from ntkbias.kernels.outputs import arrangement, gradient_scale, num_entries, rows_per_example
from ntkbias.kernels.reading import OutputRange, factor_bytes, factor_shapes, factors
from ntkbias.kernels.tiles import mirrored, strips
from ntkbias.memory import checked_memory_budget
from ntkbias.packing import Layout, of_packed
from ntkbias.parameters import Which, paths_of
from ntkbias.tables import Described, name_of
from ntkbias.types import ApplyFunction, Outputs, Params, Precision

__all__ = ["Gradients", "square_rows"]

CACHED = 2**25  # bytes: larger passes do not fit a CPU's caches, and are slower
MANY = 256  # outputs: if there are more, and one example's gradients do not fit, they are taken in groups
MOST_GROUPED = 64  # outputs in a group
# A block's memory is divided into equal shares: one for each side, one for the pass that is being added to it, and the
# rest for copies and the block itself.
SHARES = 7
PASS_SHARE = 4  # passes through the network may take one part in this many of the memory budget


class Gradients(Described):
    """The gradients of the outputs of `f(params, x)` with respect to the selected parameters.

    An immutable pytree whose leaves are the parameters; made by `Gradients.of`.

    >>> import jax, ntkbias as nb
    >>> kernel = nb.empirical_ntk(lambda params, x: x @ params, jax.numpy.ones((2, 1)))
    >>> isinstance(kernel.gradients, nb.kernels.Gradients)
    True
    """

    f: Function
    params: Params
    outputs: Outputs = eqx.field(static=True)
    precision: Precision = eqx.field(static=True)
    memory_budget: int = eqx.field(static=True)
    only: tuple[str, ...] | None = eqx.field(static=True, default=None)  # paths of the selected parameters; None: all

    @classmethod
    def of(
        cls,
        f: ApplyFunction,
        params: Params,
        outputs: Outputs = "mean",
        precision: Precision = "highest",
        memory_budget: int | None = None,
        wrt: Which | None = None,
    ) -> "Gradients":
        """Check a user's arguments, and return the gradients by all parameters, or by those that `wrt` selects."""
        require_choice("outputs", outputs, Outputs)
        require_choice("precision", precision, Precision)
        budget = checked_memory_budget(memory_budget)
        function, params, only = checked_function(f, params, wrt)
        return cls(function, params, outputs, precision, budget, only)

    def described(self) -> str:
        """The function, how many of its parameters count, and what becomes of its outputs."""
        leaves = zip(paths_of(self.params), jax.tree.leaves(self.params), strict=True)
        sizes = {path: math.prod(jnp.shape(leaf)) for path, leaf in leaves}
        total = sum(sizes.values())
        own = total if self.only is None else sum(sizes[path] for path in self.only)
        count = f"{own:,}" if own == total else f"{own:,} of {total:,}"
        return f'{name_of(self.f)}, {count} parameters, outputs "{self.outputs}"'

    def by(self, paths: tuple[str, ...]) -> "Gradients":
        """The gradients by only the parameters at these paths."""
        return dataclasses.replace(self, only=paths)

    def at(self, params: Params) -> "Gradients":
        """The gradients at other parameters."""
        return dataclasses.replace(self, params=params)

    def packed(self, layout: Layout) -> "Gradients":
        """The gradients of f as a function of packed inputs."""
        return dataclasses.replace(self, f=of_packed(self.f, layout))

    @property
    def paths(self) -> tuple[str, ...]:
        """The path of every parameter, selected or not."""
        return paths_of(self.params)

    def _used(self, found: dict[str, Factor]) -> Iterable[str]:
        return found if self.only is None else [path for path in self.only if path in found]

    def check(self, x: Array, name: str) -> None:
        """Raise an `InputError` unless `f` treats each input alone, and depends on at least one selected parameter."""
        require_inputs(self.f, self.params, x, name)
        if self.only is not None and not any(path in self.shapes(x) for path in self.only):
            names = "the parameter" if len(self.only) == 1 else "one of the parameters"
            raise InputError(
                f"Expected f(params, x) to depend on {names} {', '.join(self.only[:8])}; its outputs are the same for "
                "all values. Leave its kernel out of the sum: it is zero."
            )

    def num_outputs(self, x: Array) -> int:
        """The number of outputs of `f` per example: the product of all output axes after the batch axis."""
        return num_outputs(self.f, self.params, x)

    def shapes(self, x: Array) -> dict[str, Factor]:
        """The factor of every parameter that `f` depends on, for one example, with shapes in place of arrays."""
        return factor_shapes(self.f, signature(self.params, x), self.outputs, self.precision)

    def features(self, x: Array, output_range: OutputRange | None = None) -> dict[str, Factor]:
        """The factor of each selected parameter, by path, as it is kept; only for a range of outputs if one is given.

        For "mean" and "sum" the kernel is the sum of the kernels of all ranges.
        """
        with jax.default_matmul_precision(self.precision):
            found = factors(self.f, self.params, x, self.outputs, self.precision, output_range)
            features = {path: found[path].kept() for path in self._used(found)}
            others = _unchecked_lookups({path: factor for path, factor in found.items() if path not in features})
            if others:  # their gradients are left out, but f read some other row: no number would be right
                outside = jnp.any(jnp.concatenate([jnp.reshape(o.out_of_bounds(), (len(x), -1)) for o in others], 1), 1)
                first = next(iter(features))
                features[first] = _undefined_where(outside, features[first])
            return features

    def has_unchecked_lookups(self, x: Array) -> bool:
        """Whether f looks up rows of a table with indices that it promises to be in bounds, so that JAX checks none."""
        return bool(_unchecked_lookups(self.shapes(x)))

    def out_of_bounds(self, x: Array) -> Array:
        """Whether any of these indices is out of bounds."""
        found = factors(self.f, self.params, x, self.outputs, self.precision)
        return jnp.any(jnp.array([jnp.any(factor.out_of_bounds()) for factor in _unchecked_lookups(found)]))

    def contract(self, features1: dict[str, Factor], features2: dict[str, Factor] | None) -> Array:
        """The inner products of two sets of gradients, or of the first set with itself if the second is None."""
        one = next(iter(features1.values()))
        if features2 is None:
            parts = strips(one.num_examples, rows_per_example(one.num_outputs, self.outputs))
        else:
            parts = [(slice(one.num_examples), slice(next(iter(features2.values())).num_examples))]
        total: list[Any] = [0.0] * len(parts)
        with jax.default_matmul_precision(self.precision):
            for path, factor in features1.items():
                other = None if features2 is None else features2[path]
                found = factor.blocks(other, parts, self.outputs)
                total = [block + part for block, part in zip(total, found, strict=True)]
        return mirrored(total, self.outputs)

    def outputs_at_once(self, x: Array) -> int | None:
        """How many outputs to take at a time, if there are many and one example's gradients do not fit; None: all.

        Groups of outputs are possible only for "mean" and "sum".
        """
        count = self.num_outputs(x)
        if count <= MANY or not arrangement(self.outputs).is_summed or SHARES * self._bytes(x)[1] <= self.memory_budget:
            return None
        return max(1, min(MOST_GROUPED, self.memory_budget // (SHARES * self._bytes(x, OutputRange(0, 1))[1])))

    def contract_by_output_range(self, x1: Array, x2: Array | None, count: int) -> Array:
        """The kernel of two sets of inputs, from `count` outputs at a time. Each costs one forward pass per example."""

        @jax.checkpoint
        def add(total: Array, first: Array) -> tuple[Array, None]:
            group = OutputRange(first, count)
            own, others = self.features(x1, group), None if x2 is None else self.features(x2, group)
            return total + self.contract(own, others), None

        firsts = jnp.arange(0, self.num_outputs(x1), count)
        shape = jax.eval_shape(lambda: add(jnp.zeros(()), firsts[0])[0])
        return jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), firsts)[0]

    def block_rows(self, x: Array) -> int:
        """How many examples each side of a block may have within the memory budget."""
        count = self.outputs_at_once(x)
        _, held = self._bytes(x, None if count is None else OutputRange(0, count))
        rows = max(1, self.memory_budget // (SHARES * held))
        return min(rows, square_rows(self.memory_budget, self.num_outputs(x), self.outputs))

    def pass_rows(self, x: Array) -> int:
        """How many examples the factors are computed for at once."""
        if self.outputs_at_once(x) is not None:
            return self.block_rows(x)
        read, _ = self._bytes(x)
        # A pass holds intermediate values beside the factors read from it: about as many bytes again.
        pass_bytes = self.memory_budget // PASS_SHARE
        if jax.default_backend() == "cpu":
            pass_bytes = min(pass_bytes, CACHED)
        return max(1, pass_bytes // (2 * read))

    def _bytes(self, x: Array, output_range: OutputRange | None = None) -> tuple[int, int]:
        return factor_bytes(self.f, signature(self.params, x), self.outputs, self.precision, self.only, output_range)

    def split_params(self) -> tuple[list[Array], Callable[[list[Array]], Params]]:
        """The selected parameters, and a function that rebuilds all parameters from values for these."""
        return split_params(self.params, self.only)

    def outputs_by_params(self, x: Array) -> tuple[Callable[[list[Array]], Array], list[Array]]:
        """The outputs `(n, o)`, for "mean" divided by sqrt(o), as a function of the selected parameters; and these."""
        chosen, rebuild = self.split_params()
        scale = gradient_scale(math.prod(jax.eval_shape(self.f, self.params, x).shape[1:]), self.outputs)

        def function(chosen: list[Array]) -> Array:
            with jax.default_matmul_precision(self.precision):
                return scale * self.f(rebuild(chosen), x).reshape(len(x), -1)

        return function, chosen


def _unchecked_lookups(found: dict[str, Factor]) -> list[Lookup]:
    """The look-ups among these factors whose indices f promises to be in bounds."""
    terms = [term for factor in found.values() for term in factor.terms]
    return [term for term in terms if isinstance(term, Lookup) and term.assumes_in_bounds]


def _undefined_where(examples: Bool[Array, " n"], factor: Factor) -> Factor:
    """The factor, with NaN in place of the gradients of some examples."""

    def marked(leaf: Array) -> Array:
        if len(leaf) < len(examples) or not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        return jnp.where(examples.reshape(-1, *[1] * (leaf.ndim - 1)), jnp.nan, leaf)

    return jax.tree.map(marked, factor)


def square_rows(memory_budget: int, num_outputs: int, outputs: Outputs) -> int:
    """The most examples per side of a square block such that four float64 copies of it fit the budget."""
    return max(1, math.isqrt(memory_budget // (4 * 8 * num_entries(num_outputs, outputs))))
