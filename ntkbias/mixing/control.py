"""Rules for calls, branches and loops: the states of their results follow from the states that their bodies give.

>>> sorted(CONTROL)[:3]
['checkpoint', 'closed_call', 'cond']
"""

from collections.abc import Callable
from typing import Any

from ntkbias.equations import CALLS, body_of, counts_of_scan
from ntkbias.mixing.states import Body, Rows, Same, State, combined, shapes, with_axes_moved

__all__ = ["CONTROL"]

CUSTOM = {"custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"}  # they return the values of their body


def _called(equation: Any, states: list[State], body: Body) -> list[State] | None:
    called = body_of(equation)
    return None if called is None else body(called, states)


def _branched(equation: Any, states: list[State], body: Body) -> list[State] | None:
    if not isinstance(states[0], Same):
        return None
    found = [body(branch, states[1:]) for branch in equation.params["branches"]]
    results = [variable.aval.shape for variable in equation.outvars]
    return [
        combined(column, [shape] * len(found)) for column, shape in zip(zip(*found, strict=True), results, strict=True)
    ]


def _scanned(equation: Any, states: list[State], body: Body) -> list[State] | None:
    params, (num_consts, num_carry) = equation.params, counts_of_scan(equation)
    consts, carry, sequences = states[:num_consts], states[num_consts:][:num_carry], states[num_consts + num_carry :]
    if any(isinstance(state, Rows) and state.axis == 0 for state in sequences):  # the scan runs over the examples
        return None
    steps = [with_axes_moved(state, lambda axis: axis - 1 if axis else None) for state in sequences]

    def step(carry: list[State]) -> list[State]:
        return body(params["jaxpr"], [*consts, *carry, *steps])

    carried = _settled(carry, lambda carry: step(carry)[:num_carry], shapes(equation)[num_consts:][:num_carry])
    results = step(carried)[num_carry:]
    stacked = [None if state is None else with_axes_moved(state, lambda axis: axis + 1) for state in results]
    return [*carried, *stacked]


def _repeated(equation: Any, states: list[State], body: Body) -> list[State] | None:
    params = equation.params
    of_condition, of_body = params["cond_nconsts"], params["body_nconsts"]
    conditions, consts = states[:of_condition], states[of_condition:][:of_body]
    carry = states[of_condition + of_body :]
    carried_shapes = shapes(equation)[of_condition + of_body :]
    carried = _settled(carry, lambda carry: body(params["body_jaxpr"], [*consts, *carry]), carried_shapes)
    (stops,) = body(params["cond_jaxpr"], [*conditions, *carried])
    return carried if isinstance(stops, Same) else None  # examples that stop together depend on each other


def _settled(carry: list[State], step: Callable[[list[State]], list[State]], carried_shapes: list) -> list[State]:
    """The states of a loop's carry that hold before and after every step: a fixed point of `step`."""
    while True:
        triples = zip(carry, step(carry), carried_shapes, strict=True)
        after = [combined([before, found], [shape, shape]) for before, found, shape in triples]
        if after == carry:
            return carry
        carry = after


CONTROL: dict[str, Callable[[Any, list[Any], Body], Any]] = {
    "cond": _branched,
    "scan": _scanned,
    "while": _repeated,
    **dict.fromkeys(CALLS | CUSTOM, _called),
}
