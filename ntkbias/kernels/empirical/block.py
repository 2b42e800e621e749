"""The joint kernel of several functions of the same parameters, each at its own inputs: one matrix of blocks.

    K[(i, x), (j, x')] = sqrt(w_i w_j) <d f_i(x) / d params, d f_j(x') / d params>

This kernel governs the training of a physics-informed network, whose loss adds the squares of a residual, of boundary
conditions and of initial conditions (Wang, Yu and Perdikaris 2020, arXiv 2007.14527). Under gradient flow on

    loss = sum over i of w_i / 2 times the sum over inputs of r_i(x)^2

the errors sqrt(w_i) r_i decay as exp(-K time). If the loss takes means over n_i inputs with weights l_i, then
w_i = l_i / n_i. K is symmetric and positive semi-definite, so every function of a matrix accepts it: `eigh`, whose
eigenvalues are those of K over the number of rows, `as_operator`, and `learnability(K, y, centered=False)`. Do not
center: a mean over rows of different functions means nothing.

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
from ntkbias.kernels.evaluation import programs_of_device
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
    """The joint kernel of functions `{name: f}` of the same `params`, where each f is an `f(params, x)`.

    `block_ntk(functions, params)(x)` takes inputs `{name: x}` and returns one matrix `(rows, rows)`. Its rows are
    ordered by function, in the order of the dictionary, then by example, then by output. Functions may take inputs of
    different shapes, and have different numbers of outputs. `weights` `{name: w}` are zero or more, one by default:
    block (i, j) is scaled by sqrt(w_i w_j).

    Costs the gradients of every function and their inner products. Gradients that do not fit `memory_budget` are
    computed again for each row of blocks. If functions use a parameter in different ways, its Jacobians, of n o p
    numbers, are formed. The matrix is held in addition. It is computed on one device. Other arguments are those of
    `empirical_ntk`.

    Raises `InputError` as `empirical_ntk` does for each function, and if names do not match.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> parts = {"value": lambda p, x: x @ p, "slope": lambda p, x: jnp.broadcast_to(p, x.shape)[:, :1]}
    >>> K = nb.block_ntk(parts, jnp.ones(2))({"value": jnp.ones((3, 2)), "slope": jnp.ones((2, 2))})
    >>> K.shape  # 3 rows of "value", then 2 of "slope"
    (5, 5)
    """
    if not isinstance(functions, Mapping) or not functions or not all(isinstance(name, str) for name in functions):
        raise InputTypeError(
            "Expected functions as a dictionary of one or more, {name: f}, e.g. {'residual': r, 'boundary': u}; got "
            f"{_described(functions)}. For two functions without names use cross_ntk(f, g, params)."
        )
    gradients = tuple(Gradients.of(f, params, "all", precision, memory_budget, wrt) for f in functions.values())
    names = tuple(functions)
    return BlockNTK(
        names, gradients, _checked_weights(names, dict.fromkeys(names, 1.0) if weights is None else weights)
    )


class BlockNTK(Described):
    """The joint kernel of several functions of the same parameters; made by `block_ntk`. A pytree of the parameters.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> kernel = nb.block_ntk({"one": lambda p, x: x @ p, "two": lambda p, x: 2 * x @ p}, jnp.ones(2))
    >>> kernel({"one": jnp.eye(2), "two": jnp.eye(2)}).tolist()[0]
    [1.0, 0.0, 2.0, 0.0]
    """

    names: tuple[str, ...] = eqx.field(static=True)
    gradients: tuple[Gradients, ...]
    weights: dict[str, Any]

    def table(self, num_rows: int = MOST_ROWS) -> Table:
        """What printing shows: a row a function."""
        columns = {"function": list(self.names), "": [gradients.described() for gradients in self.gradients]}
        return Table(f"BlockNTK: {counted(len(self.names), 'function')}", columns)

    def __call__(self, x1: Mapping[str, Any], x2: Mapping[str, Any] | None = None) -> Float[Array, "rows columns"]:
        """The matrix of the inputs `{name: x}` with themselves, or of `x1` with `x2`. `rows` gives its order.

        Raises `InputError` if the names are not those of the functions, on empty inputs, NaN or infinite values, and on
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
        """The matrix of the inputs `{name: x}` as an operator, e.g. for `top_modes`. The matrix is held in memory."""
        return as_operator(self(x))

    def blocks(
        self, x1: Mapping[str, Any], x2: Mapping[str, Any] | None = None
    ) -> dict[tuple[str, str], Float[Array, "rows columns"]]:
        """The blocks of the matrix, by the names of the functions of their rows and columns."""
        matrix = self(x1, x2)
        rows, columns = self.rows(x1), self.rows(x1 if x2 is None else x2)
        return {(i, j): matrix[rows[i], columns[j]] for i in self.names for j in self.names}

    def rows(self, x: Mapping[str, Any]) -> dict[str, slice]:
        """Which rows of the matrix belong to each function: its examples times its outputs; the output runs fastest."""
        found, start = {}, 0
        for name, given in zip(self.names, self._checked(x, "x"), strict=True):
            found[name] = slice(start, start + given.num_rows)
            start += given.num_rows
        return found

    def traces(self, x: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
        """The trace of each function's diagonal block, with weights. Costs the gradients, and no inner products."""
        return {name: self.weights[name] * trace for name, trace in self._traces(x).items()}

    def trace_weights(self, x: Mapping[str, Any]) -> dict[str, Float[Array, ""]]:
        """The weights tr(K) / tr(K_ii), from the kernel without weights, that give all diagonal blocks one trace.

        They balance the average rates at which the functions are learned, under the loss of the module's docstring.
        For a loss of means they do if all functions have the same number of inputs, as in the paper.
        `kernel.weighted(kernel.trace_weights(x))` is the kernel with these weights. This works under `jit`, for losses
        whose weights are updated during training (Wang, Yu and Perdikaris 2020, algorithm 1).

        Raises `InputError` if all gradients of a function are zero.
        """
        traces = self._traces(x)
        for name, trace in traces.items():
            if are_known(trace) and not trace > 0:
                raise InputError(
                    f"Expected gradients of the function {name!r} that are not all zero, to weight it by their size; "
                    f"got a trace of {float(trace):g}. Leave that function out, or choose its weight by hand."
                )
        total = sum(traces.values())
        return {name: total / trace for name, trace in traces.items()}

    def weighted(self, weights: Mapping[str, Any]) -> "BlockNTK":
        """The kernel with the weights `{name: w}` in place of its own."""
        return dataclasses.replace(self, weights=_checked_weights(self.names, weights))

    def _traces(self, x: Mapping[str, Any]) -> dict[str, Array]:
        """The traces of the diagonal blocks, without weights."""
        functions = self._checked(x, "x")
        total: dict[str, Any] = dict.fromkeys(self.names, 0.0)
        for piece in _pieces(sides_of(*_unzipped(functions), "all"), functions):
            squares = _squares(programs_of_device(piece.side).features(piece.x)).reshape(-1)
            total[self.names[piece.function]] += jnp.sum(squares[: piece.rows.stop - piece.rows.start])
        return total

    def _checked(self, x: Any, name: str) -> "list[CheckedInputs]":
        """The gradients of each function, in order, with its checked inputs."""
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
                found.append(CheckedInputs(kernel.gradients, checked(kernel, inputs, own)))
            except InputError as error:
                raise type(error)(f"{error} (This concerns the function {function!r}.)") from error
        return found

    def _evaluated(self, first: "list[CheckedInputs]", second: "list[CheckedInputs] | None") -> Array:
        """The matrix, block by block. If it is symmetric, only the upper triangle is computed."""
        functions = first if second is None else [*first, *second]
        sides = sides_of(*_unzipped(functions), "all")
        own = _pieces(sides[: len(first)], first)
        others = own if second is None else _pieces(sides[len(first) :], second)
        roots = [jnp.sqrt(jnp.asarray(self.weights[name])) for name in self.names]
        # The budget of a block has room for the gradients of two full sides. If all gradients fit there, keep them.
        keeps = sum(piece.share for piece in (own if second is None else [*own, *others])) <= 2
        kept: dict[int, Any] = {}

        def features(index: int) -> Any:
            piece = others[index]
            found = kept.get(index)
            if found is None:
                found = programs_of_device(piece.side).features(piece.x)
            if keeps:
                kept[index] = found
            return found

        matrix: Any = None
        for i, row in enumerate(own):
            left = features(i) if second is None else programs_of_device(row.side).features(row.x)
            for j, column in enumerate(others[i:] if second is None else others, i if second is None else 0):
                right = left if second is None and i == j else features(j)
                block = _block(row.side, left, right, roots[row.function] * roots[column.function])
                block = block[: row.rows.stop - row.rows.start, : column.rows.stop - column.rows.start]
                if matrix is None:
                    matrix = jnp.zeros((own[-1].rows.stop, others[-1].rows.stop), block.dtype)
                matrix = _place_block(matrix, block, row.rows.start, column.rows.start)
                if second is None and i != j:
                    matrix = _place_block(matrix, block.T, column.rows.start, row.rows.start)
        return matrix


class Piece(NamedTuple):
    """Some examples of one function."""

    function: int
    side: Side
    x: Any  # padded to one length
    rows: slice  # of the matrix
    share: float  # of the memory that one side of a block may take


class CheckedInputs(NamedTuple):
    """The gradients of a function, and its inputs, checked and in one array."""

    gradients: Gradients
    x: Array

    @property
    def num_rows(self) -> int:
        """How many rows of the matrix belong to this function."""
        return len(self.x) * self.gradients.num_outputs(self.x)


def _unzipped(functions: list[CheckedInputs]) -> tuple[list[Gradients], list[Array]]:
    return [given.gradients for given in functions], [given.x for given in functions]


def _pieces(sides: list[Side], functions: list[CheckedInputs]) -> list[Piece]:
    """The inputs of all functions, in pieces that fit the memory budget."""
    budget = functions[0].gradients.memory_budget
    most_outputs = max(given.gradients.num_outputs(given.x) for given in functions)
    square = square_rows(budget, (most_outputs, most_outputs), "all")
    found, start = [], 0
    for function, (side, (gradients, x)) in enumerate(zip(sides, functions, strict=True)):
        num_outputs, most_rows = gradients.num_outputs(x), side.block_rows(x)
        pieces = Tiles(x, min(most_rows, square, len(x)))
        for index in range(len(pieces)):
            bounds = pieces.bounds(index)
            rows = slice(start + bounds.start * num_outputs, start + bounds.stop * num_outputs)
            found.append(Piece(function, side, pieces[index], rows, pieces.rows / most_rows))
        start += len(x) * num_outputs
    return found


def _checked_weights(names: tuple[str, ...], weights: Any) -> dict[str, Any]:
    """Return the weights as arrays. Raises `InputError` unless there is one per function, finite and not negative."""
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
    """The squared norms `(n, o)` of the gradients of some examples."""
    return sum(factor.squares() for factor in features.values())  # type: ignore[return-value]


@compiled
def _block(side: Side, left: Any, right: Any, scale: Array) -> Array:
    """A block as a matrix over examples times outputs. It is zero if the two functions share no parameter."""
    (n, o), (m, c) = (_sizes(features) for features in (left, right))
    if not set(left) & set(right):
        dtype = jnp.result_type(*(leaf.dtype for leaf in jax.tree.leaves((left, right))))
        return jnp.zeros((n * o, m * c), dtype)
    found = side.contract(left, right).reshape(n * o, m * c)
    return found * scale.astype(found.dtype)


def _sizes(features: Any) -> tuple[int, int]:
    """The numbers of examples and outputs of these gradients."""
    factor = next(iter(features.values()))
    return factor.num_examples, factor.num_outputs


@partial(jax.jit, donate_argnums=0)
def _place_block(matrix: Array, block: Array, row: Any, column: Any) -> Array:
    """Write a block into the matrix, in place."""
    return jax.lax.dynamic_update_slice(matrix, block, (row, column))
