"""Which rows of a batch each value of a program can depend on, read from its equations.

Every value has one of three states: it is the same for all inputs (`Same`), its slice i along one axis depends on
example i alone (`Rows`), or nothing is known of it (None). Each rule is one of these kinds of equations; an equation
without a rule makes its results unknown. So "independent" is a proof, for all parameters and all inputs, and anything
else is no answer.

>>> import jax, jax.numpy as jnp
>>> def outcome(f):
...     return of_rows(jax.make_jaxpr(f)(jnp.ones((31, 3))), 1)
>>> outcome(lambda x: jnp.tanh(x) @ jnp.ones((3, 2))), outcome(lambda x: x - x.mean(0))
(True, False)
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.extend.core as jex
import numpy as np

from ntkbias.checks import are_known

__all__ = ["of_rows"]


class Same(NamedTuple):
    """A value that does not depend on the inputs, and the axes along which all its entries are known to be equal."""

    uniform: frozenset[int]


class Rows(NamedTuple):
    """A value whose axis `axis` has `block` entries of each example, one example after the other."""

    axis: int
    block: int = 1


State = Same | Rows | None
Body = Callable[[Any, Sequence[State]], list[State]]  # the states of what a called program returns
MOST_COMPARED = 2**20  # entries of a constant that are looked at

ENTRYWISE = set(
    "abs acos acosh add add_any and asin asinh atan atan2 atanh bessel_i0e bessel_i1e cbrt ceil clamp complex conj "
    "convert_element_type copy copy_p cos cosh digamma div eq eq_to erf erf_inv erfc exp exp2 expm1 floor ge gt "
    "igamma igammac imag integer_pow is_finite le lgamma log log1p logistic lt max min mul ne neg nextafter not or "
    "polygamma population_count pow real reduce_precision regularized_incomplete_beta rem round rsqrt select_n "
    "shift_left shift_right_arithmetic shift_right_logical sign sin sinh sqrt square stop_gradient sub tan "
    "tanh xor".split()
)
REDUCTIONS = set("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin".split())
CUMULATIVE = set("cumsum cumprod cummax cummin cumlogsumexp".split())
WINDOWS = {"reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"}
LINEAR_ALGEBRA = set("cholesky eigh triangular_solve lu qr householder_product svd geqrf".split())
CALLS = {"jit", "pjit", "closed_call", "core_call", "remat", "checkpoint", "remat2", "custom_lin", "custom_jvp_call"}
CALLS |= {"custom_vjp_call", "custom_vjp_call_jaxpr"}


def of_rows(closed: jex.ClosedJaxpr, num_inputs: int) -> bool:
    """Whether each result's slice i depends on slice i of the last `num_inputs` arguments alone.

    All of these arguments have the examples on their first axis. Their number has to be a prime by which no other
    length in the program can be divided: whatever can be was made of it, and has to be an axis of examples, or one
    along which all entries are equal. False: the program does not tell.
    """
    invars = closed.jaxpr.invars
    first = len(invars) - num_inputs
    states: list[State] = [Rows(0) if index >= first else Same(frozenset()) for index in range(len(invars))]
    reader = _Reader(invars[first].aval.shape[0])
    found = reader.states(closed.jaxpr, [_of_constant(value) for value in closed.consts], states)
    return all(state == Rows(0) for state in found)


def _of_constant(value: Any) -> State:
    shape = np.shape(value)
    if not 0 < math.prod(shape) <= MOST_COMPARED or not shape or not are_known(value):
        return Same(frozenset())
    try:
        array = np.asarray(value)
    except TypeError:  # keys of jax.random
        return Same(frozenset())
    return Same(frozenset(axis for axis in range(array.ndim) if bool(np.all(array == array.take([0], axis)))))


class _Reader(NamedTuple):
    """Goes through a program of `batch` examples, equation by equation."""

    batch: int

    def states(self, jaxpr: Any, consts: Sequence[State], inputs: Sequence[State]) -> list[State]:
        """The states of a jaxpr's results, given those of its constants and arguments."""
        constants = [self._sized(variable, state) for variable, state in zip(jaxpr.constvars, consts, strict=True)]
        known: dict[Any, State] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

        def read(variable: Any) -> State:
            if isinstance(variable, jex.Literal):
                return self._sized(variable, _of_constant(variable.val))
            return known[variable]

        for equation in jaxpr.eqns:
            states = [read(variable) for variable in equation.invars]
            same = [
                variable for variable, state in zip(equation.invars, states, strict=True) if isinstance(state, Same)
            ]
            needed = max(map(self._num_long, same), default=0)
            for variable, state in zip(equation.outvars, self._of_equation(equation, states), strict=True):
                # A sum over as many equal numbers as there are examples is another one for other batches.
                known[variable] = self._sized(variable, state) if self._num_long(variable) >= needed else None
        return [read(variable) for variable in jaxpr.outvars]

    def body(self, body: Any, states: Sequence[State]) -> list[State]:
        """The same of what an equation calls."""
        if not hasattr(body, "consts"):
            return self.states(body, [], states)
        return self.states(body.jaxpr, [_of_constant(value) for value in body.consts], states)

    def _of_equation(self, equation: Any, states: list[State]) -> list[State]:
        count = len(equation.outvars)
        if None in states:
            return [None] * count
        found = self._by_rule(equation, states)
        if found is None and all(isinstance(state, Same) for state in states):
            repeated = [self._as_rows(v, state) for v, state in zip(equation.invars, states, strict=True)]
            if repeated == states:  # the same for all inputs, whatever the equation does
                return [Same(frozenset())] * count
            found = self._by_rule(equation, repeated)
        return [None] * count if found is None else found

    def _by_rule(self, equation: Any, states: list[State]) -> list[State] | None:
        name, found = equation.primitive.name, None
        if name in CONTROL:
            found = CONTROL[name](equation, states, self.body)
        elif name in RULES:
            found = RULES[name](equation, states)
        return found if found is None or isinstance(found, list) else [found] * len(equation.outvars)

    def _as_rows(self, variable: Any, state: State) -> State:
        """A value that is equal along an axis as long as the batch, as one row an example."""
        long = self._long(variable)
        if not isinstance(state, Same) or len(long) != 1 or not long <= state.uniform:
            return state
        (axis,) = long
        return Rows(axis, variable.aval.shape[axis] // self.batch)

    def _sized(self, variable: Any, state: State) -> State:
        """The state, or None where an axis has as many entries as there are examples and is not one of theirs."""
        explained = {state.axis} if isinstance(state, Rows) else state.uniform if state is not None else frozenset()
        return state if self._long(variable) <= explained else None

    def _long(self, variable: Any) -> set[int]:
        """The axes that have as many entries as there are examples, or a multiple of that."""
        lengths = getattr(variable.aval, "shape", ())
        return {axis for axis, length in enumerate(lengths) if length and length % self.batch == 0}

    def _num_long(self, variable: Any) -> int:
        return len(self._long(variable))


def _joined(states: Sequence[State], shapes: Sequence[tuple[int, ...]]) -> State:
    """The state of a value made entry by entry of some of one shape, or scalars."""
    rows = {state for state in states if isinstance(state, Rows)}
    if None in states or len(rows) > 1:
        return None
    arrays = [state for state, shape in zip(states, shapes, strict=True) if isinstance(state, Same) and shape]
    if not rows:
        return Same(frozenset.intersection(*(state.uniform for state in arrays)) if arrays else frozenset())
    (row,) = rows
    return row if all(row.axis in state.uniform for state in arrays) else None


def _shapes(equation: Any) -> list[tuple[int, ...]]:
    return [variable.aval.shape for variable in equation.invars]


def _entrywise(equation: Any, states: list[State]) -> State:
    if all(not shape for shape in _shapes(equation)):
        return Same(frozenset()) if all(isinstance(state, Same) for state in states) else None
    return _joined(states, _shapes(equation))


def _moved(state: State, to: Callable[[int], int | None]) -> State:
    """The state after axes moved; to None where an axis is gone."""
    if isinstance(state, Rows):
        axis = to(state.axis)
        return None if axis is None else state._replace(axis=axis)
    assert state is not None
    return Same(frozenset(after for axis in state.uniform if (after := to(axis)) is not None))


def _without(axes: Sequence[int]) -> Callable[[int], int | None]:
    return lambda axis: None if axis in axes else axis - sum(other < axis for other in axes)


def _reduced(equation: Any, states: list[State]) -> State:
    return _moved(states[0], _without(equation.params["axes"]))


def _squeezed(equation: Any, states: list[State]) -> State:
    return _moved(states[0], _without(equation.params["dimensions"]))


def _transposed(equation: Any, states: list[State]) -> State:
    return _moved(states[0], equation.params["permutation"].index)


def _broadcast(equation: Any, states: list[State]) -> State:
    if len(states) > 1:
        return None
    to, shape, before = equation.params["broadcast_dimensions"], equation.params["shape"], _shapes(equation)[0]
    state = states[0]
    if isinstance(state, Rows):
        return state._replace(axis=to[state.axis]) if before[state.axis] == shape[to[state.axis]] else None
    assert isinstance(state, Same)
    kept = {to[axis] for axis in range(len(before)) if before[axis] != 1 and axis not in state.uniform}
    return Same(frozenset(range(len(shape))) - kept)


def _reshaped(equation: Any, states: list[State]) -> State:
    if len(states) > 1 or equation.params.get("dimensions") is not None:
        return None
    before, after, state = _shapes(equation)[0], equation.outvars[0].aval.shape, states[0]
    if isinstance(state, Same):
        return Same(frozenset(range(len(after))) if len(state.uniform) == len(before) else frozenset())
    assert state is not None
    lead, examples = math.prod(before[: state.axis]), before[state.axis] // state.block
    tail = state.block * math.prod(before[state.axis + 1 :])  # entries of an example, in each part of the lead
    for axis in range(len(after)):
        # Blocks are cut whole: an example's entries stay together, and the axis has a whole number of them each.
        inside = math.prod(after[axis + 1 :])
        if math.prod(after[:axis]) == lead and after[axis] % examples == 0 and tail % inside == 0:
            return Rows(axis, after[axis] // examples)
    return None


def _kept_off(states: list[State], axes: set[int]) -> list[State]:
    """The states of arrays of which an equation touches these axes alone, each array by itself."""
    return [
        (None if state.axis in axes else state)
        if isinstance(state, Rows)
        else None
        if state is None
        else Same(state.uniform - axes)
        for state in states
    ]


def _concatenated(equation: Any, states: list[State]) -> State:
    joined = _joined(states, _shapes(equation))
    return None if joined is None else _kept_off([joined], {equation.params["dimension"]})[0]


def _sorted(equation: Any, states: list[State]) -> list[State]:
    joined = _joined(states, _shapes(equation))
    return _kept_off([joined], {equation.params["dimension"]}) * len(states)


def _sliced(equation: Any, states: list[State]) -> State:
    before, after = _shapes(equation)[0], equation.outvars[0].aval.shape
    cut = {axis for axis in range(len(before)) if before[axis] != after[axis]}
    state = states[0]
    if isinstance(state, Same):
        return state
    indexed = all(isinstance(other, Same) for other in states[1:])
    return _kept_off([state], cut)[0] if indexed else None


def _updated(equation: Any, states: list[State]) -> State:
    whole, part = _shapes(equation)[:2]
    cut = {axis for axis in range(len(whole)) if whole[axis] != part[axis]}
    if not all(isinstance(other, Same) for other in states[2:]):
        return None
    joined = _joined(states[:2], [whole, part])
    return None if joined is None else _kept_off([joined], cut)[0]


def _padded(equation: Any, states: list[State]) -> State:
    if not isinstance(states[1], Same):
        return None
    changed = {axis for axis, widths in enumerate(equation.params["padding_config"]) if tuple(widths) != (0, 0, 0)}
    return _kept_off(states[:1], changed)[0]


def _split(equation: Any, states: list[State]) -> list[State]:
    return _kept_off(states, {equation.params["axis"]}) * len(equation.outvars)


def _product(equation: Any, states: list[State]) -> State:
    (contracted, batch), shapes = equation.params["dimension_numbers"], _shapes(equation)
    places = []
    for side, state in enumerate(states[:2]):
        if isinstance(state, Same):
            continue
        assert state is not None
        if state.axis in batch[side]:
            place = list(batch[side]).index(state.axis)
            other = states[1 - side]
            if isinstance(other, Same) and batch[1 - side][place] not in other.uniform:
                return None
            places.append(Rows(place, state.block))
        elif state.axis in contracted[side]:
            return None
        else:
            if not isinstance(states[1 - side], Same):
                return None
            free = [axis for axis in range(len(shapes[side])) if axis not in (*contracted[side], *batch[side])]
            before = len(shapes[0]) - len(contracted[0]) if side else len(batch[0])
            places.append(Rows(before + free.index(state.axis), state.block))
    return places[0] if places and len(set(places)) == 1 else None


def _convolved(equation: Any, states: list[State]) -> State:
    numbers, plain = equation.params["dimension_numbers"], equation.params["batch_group_count"] == 1
    if states[0] == Rows(numbers.lhs_spec[0]) and isinstance(states[1], Same) and plain:
        return Rows(numbers.out_spec[0])
    return None


def _windowed(equation: Any, states: list[State]) -> State:
    params, state = equation.params, states[0]
    if not isinstance(state, Rows) or not all(isinstance(other, Same) for other in states[1:]):
        return None
    alone = all(
        tuple(np.ravel(params[name][state.axis])) == (value,) * np.size(params[name][state.axis])
        for name, value in (
            ("window_dimensions", 1),
            ("window_strides", 1),
            ("padding", 0),
            ("base_dilation", 1),
            ("window_dilation", 1),
        )
        if name in params
    )
    return state if alone else None


def _gathered(equation: Any, states: list[State]) -> State:
    """Rows of a table looked up by each example's indices, or each example's entries at the same indices."""
    (table, indices), numbers = states[:2], equation.params["dimension_numbers"]
    shape, sizes = _shapes(equation)[0], equation.params["slice_sizes"]
    rank = len(equation.outvars[0].aval.shape)
    batch = [axis for axis in range(rank) if axis not in numbers.offset_dims]
    found: list[State] = []
    if isinstance(indices, Rows):
        if indices.axis >= len(batch):
            return None
        paired = list(numbers.start_indices_batching_dims)
        if isinstance(table, Rows) and indices.axis not in paired:
            return None
        if isinstance(table, Same) and indices.axis in paired:
            if numbers.operand_batching_dims[paired.index(indices.axis)] not in table.uniform:
                return None
        found.append(Rows(batch[indices.axis], indices.block))
    if isinstance(table, Rows):
        if table.axis in numbers.operand_batching_dims:
            place = list(numbers.operand_batching_dims).index(table.axis)
            index_axis = numbers.start_indices_batching_dims[place]
            if not isinstance(indices, Rows) or indices.axis != index_axis:
                return None
            found.append(Rows(batch[index_axis], table.block))
        else:
            outside = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
            if table.axis in outside or sizes[table.axis] != shape[table.axis]:
                return None
            kept = [axis for axis in range(len(shape)) if axis not in outside]
            found.append(Rows(numbers.offset_dims[kept.index(table.axis)], table.block))
    return found[0] if found and len(set(found)) == 1 else None


def _scattered(equation: Any, states: list[State]) -> State:
    """Each example's entries at the same indices replaced, or added to."""
    numbers, (whole, indices, part) = equation.params["dimension_numbers"], states
    if not isinstance(indices, Same) or numbers.operand_batching_dims:
        return None
    before, update = _shapes(equation)[0], _shapes(equation)[2]
    kept = [axis for axis in range(len(before)) if axis not in numbers.inserted_window_dims]

    def fits(state: State, axis: int, shape: tuple[int, ...]) -> bool:
        return axis in state.uniform if isinstance(state, Same) else state is not None and state.axis == axis

    if isinstance(whole, Rows):
        axis, block = whole.axis, whole.block
    elif isinstance(part, Rows) and part.axis in numbers.update_window_dims:
        axis, block = kept[list(numbers.update_window_dims).index(part.axis)], part.block
    else:
        return None
    if axis not in kept or axis in numbers.scatter_dims_to_operand_dims:
        return None
    window = numbers.update_window_dims[kept.index(axis)]
    whole_fits = fits(whole, axis, before) and fits(part, window, update) and update[window] == before[axis]
    blocks = {state.block for state in (whole, part) if isinstance(state, Rows)} == {block}
    return Rows(axis, block) if whole_fits and blocks else None


def _transformed(equation: Any, states: list[State]) -> State:
    rank, changed = len(_shapes(equation)[0]), len(equation.params["fft_lengths"])
    return _kept_off(states[:1], set(range(rank - changed, rank)))[0]


def _linear_algebra(equation: Any, states: list[State]) -> State:
    """Matrices on the last two axes, each by itself."""
    joined = _joined(states, _shapes(equation))
    if not isinstance(joined, Rows) or any(joined.axis >= len(shape) - 2 for shape in _shapes(equation)):
        return None
    return joined


def _counted(equation: Any, _: list[State]) -> State:
    rank = len(equation.outvars[0].aval.shape)
    return Same(frozenset(range(rank)) - {equation.params["dimension"]})


def _called(equation: Any, states: list[State], body: Body) -> list[State] | None:
    names = ("jaxpr", "call_jaxpr", "fun_jaxpr")
    called = next((equation.params[name] for name in names if name in equation.params), None)
    return None if called is None else body(called, states)


def _branched(equation: Any, states: list[State], body: Body) -> list[State] | None:
    if not isinstance(states[0], Same):
        return None
    found = [body(branch, states[1:]) for branch in equation.params["branches"]]
    shapes = [variable.aval.shape for variable in equation.outvars]
    return [
        _joined(column, [shape] * len(found)) for column, shape in zip(zip(*found, strict=True), shapes, strict=True)
    ]


def _scanned(equation: Any, states: list[State], body: Body) -> list[State] | None:
    params = equation.params
    if "num_consts" not in params:
        return None
    num_consts, num_carry = params["num_consts"], params["num_carry"]
    consts, carry, sequences = states[:num_consts], states[num_consts:][:num_carry], states[num_consts + num_carry :]
    if any(isinstance(state, Rows) and state.axis == 0 for state in sequences):  # one example after the other
        return None
    steps = [_moved(state, lambda axis: axis - 1 if axis else None) for state in sequences]

    def step(carry: list[State]) -> list[State]:
        return body(params["jaxpr"], [*consts, *carry, *steps])

    carried = _settled(carry, lambda carry: step(carry)[:num_carry], _shapes(equation)[num_consts:][:num_carry])
    stacked = [None if state is None else _moved(state, lambda axis: axis + 1) for state in step(carried)[num_carry:]]
    return [*carried, *stacked]


def _repeated(equation: Any, states: list[State], body: Body) -> list[State] | None:
    params = equation.params
    of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
    conditions, consts = states[:of_condition], states[of_condition:][:of_body]
    carry = states[of_condition + of_body :]
    shapes = _shapes(equation)[of_condition + of_body :]
    carried = _settled(carry, lambda carry: body(params["body_jaxpr"], [*consts, *carry]), shapes)
    (stops,) = body(params["cond_jaxpr"], [*conditions, *carried])
    return carried if isinstance(stops, Same) else None  # examples that stop together depend on each other


def _settled(carry: list[State], step: Callable[[list[State]], list[State]], shapes: list) -> list[State]:
    """The states of what a loop carries, before and after each of its steps."""
    while True:
        after = [_joined(pair, [shape, shape]) for *pair, shape in zip(carry, step(carry), shapes, strict=True)]
        if after == carry:
            return carry
        carry = after


RULES: dict[str, Callable[[Any, list[Any]], Any]] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenated,
    "conv_general_dilated": _convolved,
    "dot_general": _product,
    "dynamic_slice": _sliced,
    "dynamic_update_slice": _updated,
    "fft": _transformed,
    "gather": _gathered,
    "iota": _counted,
    "optimization_barrier": lambda _, states: states,
    "pad": _padded,
    "reshape": _reshaped,
    "rev": lambda equation, states: _kept_off(states, set(equation.params["dimensions"])),
    "slice": _sliced,
    "sort": _sorted,
    "split": _split,
    "squeeze": _squeezed,
    "top_k": lambda equation, states: _kept_off(states, {len(_shapes(equation)[0]) - 1}) * 2,
    "transpose": _transposed,
}
RULES |= dict.fromkeys(ENTRYWISE, _entrywise)
RULES |= dict.fromkeys(REDUCTIONS, _reduced)
RULES |= dict.fromkeys(CUMULATIVE, lambda equation, states: _kept_off(states, {equation.params["axis"]}))
RULES |= dict.fromkeys(LINEAR_ALGEBRA, _linear_algebra)
RULES |= dict.fromkeys(WINDOWS, _windowed)
RULES |= dict.fromkeys(("scatter", "scatter-add", "scatter_add"), _scattered)
CONTROL: dict[str, Callable[[Any, list[Any], Body], Any]] = {
    "cond": _branched,
    "scan": _scanned,
    "while": _repeated,
    **dict.fromkeys(CALLS, _called),
}
