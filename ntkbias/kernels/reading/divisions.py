"""Products of weights' gradients, taken out of the scans that make them.

The gradient by weights that a scan goes over, a layer a step, is stacked by the reverse scan from outer products that
its body makes; that by weights which are the same at each step is a sum of such products, which the scan carries:

    G[l] = a[l] c[l]^T                   G = sum over l of a[l] c[l]^T

Here the scan gives the activations a and the cotangents c instead, and one product, outside, makes the gradients of
them: with the steps as a batch axis, or contracted over. That is the same program, and one that can be read.

>>> import jax, jax.numpy as jnp
>>> from jax import lax
>>> from ntkbias.kernels.reading.programs import flat_jaxpr
>>> f = lambda w, x: lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, w)[0]
>>> gradient = lambda w, x, c: jax.vjp(f, w, x)[1](c)[0]
>>> closed = flat_jaxpr(gradient, jnp.ones((5, 2, 2)), jnp.ones(2), jnp.ones(2))
>>> [equation.primitive.name for equation in with_products_outside(closed).jaxpr.eqns][-3:]
['scan', 'dot_general', 'transpose']
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex
from jax import lax
from jaxtyping import Array

from ntkbias.kernels.reading.programs import Program, results_of
from ntkbias.kernels.reading.scans import Scan, is_scan
from ntkbias.kernels.reading.separation import is_zero
from ntkbias.kernels.reading.walks import walk_back

__all__ = ["with_products_outside"]


def with_products_outside(closed: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    """A flat program of (..., cotangent) that returns gradients, with their products outside of scans."""
    program = Program(closed)
    return _divided(closed, program, closed.jaxpr.outvars)


class Taken(NamedTuple):
    """A product that a scan's body makes, for one of the scan's results."""

    place: int  # of the result
    operands: tuple[Any, Any]  # variables of the body
    equation: Any
    passed: tuple[Any, ...]  # equations between the product and the result, the last first
    is_sum: bool  # over steps


def _divided(closed: jex.ClosedJaxpr, program: Program, gradients: Sequence[Any]) -> jex.ClosedJaxpr:
    """The same program, with those scans divided to which walks from `gradients` lead."""
    places = {id(equation): place for place, equation in enumerate(closed.jaxpr.eqns)}
    wanted: dict[int, set[int]] = {}  # results of scans, by the places of both
    for gradient in gradients:
        source = walk_back(gradient, program).source
        equation = program.producer(source)
        if equation is not None and is_scan(equation) and equation.params["length"] and program.of_cotangent(source):
            wanted.setdefault(places[id(equation)], set()).add(equation.outvars.index(source))
    if not wanted:
        return closed

    def run(*args: Any) -> list:
        values = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
        values |= dict(zip(closed.jaxpr.invars, args, strict=True))
        for place, equation in enumerate(closed.jaxpr.eqns):
            inputs = [_value(variable, values) for variable in equation.invars]
            if place in wanted:
                results = _scan_divided(equation, inputs, program, wanted[place])
            else:
                results = results_of(equation, inputs, closed.jaxpr)
            values.update(zip(equation.outvars, results, strict=True))
        return [_value(variable, values) for variable in closed.jaxpr.outvars]

    return jax.make_jaxpr(run)(*(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.in_avals))


def _value(variable: Any, values: dict) -> Any:
    return variable.val if isinstance(variable, jex.Literal) else values[variable]


def _scan_divided(equation: Any, inputs: list, program: Program, wanted: set[int]) -> list:
    """The results of a scan, those at the places `wanted` by products outside of it, where its body makes them so."""
    scan = Scan(equation)
    consts, carry, sequences = scan.operands(inputs)
    begun = scan.operands(equation.invars).carry
    wanted = {place for place in wanted if place >= len(carry) or is_zero(program, begun[place])}
    closed, taken = _products(scan, [program.of_cotangent(variable) for variable in equation.invars], wanted)
    slices = scan.operands(closed.jaxpr.invars).slices
    places = {product.place for product in taken}
    kept = [place for place in range(len(closed.jaxpr.outvars)) if place not in places]
    carried = [place for place in kept if place < len(carry)]
    operands = [variable for product in taken for variable in product.operands]
    stacked = list(dict.fromkeys(variable for variable in operands if variable not in slices))
    run = Program(closed).part([*(closed.jaxpr.outvars[place] for place in kept), *stacked])

    def step(now: list, slices: list) -> tuple[list, list]:
        whole = dict(enumerate(carry)) | dict(zip(carried, now, strict=True))  # sums are not looked at
        results = run(*consts, *whole.values(), *slices)
        return results[: len(carried)], results[len(carried) :]

    found = scan.run(step, [carry[place] for place in carried], sequences)
    results = dict(zip(kept, found, strict=False))
    values = dict(zip(slices, sequences, strict=True)) | dict(zip(stacked, found[len(kept) :], strict=True))
    for product in taken:
        left, right = (values[variable] for variable in product.operands)
        results[product.place] = _outside(product, left, right, closed.jaxpr)
    return [results[place] for place in range(len(results))]


def _products(scan: Scan, given: list[bool], wanted: set[int]) -> tuple[jex.ClosedJaxpr, list[Taken]]:
    """The body of a scan, with products outside of the scans within it; and those that make its results `wanted`.

    `given` says which operands of the scan depend on the cotangent.
    """
    depends = scan.depending(given)
    flags = [variable in depends for variable in scan.body.jaxpr.invars]

    def of(closed: jex.ClosedJaxpr) -> tuple[Program, dict[int, Any]]:
        body = Program(
            closed, (), [variable for variable, flag in zip(closed.jaxpr.invars, flags, strict=True) if flag]
        )
        starts = {place: _start(scan, closed.jaxpr, body, place) for place in sorted(wanted)}
        return body, {place: start for place, start in starts.items() if start is not None}

    body, starts = of(scan.body)
    closed = _divided(scan.body, body, list(starts.values()))
    body, starts = of(closed)
    taken = []
    for place, start in starts.items():
        walk = walk_back(start, body)
        source = body.producer(walk.source)
        if source is not None and _is_product(source, body):
            taken.append(Taken(place, tuple(source.invars), source, walk.passed, place < scan.num_carry))
    return closed, taken


def _start(scan: Scan, jaxpr: Any, body: Program, place: int) -> Any | None:
    """What a scan's body stacks up at a place, or adds to what it carries there; None if it does something else."""
    result, carry = jaxpr.outvars[place], scan.operands(jaxpr.invars).carry
    if place >= len(carry):
        return result
    addition, before = body.producer(result), carry[place]
    if addition is None or addition.primitive.name not in ("add", "add_any"):
        return None
    used = [variable for each in jaxpr.eqns for variable in each.invars] + list(jaxpr.outvars)
    others = [variable for variable in addition.invars if variable is not before]
    once = sum(variable is before for variable in used) == 1
    return others[0] if once and len(others) == 1 and others[0].aval.shape == before.aval.shape else None


def _is_product(equation: Any, body: Program) -> bool:
    """Whether an equation is a product of an activation and a cotangent, which a sink could be."""
    if equation.primitive.name != "dot_general" or equation.params.get("out_sharding") is not None:
        return False
    left, right = equation.invars
    known = isinstance(left, jex.Literal) or isinstance(right, jex.Literal)
    return not known and body.of_cotangent(left) != body.of_cotangent(right) and not body.is_complex(left)


def _outside(product: Taken, left: Array, right: Array, jaxpr: Any) -> Array:
    """A product of what a scan stacked up, and what its body did with it: a batch over steps, or summed over them."""
    params = product.equation.params
    numbers = [[[axis + 1 for axis in axes] for axes in group] for group in params["dimension_numbers"]]
    for axes in numbers[0 if product.is_sum else 1]:  # those contracted over, or those of a batch
        axes.insert(0, 0)
    (left_axes, right_axes), (left_batch, right_batch) = numbers
    dimensions = (left_axes, right_axes), (left_batch, right_batch)
    options = {name: params[name] for name in ("precision", "preferred_element_type")}
    array = lax.dot_general(left, right, dimensions, **options)

    def relabeled(array: Array) -> Array:
        for equation in reversed(product.passed):
            inputs = [v.val if isinstance(v, jex.Literal) else array for v in equation.invars]
            array = results_of(equation, inputs, jaxpr)[0]
        return array

    return relabeled(array) if product.is_sum else jax.vmap(relabeled)(array)
