"""The factor of a parameter that is used in several ways, such as a table that is looked up and multiplied by.

The gradient of a table of v rows and d columns is a sum over uses t of outer products r_t s_t^T, of rows r_t `(v,)` and
columns s_t `(d,)`:

    a look-up            r_t is one at the row that is looked up, s_t is the cotangent
    x @ table            r_t is the activation x_t, s_t is the cotangent
    h @ table.T          r_t is the cotangent of the logits, s_t is the activation h_t

    <J, J'> = sum over uses t, s of <r_t, r'_s> <s_t, s'_s>

Terms of one kind are one factor. Between two kinds, the inner product with a row that is looked up is a look-up, so
that gradients, of v d numbers, are never formed.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.factors import Lookup, Product
>>> looked_up = Lookup(1.0, jnp.array([[[2]], [[0]]]), jnp.ones((2, 1, 1, 4)), num_rows=3)  # 2 examples, 1 output
>>> multiplied = Product(1.0, jnp.ones((2, 1, 1, 4)), jnp.array([[[[[5.0, 0.0, 7.0]]]]] * 2))
>>> (gram,) = Tied(1.0, (looked_up, multiplied), (False, True)).blocks(None, [(slice(2), slice(2))], "sum")
>>> gram.tolist()  # 4 (r + r'') (r' + r''')
[[356.0, 344.0], [344.0, 340.0]]
"""

import dataclasses
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ntkbias.kernels.factors.factor import Factor
from ntkbias.kernels.factors.full_jacobian import FullJacobian
from ntkbias.kernels.factors.lookup import Lookup
from ntkbias.kernels.factors.pieces import Parts
from ntkbias.kernels.factors.product import Product
from ntkbias.kernels.outputs import num_pairs, transposed
from ntkbias.types import Outputs

__all__ = ["Tied"]

ENDS = {"mean": "m", "sum": "m", "each": "am", "all": "amc"}  # einsum: one example, outputs a, with m others, outputs c


class Tied(Factor):
    """The sum of several factors of one parameter, a matrix of v rows and d columns.

    `turned` says which of the factors have the rows of the matrix on the side of their cotangent: those products order
    their coordinates by columns first. Products have no batch axes, b = 1.
    """

    parts: tuple[Lookup | Product, ...]
    turned: tuple[bool, ...] = eqx.field(static=True)

    @property
    def num_outputs(self) -> int:
        return self.parts[0].num_outputs

    @property
    def terms(self) -> tuple[Factor, ...]:
        return self.parts

    def __getitem__(self, examples: slice) -> "Tied":
        return dataclasses.replace(self, parts=tuple(part[examples] for part in self.parts))

    def kept(self) -> Factor:
        return self.formed() if self.gradient_bytes() <= self.row_bytes() else self

    def blocks(self, other: Any, parts: Parts, outputs: Outputs) -> list[Array]:
        others = (self if other is None else other).parts
        total: list[Any] = [0.0] * len(parts)
        for mine, theirs in zip(self.parts, others, strict=True):
            found = mine.blocks(None if other is None else theirs, parts, outputs)
            total = [one + more for one, more in zip(total, found, strict=True)]
        for place, (rows, columns) in enumerate(parts):
            for first, second in self._pairs():
                total[place] += self._between(first, second, self.parts, others, (rows, columns), outputs)
                flipped = self._between(first, second, others, self.parts, (columns, rows), outputs)
                total[place] += transposed(flipped, outputs)
        return [self.scale**2 * block for block in total]

    def _pairs(self) -> list[tuple[int, int]]:
        """The pairs of different parts."""
        return [(first, second) for first in range(len(self.parts)) for second in range(first + 1, len(self.parts))]

    def _between(
        self, first: int, second: int, left: Any, right: Any, places: tuple[slice, slice], outputs: Outputs
    ) -> Array:
        """Inner products of part `first` of some examples with part `second` of others."""
        mine, theirs = left[first][places[0]], right[second][places[1]]
        if len(mine.cotangent) < mine.num_examples:
            mine = dataclasses.replace(mine, cotangent=_repeated(mine.cotangent, mine.num_examples))

        def row(example: Any) -> Array:
            return _inner(example, theirs, (self.turned[first], self.turned[second]), outputs)

        found = lax.map(row, mine)  # one example with all others, to bound the memory
        return jnp.moveaxis(found, 1, 0) if outputs == "each" else found

    def squares(self) -> Array:
        total: Any = sum(part.squares() for part in self.parts)
        for first, second in self._pairs():
            mine, theirs = self.parts[first], self.parts[second]
            n, flags = self.num_examples, (self.turned[first], self.turned[second])
            sides = [
                dataclasses.replace(side, cotangent=_repeated(side.cotangent, n)) if len(side.cotangent) < n else side
                for side in (mine, theirs)
            ]

            def own(example: tuple[Any, Any], flags: tuple[bool, bool] = flags) -> Array:
                one = jax.tree.map(lambda leaf: leaf[None], example[1])
                return _inner(example[0], one, flags, "each")[:, 0]

            total = total + 2 * lax.map(own, tuple(sides))
        return self.scale**2 * total

    def formed(self) -> FullJacobian:
        """The gradients themselves, by rows."""
        n = self.num_examples
        total: Any = 0.0
        for part, turned in zip(self.parts, self.turned, strict=True):
            if isinstance(part, Lookup):
                whole = part.formed()
                total = total + whole.scale * whole.jacobian
                continue
            cotangent = part.cotangent[:, :, 0]
            cotangent = _repeated(cotangent, n) if len(cotangent) < n else cotangent
            rule = "nti,notj->noji" if turned else "nti,notj->noij"
            gradients = jnp.einsum(rule, part.activation[:, 0], cotangent)
            total = total + part.scale * gradients.reshape(n, self.num_outputs, -1)
        return FullJacobian(self.scale, total)

    def gradient_bytes(self) -> int:
        """Bytes of the gradients of one example."""
        return self.num_coordinates(1) * self.parts[0].cotangent.dtype.itemsize

    def operations(self, num_others: int, outputs: Outputs) -> float:
        own = sum(part.operations(num_others, outputs) for part in self.parts)
        pairs = num_pairs(self.num_outputs, outputs)
        across = 0.0
        for first, second in self._pairs():
            mine, theirs = self.parts[first], self.parts[second]
            uses = _num_uses(mine) * _num_uses(theirs)
            rows = 1 if isinstance(mine, Lookup) else mine.activation.shape[-1]
            columns = self.num_coordinates(1) // self.num_outputs // self._num_rows()
            across += 2 * self.num_examples * num_others * uses * (self.num_outputs * (rows + columns) + pairs)
        return own + across

    def describe(self, num_others: int, outputs: Outputs) -> str:
        return " and ".join("look-ups" if isinstance(part, Lookup) else "products" for part in self.parts)

    def pull(self, vectors: Array) -> Array:
        total: Any = 0.0
        for part, turned in zip(self.parts, self.turned, strict=True):
            pulled = part.pull(vectors)
            total = total + (self._by_rows(pulled) if turned else pulled)
        return self.scale * total

    def push(self, tangents: Array, rows: int) -> Array:
        total: Any = 0.0
        for part, turned in zip(self.parts, self.turned, strict=True):
            total = total + part.push(self._by_columns(tangents) if turned else tangents, rows)
        return self.scale * total

    def _by_rows(self, coordinates: Float[Array, "q k"]) -> Float[Array, "q k"]:
        """The coordinates `(v, outputs, d)` of the factor from the order `(d, outputs, v)` of a turned part."""
        count, v = coordinates.shape[-1], self._num_rows()
        d = self.num_coordinates(1) // self.num_outputs // v
        return coordinates.reshape(d, -1, v, count).transpose(2, 1, 0, 3).reshape(-1, count)

    def _by_columns(self, coordinates: Float[Array, "q k"]) -> Float[Array, "q k"]:
        count, v = coordinates.shape[-1], self._num_rows()
        d = self.num_coordinates(1) // self.num_outputs // v
        return coordinates.reshape(v, -1, d, count).transpose(2, 1, 0, 3).reshape(-1, count)

    def _num_rows(self) -> int:
        """The number v of rows of the matrix."""
        part, turned = self.parts[0], self.turned[0]
        if isinstance(part, Lookup):
            return part.num_rows
        return part.cotangent.shape[-1] if turned else part.activation.shape[-1]

    def num_coordinates(self, rows: int) -> int:
        return self.parts[0].num_coordinates(rows)

    def operations_per_vector(self) -> float:
        return sum(part.operations_per_vector() for part in self.parts)

    def layer_operations(self) -> float:
        return sum(part.layer_operations() for part in self.parts)


def _repeated(cotangent: Array, n: int) -> Array:
    # The barrier avoids a bug: XLA on CPUs (JAX 0.10) computes reduced products of two broadcast arrays wrongly.
    return lax.optimization_barrier(jnp.broadcast_to(cotangent, (n, *cotangent.shape[1:])))


def _num_uses(part: Lookup | Product) -> int:
    return math.prod(part.cotangent.shape[2:-1])


def _sides(part: Any, turned: bool, lead: int) -> tuple[tuple[Any, bool], tuple[Any, bool]]:
    """The rows and the columns of a part, without scale, and whether they depend on the output.

    `lead` is 1 if the arrays have a first axis of examples, 0 if they are of one example.
    """
    if isinstance(part, Lookup):
        return (part.activation[..., 0], False), (part.cotangent, True)
    activation, cotangent = jnp.squeeze(part.activation, lead), jnp.squeeze(part.cotangent, 1 + lead)
    sides = (activation, False), (cotangent, True)
    return sides[::-1] if turned else sides


def _inner(one: Any, others: Any, turned: tuple[bool, bool], outputs: Outputs) -> Array:
    """The inner products of the gradients of one example with those of others: `(m,)`, `(a, m)` or `(a, m, c)`.

    The first part may be a look-up, the second is a product.
    """
    (rows, rows_vary), (columns, columns_vary) = _sides(one, turned[0], 0)
    (other_rows, other_rows_vary), (other_columns, other_columns_vary) = _sides(others, turned[1], 1)
    second = "c" if outputs == "all" else "a"
    is_shared = len(others.cotangent) < others.num_examples

    def axes_of_others(array: Array, varies: bool) -> tuple[Array, str]:
        if varies and is_shared:
            return array[0], f"{second}s"
        return array, f"m{second}s" if varies else "ms"

    other_rows, right = axes_of_others(other_rows, other_rows_vary)
    left = "at" if rows_vary else "t"
    if isinstance(one, Lookup):
        known = jnp.where(rows < 0, other_rows.shape[-1], rows)  # no row: JAX would count it from the end
        by_rows, over_rows = jnp.take(other_rows, known, axis=-1, mode="fill", fill_value=0), f"{right}t"
    else:
        over_rows = "".join(dict.fromkeys(left + right))
        by_rows = jnp.einsum(f"{left}v,{right}v->{over_rows}", rows, other_rows)
    other_columns, right = axes_of_others(other_columns, other_columns_vary)
    left = "at" if columns_vary else "t"
    over_columns = "".join(dict.fromkeys(left + right))
    by_columns = jnp.einsum(f"{left}d,{right}d->{over_columns}", columns, other_columns)
    found = jnp.einsum(f"{over_rows},{over_columns}->{ENDS[outputs]}", by_rows, by_columns)
    return one.scale * others.scale * found
