"""Which examples of a batch each value of a jaxpr can depend on, read from its equations.

Every value has one of three states: it does not depend on the inputs (`Same`), its slice i along one axis depends only
on example i (`Rows`), or nothing is known about it (None). There is one rule per kind of equation; an equation without
a rule has unknown results. So a positive answer is a proof, for all parameters and all inputs. A negative answer means
only that there is no proof.

>>> import jax, jax.numpy as jnp
>>> def outcome(f):
...     return treats_rows_alone(jax.make_jaxpr(f)(jnp.ones((31, 3))), 1)
>>> outcome(lambda x: jnp.tanh(x) @ jnp.ones((3, 2))), outcome(lambda x: x - x.mean(0))
(True, False)
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.extend.core as jex

from ntkbias.mixing.control import CONTROL
from ntkbias.mixing.rules import RULES
from ntkbias.mixing.states import Rows, Same, State, state_of_constant

__all__ = ["treats_rows_alone"]


def treats_rows_alone(closed: jex.ClosedJaxpr, num_inputs: int) -> bool:
    """Whether slice i of each result depends only on slice i of the last `num_inputs` arguments. False: no proof.

    These arguments have the examples on their first axis. The number of examples has to be a prime that divides no
    other length in the jaxpr. Then every axis whose length it divides was made from the batch axis, so that such an
    axis has to be an axis of examples, or all entries along it have to be equal.
    """
    invars = closed.jaxpr.invars
    first = len(invars) - num_inputs
    states: list[State] = [Rows(0) if index >= first else Same(frozenset()) for index in range(len(invars))]
    reader = _Reader(invars[first].aval.shape[0])
    found = reader.states(closed.jaxpr, [state_of_constant(value) for value in closed.consts], states)
    return all(state == Rows(0) for state in found)


class _Reader(NamedTuple):
    """Walks through a jaxpr of `batch` examples, equation by equation."""

    batch: int

    def states(self, jaxpr: Any, consts: Sequence[State], inputs: Sequence[State]) -> list[State]:
        """The states of a jaxpr's results, given those of its constants and arguments."""
        constants = [self._sized(variable, state) for variable, state in zip(jaxpr.constvars, consts, strict=True)]
        known: dict[Any, State] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

        def read(variable: Any) -> State:
            if isinstance(variable, jex.Literal):
                return self._sized(variable, state_of_constant(variable.val))
            return known[variable]

        for equation in jaxpr.eqns:
            states = [read(variable) for variable in equation.invars]
            same = [
                variable for variable, state in zip(equation.invars, states, strict=True) if isinstance(state, Same)
            ]
            needed = max(map(self._num_long, same), default=0)
            for variable, state in zip(equation.outvars, self._of_equation(equation, states), strict=True):
                # A sum of equal numbers over an axis of the batch's length changes with that length.
                known[variable] = self._sized(variable, state) if self._num_long(variable) >= needed else None
        return [read(variable) for variable in jaxpr.outvars]

    def body(self, body: Any, states: Sequence[State]) -> list[State]:
        """The states of the results of a jaxpr that an equation calls."""
        if not hasattr(body, "consts"):
            return self.states(body, [], states)
        return self.states(body.jaxpr, [state_of_constant(value) for value in body.consts], states)

    def _of_equation(self, equation: Any, states: list[State]) -> list[State]:
        count = len(equation.outvars)
        if None in states:
            return [None] * count
        found = self._by_rule(equation, states)
        if found is None and all(isinstance(state, Same) for state in states):
            repeated = [self._as_rows(v, state) for v, state in zip(equation.invars, states, strict=True)]
            if repeated == states:  # no operand has a batch axis: the results cannot depend on the inputs
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
        """The state of a value that is equal along its only batch-length axis, read as one row per example."""
        long = self._long(variable)
        if not isinstance(state, Same) or len(long) != 1 or not long <= state.uniform:
            return state
        (axis,) = long
        return Rows(axis, variable.aval.shape[axis] // self.batch)

    def _sized(self, variable: Any, state: State) -> State:
        """The state; None if an axis has the length of the batch, but is no axis of examples or equal entries."""
        explained = {state.axis} if isinstance(state, Rows) else state.uniform if state is not None else frozenset()
        return state if self._long(variable) <= explained else None

    def _long(self, variable: Any) -> set[int]:
        """The axes whose length is a multiple of the batch length."""
        lengths = getattr(variable.aval, "shape", ())
        return {axis for axis, length in enumerate(lengths) if length and length % self.batch == 0}

    def _num_long(self, variable: Any) -> int:
        return len(self._long(variable))
