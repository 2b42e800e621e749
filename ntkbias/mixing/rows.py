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

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.extend.core as jex

from ntkbias.mixing.control import CONTROL
from ntkbias.mixing.rules import RULES
from ntkbias.mixing.states import Rows, Same, State, of_constant

__all__ = ["of_rows"]


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
    found = reader.states(closed.jaxpr, [of_constant(value) for value in closed.consts], states)
    return all(state == Rows(0) for state in found)


class _Reader(NamedTuple):
    """Goes through a program of `batch` examples, equation by equation."""

    batch: int

    def states(self, jaxpr: Any, consts: Sequence[State], inputs: Sequence[State]) -> list[State]:
        """The states of a jaxpr's results, given those of its constants and arguments."""
        constants = [self._sized(variable, state) for variable, state in zip(jaxpr.constvars, consts, strict=True)]
        known: dict[Any, State] = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*constants, *inputs), strict=True))

        def read(variable: Any) -> State:
            if isinstance(variable, jex.Literal):
                return self._sized(variable, of_constant(variable.val))
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
        return self.states(body.jaxpr, [of_constant(value) for value in body.consts], states)

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
