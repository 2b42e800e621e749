"""The rule of each kind of equation, by the name of its JAX primitive: states of operands to states of results.

>>> sorted(RULES)[:3]
['abs', 'acos', 'acosh']
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ntkbias.mixing.states import Rows, Same, State, after_removing, combined, shapes, unless_touched, with_axes_moved

__all__ = ["RULES"]

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


def _entrywise(equation: Any, states: list[State]) -> State:
    if all(not shape for shape in shapes(equation)):
        return Same(frozenset()) if all(isinstance(state, Same) for state in states) else None
    return combined(states, shapes(equation))


def _reduced(equation: Any, states: list[State]) -> State:
    return with_axes_moved(states[0], after_removing(equation.params["axes"]))


def _squeezed(equation: Any, states: list[State]) -> State:
    return with_axes_moved(states[0], after_removing(equation.params["dimensions"]))


def _transposed(equation: Any, states: list[State]) -> State:
    return with_axes_moved(states[0], equation.params["permutation"].index)


def _broadcast(equation: Any, states: list[State]) -> State:
    if len(states) > 1:
        return None
    to, shape, before = equation.params["broadcast_dimensions"], equation.params["shape"], shapes(equation)[0]
    state = states[0]
    if isinstance(state, Rows):
        return state._replace(axis=to[state.axis]) if before[state.axis] == shape[to[state.axis]] else None
    assert isinstance(state, Same)
    kept = {to[axis] for axis in range(len(before)) if before[axis] != 1 and axis not in state.uniform}
    return Same(frozenset(range(len(shape))) - kept)


def _reshaped(equation: Any, states: list[State]) -> State:
    if len(states) > 1 or equation.params.get("dimensions") is not None:
        return None
    before, after, state = shapes(equation)[0], equation.outvars[0].aval.shape, states[0]
    if isinstance(state, Same):
        return Same(frozenset(range(len(after))) if len(state.uniform) == len(before) else frozenset())
    assert state is not None
    lead, examples = math.prod(before[: state.axis]), before[state.axis] // state.block
    tail = state.block * math.prod(before[state.axis + 1 :])  # consecutive entries of one example
    for axis in range(len(after)):
        # The new axis has to hold a whole number of entries per example, with those of each example together.
        inside = math.prod(after[axis + 1 :])
        if math.prod(after[:axis]) == lead and after[axis] % examples == 0 and tail % inside == 0:
            return Rows(axis, after[axis] // examples)
    return None


def _concatenated(equation: Any, states: list[State]) -> State:
    found = combined(states, shapes(equation))
    return None if found is None else unless_touched([found], {equation.params["dimension"]})[0]


def _sorted(equation: Any, states: list[State]) -> list[State]:
    found = combined(states, shapes(equation))
    return unless_touched([found], {equation.params["dimension"]}) * len(states)


def _sliced(equation: Any, states: list[State]) -> State:
    before, after = shapes(equation)[0], equation.outvars[0].aval.shape
    cut = {axis for axis in range(len(before)) if before[axis] != after[axis]}
    state = states[0]
    if isinstance(state, Same):
        return state
    indexed = all(isinstance(other, Same) for other in states[1:])
    return unless_touched([state], cut)[0] if indexed else None


def _updated(equation: Any, states: list[State]) -> State:
    operand, update = shapes(equation)[:2]
    cut = {axis for axis in range(len(operand)) if operand[axis] != update[axis]}
    if not all(isinstance(other, Same) for other in states[2:]):
        return None
    found = combined(states[:2], [operand, update])
    return None if found is None else unless_touched([found], cut)[0]


def _padded(equation: Any, states: list[State]) -> State:
    if not isinstance(states[1], Same):
        return None
    changed = {axis for axis, widths in enumerate(equation.params["padding_config"]) if tuple(widths) != (0, 0, 0)}
    return unless_touched(states[:1], changed)[0]


def _stacked(equation: Any, states: list[State]) -> State:
    found, new = combined(states, shapes(equation)), equation.params["axis"]
    return None if found is None else with_axes_moved(found, lambda axis: axis + (axis >= new))


def _unstacked(equation: Any, states: list[State]) -> State:
    return with_axes_moved(states[0], after_removing([equation.params["axis"]]))


def _split(equation: Any, states: list[State]) -> list[State]:
    return unless_touched(states, {equation.params["axis"]}) * len(equation.outvars)


def _product(equation: Any, states: list[State]) -> State:
    (contracted, batch), lengths = equation.params["dimension_numbers"], shapes(equation)
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
            free = [axis for axis in range(len(lengths[side])) if axis not in (*contracted[side], *batch[side])]
            before = len(lengths[0]) - len(contracted[0]) if side else len(batch[0])
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
    """Either each example looks up rows of a table, or the same indices pick entries of every example."""
    (table, indices), numbers = states[:2], equation.params["dimension_numbers"]
    shape, sizes = shapes(equation)[0], equation.params["slice_sizes"]
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
    """The same indices of every example are overwritten, or added to."""
    numbers, (operand, indices, updates) = equation.params["dimension_numbers"], states
    if not isinstance(indices, Same) or numbers.operand_batching_dims:
        return None
    before, update = shapes(equation)[0], shapes(equation)[2]
    kept = [axis for axis in range(len(before)) if axis not in numbers.inserted_window_dims]

    def fits(state: State, axis: int, shape: tuple[int, ...]) -> bool:
        return axis in state.uniform if isinstance(state, Same) else state is not None and state.axis == axis

    if isinstance(operand, Rows):
        axis, block = operand.axis, operand.block
    elif isinstance(updates, Rows) and updates.axis in numbers.update_window_dims:
        axis, block = kept[list(numbers.update_window_dims).index(updates.axis)], updates.block
    else:
        return None
    if axis not in kept or axis in numbers.scatter_dims_to_operand_dims:
        return None
    window = numbers.update_window_dims[kept.index(axis)]
    both_fit = fits(operand, axis, before) and fits(updates, window, update) and update[window] == before[axis]
    blocks = {state.block for state in (operand, updates) if isinstance(state, Rows)} == {block}
    return Rows(axis, block) if both_fit and blocks else None


def _transformed(equation: Any, states: list[State]) -> State:
    rank, changed = len(shapes(equation)[0]), len(equation.params["fft_lengths"])
    return unless_touched(states[:1], set(range(rank - changed, rank)))[0]


def _linear_algebra(equation: Any, states: list[State]) -> State:
    """Every matrix on the last two axes is treated by itself."""
    found = combined(states, shapes(equation))
    if not isinstance(found, Rows) or any(found.axis >= len(shape) - 2 for shape in shapes(equation)):
        return None
    return found


def _counted(equation: Any, _: list[State]) -> State:
    rank = len(equation.outvars[0].aval.shape)
    return Same(frozenset(range(rank)) - {equation.params["dimension"]})


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
    "rev": lambda equation, states: unless_touched(states, set(equation.params["dimensions"])),
    "slice": _sliced,
    "sort": _sorted,
    "split": _split,
    "squeeze": _squeezed,
    "stack": _stacked,
    "top_k": lambda equation, states: unless_touched(states, {len(shapes(equation)[0]) - 1}) * 2,
    "transpose": _transposed,
    "unstack": _unstacked,
}
RULES |= dict.fromkeys(ENTRYWISE, _entrywise)
RULES |= dict.fromkeys(REDUCTIONS, _reduced)
RULES |= dict.fromkeys(CUMULATIVE, lambda equation, states: unless_touched(states, {equation.params["axis"]}))
RULES |= dict.fromkeys(LINEAR_ALGEBRA, _linear_algebra)
RULES |= dict.fromkeys(WINDOWS, _windowed)
RULES |= dict.fromkeys(("scatter", "scatter-add", "scatter_add"), _scattered)
