"""The kernel of several functions of the same parameters, each at inputs of its own: one matrix of blocks.

    K[(i, x), (j, x')] = sqrt(w_i w_j) <d f_i(x) / d params, d f_j(x') / d params>

It is what governs the training of a physics-informed network, whose loss adds up the squares of a residual, of boundary
and of initial conditions (Wang, Yu and Perdikaris 2020, arXiv 2007.14527): under gradient flow on

    loss = sum over i of w_i / 2 times the sum over inputs of r_i(x)^2

the errors sqrt(w_i) r_i decay as exp(-K time). Where the loss takes means over n_i inputs with weights l_i, w_i is l_i
/ n_i. K is symmetric and positive semi-definite, and whatever takes a matrix takes it: `eigh`, whose eigenvalues are
those of K over the number of rows, `as_operator`, and `learnability(K, y, centered=False)` (a mean over rows of several
functions means nothing).

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=16, depth=1, activation="tanh")
>>> u = lambda params, x: net.apply(params, x)[:, 0]
>>> slope = lambda params, x: jax.vmap(jax.grad(lambda x: u(params, x[None])[0]))(x)[:, 0]
>>> kernel = nb.block_ntk({"residual": slope, "boundary": u}, net.init(jax.random.key(0), (1,)))
>>> x = {"residual": jnp.linspace(-1.0, 1.0, 9)[:, None], "boundary": jnp.array([[-1.0], [1.0]])}
>>> K = kernel(x)
>>> K.shape, kernel.rows(x)["boundary"], kernel.blocks(x)["residual", "boundary"].shape
((11, 11), slice(9, 11, None), (9, 2))
>>> balanced = kernel.weighted(kernel.trace_weights(x))
>>> bool(jnp.allclose(balanced.traces(x)["boundary"], jnp.trace(K), rtol=1e-4))
True
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.checks import are_known, require_scale
from ntkbias.compilation import compiled
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels.empirical.matched import Side, sides_of, square_rows
from ntkbias.kernels.empirical.ntk import EmpiricalNTK
from ntkbias.kernels.evaluation import worker_of
from ntkbias.kernels.factors import Factor
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.inputs import checked, of_one_array
from ntkbias.kernels.operators import KernelOperator, as_operator
from ntkbias.kernels.tiles import Tiles
from ntkbias.parameters import Which
from ntkbias.tables import MOST_ROWS, Described, Table, counted
from ntkbias.types import ApplyFunction, Params, Precision

__all__ = ["BlockNTK", "block_ntk"]


def block_ntk(
    functions: Mapping[str, ApplyFunction],
    params: Params,
    *,
    weights: Mapping[str, Any] | None = None,
    memory_budget: int | None = None,
    precision: Precision = "highest",
    wrt: Which | None = None,
) -> "BlockNTK":
    """The kernel of a dictionary of functions of the same `params`, `{name: f}`, each an `f(params, x)`.

    `block_ntk(functions, params)(x)` takes inputs `{name: x}`, and gives one matrix `(rows, rows)`: the functions in
    their order in the dictionary, of each its examples, of each of those its outputs. Functions may take inputs of
    different shapes, and have different numbers of outputs. `weights` `{name: w}` are zero or more, one unless given:
    a block is scaled by sqrt(w_i w_j).

    Costs the gradients of every function once, or once for each row of blocks where they do not fit `memory_budget`,
    and their inner products; a parameter that functions use in different ways has its Jacobians formed, of n o p
    numbers. The matrix itself is held beside that. It is computed on one device. Other arguments are those of
    `empirical_ntk`.

    Raises `InputError` as `empirical_ntk` does for each function, and on names that do not fit.
    """
    if not isinstance(functions, Mapping) or not functions or not all(isinstance(name, str) for name in functions):
        raise InputTypeError(
            "Expected functions as a dictionary of one or more, {name: f}, as {'residual': r, 'boundary': u}; got "
            f"{_described(functions)}. For two functions without names use cross_ntk(f, g, params)."
        )
    gradients = tuple(Gradients.of(f, params, "all", precision, memory_budget, wrt) for f in functions.values())
    names = tuple(functions)
    return BlockNTK(
        names, gradients, _checked_weights(names, dict.fromkeys(names, 1.0) if weights is None else weights)
    )


class BlockNTK(Described):
    """The kernel of several functions of the same parameters; made by `block_ntk`. Its leaves are the parameters."""

    names: tuple[str, ...] = eqx.field(static=True)
    gradients: tuple[Gradients, ...]
    weights: dict[str, Any]

    def table(self, num_rows: int = MOST_ROWS) -> Table:
        """What printing shows: a row a function."""
        columns = {"function": list(self.names), "": [gradients.described() for gradients in self.gradients]}
        return Table(f"BlockNTK: {counted(len(self.names), 'function')}", columns)

    def __call__(self, x1: Mapping[str, Any], x2: Mapping[str, Any] | None = None) -> Float[Array, "rows columns"]:
        """The matrix of the inputs `{name: x}` with themselves, or of `x1` with `x2`; see `rows` for its order.

        Raises `InputError` on names other than those of the functions, on empty inputs, NaN or infinite values, and on
        inputs that a function refuses.
        """
        first = self._checked(x1, "x" if x2 is None else "x1")
        second = None if x2 is None else self._checked(x2, "x2")
        found = self._evaluated(first, second)
        if are_known(found) and not bool(jnp.all(jnp.isfinite(found))):
            raise InputError(
                "Expected inputs at which the kernel is finite; got NaN or infinity in its matrix. "
                "Check the scale of inputs and parameters."
            )
        return found

    def operator(self, x: Mapping[str, Any]) -> KernelOperator:
        """The matrix of the inputs `{name: x}` as an operator, for `top_modes`, say; the matrix is held."""
        return as_operator(self(x))

    def blocks(
        self, x1: Mapping[str, Any], x2: Mapping[str, Any] | None = None
    ) -> dict[tuple[str, str], Float[Array, "rows columns"]]:
        """The same matrix cut into its blocks, by the names of the functions of rows and columns."""
        whole = self(x1, x2)
        rows, columns = self.rows(x1), self.rows(x1 if x2 is None else x2)
        return {(i, j): whole[rows[i], columns[j]] for i in self.names for j in self.names}

    def rows(self, x: Mapping[str, Any]) -> dict[str, slice]:
        """Which rows of the matrix belong to each function: its examples, times its outputs, which run fastest."""
        found, start = {}, 0
        for name, given in zip(self.names, self._checked(x, "x"), strict=True):
            found[name] = slice(start, start + given.num_rows)
            start += given.num_rows
        return found

    def traces(self, x: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
        """The trace of each function's own block, weighted; costs the gradients, and no inner products."""
        return {name: self.weights[name] * trace for name, trace in self._traces(x).items()}

    def trace_weights(self, x: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
        """The weights tr(K) / tr(K_ii), of the kernel without weights, under which all blocks have one trace.

        They balance how fast the functions are learned on average: for the loss of the module's docstring, and for one
        of means where all functions have as many inputs, as in the paper. `kernel.weighted(kernel.trace_weights(x))`
        has them. Under `jit` they are arrays of the surrounding program, as for a loss that is weighted anew on the way
        (Wang, Yu and Perdikaris 2020, algorithm 1).

        Raises `InputError` where a function's gradients are all zero.
        """
        traces = self._traces(x)
        for name, trace in traces.items():
            if are_known(trace) and not trace > 0:
                raise InputError(
                    f"Expected gradients of the function {name!r} that are not all zero, to weigh it by their size; "
                    f"got a trace of {float(trace):g}. Leave that function out, or choose its weight by hand."
                )
        total = sum(traces.values())
        return {name: total / trace for name, trace in traces.items()}

    def weighted(self, weights: Mapping[str, Any]) -> "BlockNTK":
        """The kernel with these weights, `{name: w}`, in place of its own."""
        return dataclasses.replace(self, weights=_checked_weights(self.names, weights))

    def _traces(self, x: Mapping[str, Any]) -> dict[str, Array]:
        """The traces of the functions' own blocks, without weights."""
        functions = self._checked(x, "x")
        total: dict[str, Any] = dict.fromkeys(self.names, 0.0)
        for piece in _pieces(sides_of(*_parted(functions), "all"), functions):
            squares = _squares(worker_of(piece.side).features(piece.x)).reshape(-1)
            total[self.names[piece.function]] += jnp.sum(squares[: piece.rows.stop - piece.rows.start])
        return total

    def _checked(self, x: Any, name: str) -> "list[Given]":
        """The inputs of each function, in order, and its gradients there."""
        if not isinstance(x, Mapping) or set(x) != set(self.names):
            got = ", ".join(map(str, x)) or "none" if isinstance(x, Mapping) else type(x).__name__
            raise InputError(
                f"Expected {name} to be a dictionary of inputs with the names of the functions, "
                f"{', '.join(self.names)}; got {got}."
            )
        found = []
        for function, gradients in zip(self.names, self.gradients, strict=True):
            own = f"{name}[{function!r}]"
            try:
                kernel, inputs = of_one_array(EmpiricalNTK(gradients), x[function], own)
                found.append(Given(kernel.gradients, checked(kernel, inputs, own)))
            except InputError as error:
                raise type(error)(f"{error} (It is the function {function!r}.)") from error
        return found

    def _evaluated(self, first: "list[Given]", second: "list[Given] | None") -> Array:
        """The matrix, block by block; of a symmetric one the upper triangle is computed."""
        functions = first if second is None else [*first, *second]
        sides = sides_of(*_parted(functions), "all")
        own = _pieces(sides[: len(first)], first)
        others = own if second is None else _pieces(sides[len(first) :], second)
        roots = [jnp.sqrt(jnp.asarray(self.weights[name])) for name in self.names]
        # Both sides of a block have room for as many gradients as its budget allows: they are kept if that is all.
        keeps = sum(piece.share for piece in (own if second is None else [*own, *others])) <= 2
        kept: dict[int, Any] = {}

        def features(index: int) -> Any:
            piece = others[index]
            found = kept.get(index)
            if found is None:
                found = worker_of(piece.side).features(piece.x)
            if keeps:
                kept[index] = found
            return found

        whole: Any = None
        for i, row in enumerate(own):
            left = features(i) if second is None else worker_of(row.side).features(row.x)
            for j, column in enumerate(others[i:] if second is None else others, i if second is None else 0):
                right = left if second is None and i == j else features(j)
                block = _block(row.side, left, right, roots[row.function] * roots[column.function])
                block = block[: row.rows.stop - row.rows.start, : column.rows.stop - column.rows.start]
                if whole is None:
                    whole = jnp.zeros((own[-1].rows.stop, others[-1].rows.stop), block.dtype)
                whole = _placed(whole, block, row.rows.start, column.rows.start)
                if second is None and i != j:
                    whole = _placed(whole, block.T, column.rows.start, row.rows.start)
        return whole


class Piece(NamedTuple):
    """Some examples of one function."""

    function: int
    side: Side
    x: Any  # filled up to one length
    rows: slice  # of the matrix
    share: float  # of the room that one side of a block has


class Given(NamedTuple):
    """A function at its inputs, of one array."""

    gradients: Gradients
    x: Array

    @property
    def num_rows(self) -> int:
        """How many rows of the matrix it has."""
        return len(self.x) * self.gradients.num_outputs(self.x)


def _parted(functions: list[Given]) -> tuple[list[Gradients], list[Array]]:
    return [given.gradients for given in functions], [given.x for given in functions]


def _pieces(sides: list[Side], functions: list[Given]) -> list[Piece]:
    """All functions' inputs, in pieces that fit the memory budget."""
    budget = functions[0].gradients.memory_budget
    most_outputs = max(given.gradients.num_outputs(given.x) for given in functions)
    square = square_rows(budget, (most_outputs, most_outputs), "all")
    found, start = [], 0
    for function, (side, (gradients, x)) in enumerate(zip(sides, functions, strict=True)):
        num_outputs, room = gradients.num_outputs(x), side.block_rows(x)
        pieces = Tiles(x, min(room, square, len(x)))
        for index in range(len(pieces)):
            bounds = pieces.bounds(index)
            rows = slice(start + bounds.start * num_outputs, start + bounds.stop * num_outputs)
            found.append(Piece(function, side, pieces[index], rows, pieces.rows / room))
        start += len(x) * num_outputs
    return found


def _checked_weights(names: tuple[str, ...], weights: Any) -> dict[str, Any]:
    """The weights by the names of the functions."""
    if not isinstance(weights, Mapping) or set(weights) != set(names):
        raise InputError(
            f"Expected weights to be a dictionary with the names of the functions, {', '.join(names)}; got "
            f"{_described(weights)}."
        )
    for name in names:
        require_scale(f"the weight of {name!r}", weights[name])
    return {name: jnp.asarray(weights[name], float) for name in names}


def _described(value: Any) -> str:
    if not isinstance(value, Mapping):
        return type(value).__name__
    return f"a dictionary of {', '.join(map(repr, value))}" if value else "an empty dictionary"


@jax.jit
def _squares(features: dict[str, Factor]) -> Array:
    """The squared norms `(n, o)` of some examples' gradients."""
    return sum(factor.squares() for factor in features.values())  # type: ignore[return-value]


@compiled
def _block(side: Side, left: Any, right: Any, scale: Array) -> Array:
    """A block as a matrix of examples times outputs; zeros where two functions share no parameter."""
    (n, o), (m, c) = (_sizes(features) for features in (left, right))
    if not set(left) & set(right):
        dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves((left, right))))
        return jnp.zeros((n * o, m * c), dtype)
    found = side.contract(left, right).reshape(n * o, m * c)
    return found * scale.astype(found.dtype)


def _sizes(features: Any) -> tuple[int, int]:
    """How many examples and outputs these gradients are of."""
    factor = next(iter(features.values()))
    return factor.num_examples, factor.num_outputs


@partial(jax.jit, donate_argnums=0)
def _placed(whole: Array, block: Array, row: Any, column: Any) -> Array:
    """The matrix with a block put into it, in its own memory."""
    return jax.lax.dynamic_update_slice(whole, block, (row, column))
