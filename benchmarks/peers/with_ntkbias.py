"""Our method, and the references in the same JAX: the Jacobian product, the floor, and a large matrix product."""

import functools
import importlib.metadata
import math
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case, contractions, load, num_parameters
from networks import function
from worker import Part, Work, serve

import ntkbias as nb

GEMM_SIZE = 2048
JACOBIAN_BYTES = 2**31  # per strip of examples: about three times as much is in use while it is made and multiplied
OPERAND = 2**25  # numbers: for larger operands, the floor times a slice of the product and scales the time


def make(case: Case, path: str, method: str) -> Work:
    params, x1, x2 = load(path)
    params, x1 = jax.tree.map(jnp.asarray, params), jnp.asarray(x1)
    x2 = None if x2 is None else jnp.asarray(x2)
    f = function(case.network)
    if method in ("floor", "tight floor"):
        return Work(floor(case, f, params, x1, x2, tight=method != "floor"))
    if method == "gemm":
        a = jax.random.normal(jax.random.key(0), (GEMM_SIZE, GEMM_SIZE))
        return Work({"gemm": Part(functools.partial(_wait, _product, a, a))})
    if method == "Jacobian":
        rows = max(1, JACOBIAN_BYTES // (4 * case.num_outputs * num_parameters(case)))
        run = functools.partial(by_jacobians, f, params, x1, x2, case.outputs, rows)
    else:
        run = functools.partial(ours, f, params, x1, x2, case)
    return Work({method: Part(run)}, np.asarray)


def ours(f: Callable, params: dict, x1: jax.Array, x2: jax.Array | None, case: Case) -> jax.Array:
    kernel = nb.empirical_ntk(f, params, outputs=case.outputs, memory_budget=case.memory_budget)
    return jax.block_until_ready(kernel(x1, x2))


@functools.partial(jax.jit, static_argnums=0)
def jacobians(f: Callable, params: dict, x: jax.Array) -> list[jax.Array]:
    """The Jacobian of every example, `(n, o, p)` for each parameter."""
    leaves = jax.tree.leaves(jax.vmap(jax.jacrev(lambda params, x: f(params, x[None])[0]), (None, 0))(params, x))
    return [leaf.reshape(*leaf.shape[:2], -1) for leaf in leaves]


@functools.partial(jax.jit, static_argnums=2)
def products(left: list[jax.Array], right: list[jax.Array], outputs: str) -> jax.Array:
    """The kernel from Jacobians, with one matrix product per parameter."""
    rule, divisor = ("nap,mbp->namb", 1) if outputs == "all" else ("nop,mop->nm", left[0].shape[1])
    return sum(jnp.einsum(rule, a, b, precision="highest") for a, b in zip(left, right, strict=True)) / divisor


@functools.partial(jax.jit, static_argnums=(0, 4))
def in_one(f: Callable, params: dict, x1: jax.Array, x2: jax.Array | None, outputs: str) -> jax.Array:
    left = jacobians(f, params, x1)
    return products(left, left if x2 is None else jacobians(f, params, x2), outputs)


def by_jacobians(
    f: Callable, params: dict, x1: jax.Array, x2: jax.Array | None, outputs: str, rows: int
) -> jax.Array | np.ndarray:
    """The kernel from whole Jacobians, which is torch.func's recipe in JAX; in strips of `rows` if they do not fit."""
    if max(len(x1), 0 if x2 is None else len(x2)) <= rows:
        return jax.block_until_ready(in_one(f, params, x1, x2, outputs))
    other = x1 if x2 is None else x2
    result, axis = None, 2 if outputs == "all" else 1
    for i in range(0, len(x1), rows):
        left = jacobians(f, params, x1[i : i + rows])
        for j in range(i if x2 is None else 0, len(other), rows):
            right = left if x2 is None and i == j else jacobians(f, params, other[j : j + rows])
            block = np.asarray(products(left, right, outputs))
            if result is None:
                ends = (len(x1), len(other))
                result = np.empty((ends[0], *block.shape[1:axis], ends[1], *block.shape[axis + 1 :]), block.dtype)
            _put(result, block, i, j, axis)
            if x2 is None and i != j:
                _put(result, block.T if axis == 1 else block.transpose(2, 3, 0, 1), j, i, axis)
    return result


def _put(result: np.ndarray, block: np.ndarray, i: int, j: int, axis: int) -> None:
    columns = slice(j, j + block.shape[axis])
    result[(slice(i, i + len(block)), *[slice(None)] * (axis - 1), columns)] = block


def floor(
    case: Case, f: Callable, params: dict, x1: jax.Array, x2: jax.Array | None, *, tight: bool
) -> dict[str, Part]:
    """The parts of the floor: the forward pass, the backward passes, and the bare matrix products of the contraction.

    The tight floor leaves out weight gradients that the contraction does not form. It keeps those of the first
    parameter, so that the backward pass runs through the whole network.
    """
    x = x1 if x2 is None else jnp.concatenate([x1, x2])
    plan = contractions(case)
    forward = jax.jit(f)
    parts = {"forward": Part(functools.partial(_wait, forward, params, x))}
    first = next(iter(plan))
    wanted = {name: w for name, w in params.items() if not tight or name == first or plan[name].formed}
    fixed = {name: w for name, w in params.items() if name not in wanted}
    parts["backward"] = Part(_backward(f, wanted, fixed, x, case.num_outputs))
    for shape, count in _counted(plan).items():
        run, scale = _bare_product(*shape)
        parts["product {} x {} x {}".format(*shape)] = Part(run, scale * count * (1.0 if case.m else 0.5))
    return parts


def _backward(f: Callable, params: dict, fixed: dict, x: jax.Array, num_outputs: int) -> Callable:
    """One backward pass per output, with weight gradients summed over the batch: one by one, or at once if faster."""
    _, pull = jax.vjp(lambda params: f({**fixed, **params}, x), params)
    cotangents = jnp.repeat(jnp.eye(num_outputs)[:, None], len(x), 1)
    ways = [functools.partial(_in_turn, pull, list(cotangents))]
    if num_outputs > 1 and x.ndim < 4:  # several convolutions at once are many times slower in XLA
        ways.append(functools.partial(_wait, _at_once, pull, cotangents))
    taken = []
    for way in ways:
        way()
        start = time.perf_counter()
        way()
        taken.append(time.perf_counter() - start)
    return ways[taken.index(min(taken))]


@jax.jit
def _at_once(pull: Callable, cotangents: jax.Array) -> object:
    return jax.vmap(pull)(cotangents)


@jax.jit
def _once(pull: Callable, cotangent: jax.Array) -> object:
    return pull(cotangent)


def _in_turn(pull: Callable, cotangents: list[jax.Array]) -> None:
    for cotangent in cotangents:
        jax.block_until_ready(_once(pull, cotangent))


def _counted(plan: dict) -> dict[tuple[int, int, int], int]:
    shapes = [shape for contraction in plan.values() for shape in contraction.products]
    return {shape: shapes.count(shape) for shape in shapes}


def _bare_product(rows: int, inner: int, columns: int) -> tuple[Callable, float]:
    """A product of this shape or of a slice of it, and the ratio of the full work to that of the slice."""
    whole = rows * inner * columns
    rows, columns = (min(size, math.isqrt(OPERAND)) for size in (rows, columns))
    inner = min(inner, OPERAND // max(rows, columns))
    keys = jax.random.split(jax.random.key(0))
    a, b = jax.random.normal(keys[0], (rows, inner)), jax.random.normal(keys[1], (columns, inner))
    return functools.partial(_wait, _transposed_product, a, b), whole / (rows * inner * columns)


@jax.jit
def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b, precision="highest")


@jax.jit
def _transposed_product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.matmul(a, b.T, precision="highest")


def _wait(work: Callable, *arguments: object) -> object:
    return jax.block_until_ready(work(*arguments))


if __name__ == "__main__":
    serve(
        {package: importlib.metadata.version(package) for package in ("ntkbias", "jax", "numpy")},
        lambda case: ["ours", "Jacobian", "floor", "tight floor", "gemm"],
        make,
    )
