"""Hoist the products that make gradients by weights out of scans.

Consider a forward scan over layers, with one layer per step. If each step has its own weights, the reverse scan stacks
their gradients from outer products in its body. If all steps share their weights, it carries the sum of these products:

    G[l] = a[l] c[l]^T                   G = sum over l of a[l] c[l]^T

The rewritten scan returns the activations a and the cotangents c instead. One product outside of it makes the gradients
from these: the steps are a batch axis, or are contracted over. The program computes the same, and can now be read.

>>> import jax, jax.numpy as jnp
>>> from jax import lax
>>> from ntkbias.kernels.reading.programs import flat_jaxpr
>>> f = lambda w, x: lax.scan(lambda h, w: (jnp.tanh(h @ w), None), x, w)[0]
>>> gradient = lambda w, x, c: jax.vjp(f, w, x)[1](c)[0]
>>> closed = flat_jaxpr(gradient, jnp.ones((5, 2, 2)), jnp.ones(2), jnp.ones(2))
>>> [equation.primitive.name for equation in with_products_hoisted(closed).jaxpr.eqns][-3:]
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
from ntkbias.kernels.reading.walks import terms_of, walk_back

__all__ = ["with_products_hoisted"]


def with_products_hoisted(closed: jex.ClosedJaxpr) -> jex.ClosedJaxpr:
    """Rewrite a flat jaxpr of (..., cotangent) that returns gradients: products that make them leave their scans."""
    program = Program(closed)
    return _hoist_products(closed, program, closed.jaxpr.outvars)


class HoistedProduct(NamedTuple):
    """A product in the body of a scan that makes one of the scan's results."""

    place: int  # of the result
    operands: tuple[Any, Any]  # variables of the body
    equation: Any
    passed: tuple[Any, ...]  # equations between the product and the result, the last first
    is_sum: bool  # whether the result sums over steps


def _hoist_products(closed: jex.ClosedJaxpr, program: Program, gradients: Sequence[Any]) -> jex.ClosedJaxpr:
    """The same program, with products hoisted out of the scans that the walks back from `gradients` reach."""
    places = {id(equation): place for place, equation in enumerate(closed.jaxpr.eqns)}
    wanted: dict[int, set[int]] = {}  # places of results, by the place of their scan
    for source in (term.source for gradient in gradients for term in terms_of(gradient, program)):
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
                results = _run_scan_without_products(equation, inputs, program, wanted[place])
            else:
                results = results_of(equation, inputs, closed.jaxpr)
            values.update(zip(equation.outvars, results, strict=True))
        return [_value(variable, values) for variable in closed.jaxpr.outvars]

    return jax.make_jaxpr(run)(*(jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in closed.in_avals))


def _value(variable: Any, values: dict) -> Any:
    return variable.val if isinstance(variable, jex.Literal) else values[variable]


def _run_scan_without_products(equation: Any, inputs: list, program: Program, wanted: set[int]) -> list:
    """The results of a scan. Those at the places `wanted` come from products outside of it, if they can be hoisted."""
    scan = Scan(equation)
    consts, carry, sequences = scan.operands(inputs)
    begun = scan.operands(equation.invars).carry
    wanted = {place for place in wanted if place >= len(carry) or is_zero(program, begun[place])}
    closed, hoisted = _find_products(scan, [program.of_cotangent(variable) for variable in equation.invars], wanted)
    slices = scan.operands(closed.jaxpr.invars).slices
    places = {product.place for product in hoisted}
    kept = [place for place in range(len(closed.jaxpr.outvars)) if place not in places]
    carried = [place for place in kept if place < len(carry)]
    operands = [variable for product in hoisted for variable in product.operands]
    stacked = list(dict.fromkeys(variable for variable in operands if variable not in slices))
    run = Program(closed).part([*(closed.jaxpr.outvars[place] for place in kept), *stacked])

    def step(now: list, slices: list) -> tuple[list, list]:
        # Nothing reads the sums that were hoisted, so their places keep their initial values.
        full_carry = dict(enumerate(carry)) | dict(zip(carried, now, strict=True))
        results = run(*consts, *full_carry.values(), *slices)
        return results[: len(carried)], results[len(carried) :]

    found = scan.run(step, [carry[place] for place in carried], sequences)
    results = dict(zip(kept, found, strict=False))
    values = dict(zip(slices, sequences, strict=True)) | dict(zip(stacked, found[len(kept) :], strict=True))
    for product in hoisted:
        left, right = (values[variable] for variable in product.operands)
        results[product.place] = _computed_outside(product, left, right, closed.jaxpr)
    return [results[place] for place in range(len(results))]


def _find_products(scan: Scan, given: list[bool], wanted: set[int]) -> tuple[jex.ClosedJaxpr, list[HoistedProduct]]:
    """The body of a scan, with products hoisted out of inner scans; and the products that make its results `wanted`.

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
    closed = _hoist_products(scan.body, body, list(starts.values()))
    body, starts = of(closed)
    hoisted = []
    for place, start in starts.items():
        walk = walk_back(start, body)
        source = body.producer(walk.source)
        if source is not None and _is_product(source, body):
            hoisted.append(HoistedProduct(place, tuple(source.invars), source, walk.passed, place < scan.num_carry))
    return closed, hoisted


def _start(scan: Scan, jaxpr: Any, body: Program, place: int) -> Any | None:
    """The variable that a scan's body stacks at a place, or adds to the carry there; None if it does neither."""
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
    """Whether an equation is a real product of an activation and a cotangent, and so may be a sink."""
    if equation.primitive.name != "dot_general" or equation.params.get("out_sharding") is not None:
        return False
    left, right = equation.invars
    known = isinstance(left, jex.Literal) or isinstance(right, jex.Literal)
    return not known and body.of_cotangent(left) != body.of_cotangent(right) and not body.is_complex(left)


def _computed_outside(product: HoistedProduct, left: Array, right: Array, jaxpr: Any) -> Array:
    """The hoisted product of stacked operands, batched or summed over steps, and the relabelings that follow it."""
    params = product.equation.params
    numbers = [[[axis + 1 for axis in axes] for axes in group] for group in params["dimension_numbers"]]
    for axes in numbers[0 if product.is_sum else 1]:  # the axis of steps is contracted, or a batch axis
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
