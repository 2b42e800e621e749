"""neural-tangents on current JAX, and its `stax` networks as layers of this package.

neural-tangents 0.6.5, its latest release, cannot be imported on JAX 0.6 and later, and it loads TensorFlow. This module
repairs the import. In a script that uses neural-tangents, replace `import neural_tangents as nt` and
`from neural_tangents import stax` by

    from ntkbias.adapters.neural_tangents import nt, stax

and leave the rest unchanged. After that line a plain `import neural_tangents` works too. `from_stax` turns a `stax`
network, with attention, LayerNorm and all its other layers, into a layer that all functions of this package accept.

>>> import jax, ntkbias as nb
>>> from ntkbias.adapters.neural_tangents import from_stax, stax
>>> init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(64), stax.LayerNorm(), stax.Erf(), stax.Dense(1))
>>> x = jax.random.normal(jax.random.key(0), (4, 3))
>>> limit = nb.infinite_ntk(from_stax(init_fn, apply_fn, kernel_fn))
>>> bool(abs(limit(x) - kernel_fn(x, None, "ntk")).max() < 1e-5)
True

Install it without its other dependencies: `pip install --no-deps neural-tangents==0.6.5 frozendict`.

Some repairs last only during the import; JAX is unchanged afterwards. Names that were removed from `jax.core`,
`jax.util` and `jax.interpreters.ad` exist again, unless JAX has them. `neural_tangents.experimental`, which loads
TensorFlow, is empty. Other repairs stay, in neural-tangents' own modules:

    predict, stax                The solvers and the positions of attention use `jax.core.eval_context`, which fails on
                                 tracers. `jax.ensure_compile_time_eval` replaces it.
    predict.max_learning_rate    It calls SciPy with an argument that was renamed.
    empirical                    Structured derivatives call private functions that changed. Linearization and
                                 transposition now use public functions, and the checks of `jax_enable_checks` are left
                                 out. `jnp.size` accepts a shape. `AUTO` reads the number of operations in the
                                 compiler's current format.

`neural_tangents.experimental`, for TensorFlow models, is not repaired. Dropout in training, masks and patterns work
through `kernel_fn` itself, not through `from_stax`.
"""

import contextlib
import math
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.extend.core
import jax.extend.source_info_util
import jax.numpy as jnp
import scipy
from jax import core  # noqa: TID251  (neural-tangents needs these two modules; only this file reads them)
from jax.interpreters import ad  # noqa: TID251
from jaxtyping import Array

from ntkbias.adapters.stax_network import Stax, from_stax

__all__ = ["Stax", "from_stax", "nt", "stax"]

TESTED = ((0, 8), (0, 10), (0, 12))  # versions of JAX


# Repairs during the import.


@contextlib.contextmanager
def _old_names() -> Iterator[None]:
    """Restore, inside the block, names that neural-tangents imports and that JAX has removed."""
    moved = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")
    util = types.ModuleType("jax.util")
    vars(util).update(
        safe_map=lambda f, *lists: [f(*items) for items in zip(*lists, strict=True)],
        safe_zip=lambda *lists: list(zip(*lists, strict=True)),
    )
    wanted: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (vars(core), {name: getattr(jax.extend.core, name) for name in moved}),
        (vars(ad), {"zeros_like_p": jax.extend.core.Primitive("zeros_like")}),  # only a key of its tables, never used
        (sys.modules, {"jax.util": util, "neural_tangents.experimental": types.ModuleType("experimental")}),
    ]
    with contextlib.ExitStack() as afterwards:
        for namespace, names in wanted:
            for name in names.keys() - namespace.keys():
                namespace[name] = names[name]
                afterwards.callback(namespace.pop, name)
        yield


def _imported() -> tuple[Any, Any]:
    """The repaired modules `neural_tangents` and `neural_tangents.stax`."""
    if jax.__version_info__[:2] not in TESTED:
        tested = ", ".join(f"{major}.{minor}" for major, minor in TESTED)
        warnings.warn(
            f"neural-tangents was repaired and tested for JAX {tested}; this is {jax.__version__}. Compare its results "
            "with those of empirical_ntk and infinite_ntk before you trust them.",
            stacklevel=3,
        )
    try:
        with _old_names():
            import neural_tangents
            import neural_tangents.stax
    except ModuleNotFoundError as error:
        raise ImportError(
            f"Expected neural-tangents to be installed; got: {error}. Install it, without TensorFlow: "
            "pip install --no-deps neural-tangents==0.6.5 frozendict"
        ) from error
    if "neural_tangents.experimental" not in sys.modules:
        vars(neural_tangents).pop("experimental", None)  # remove the empty module: users may import the real one
    _repair()
    return neural_tangents, neural_tangents.stax


# Repairs that stay. The modules of neural-tangents see JAX through these objects; JAX itself is unchanged.


class _Patched:
    """A module with some names replaced."""

    def __init__(self, module: Any, **names: Any):
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _repair() -> None:
    """Replace names in neural-tangents' modules that JAX and SciPy have changed."""
    from neural_tangents._src import empirical, predict
    from neural_tangents._src.stax import linear

    # Since JAX 0.4.36 `eval_context` fails on tracers.
    predict.jax = linear.jax = _Patched(jax, core=_Patched(core, eval_context=jax.ensure_compile_time_eval))
    predict.sp = _Patched(scipy, linalg=_Patched(scipy.linalg, eigvalsh=_eigvalsh))

    empirical.jnp = _Patched(jnp, size=lambda x: math.prod(x.shape))  # JAX's own refuses shapes without values
    empirical.core = _Patched(core, DShapedArray=None)  # a type that it compares with, and that no array has
    empirical.ad = _Patched(
        ad,
        source_info_util=jax.extend.source_info_util,
        config=types.SimpleNamespace(jax_enable_checks=False),  # its check calls a function without a successor
    )
    empirical._get_primals_out_and_pullback = _outputs_and_pullback
    empirical._eqn_vjp_fn = _transposed
    empirical._get_flops = _num_operations


def _eigvalsh(a: Any, eigvals: tuple[int, int]) -> Any:
    """`scipy.linalg.eigvalsh`. Before SciPy 1.14 its argument was called `eigvals`."""
    return scipy.linalg.eigvalsh(a, subset_by_index=eigvals)


def _outputs_and_pullback(
    f: Callable, mode: Any, _j_rules: bool, _s_rules: bool, _fwd: bool | None, *primals: Any
) -> tuple[Any, Callable]:
    """The outputs of f, and a pullback that runs neural-tangents' backward pass on the linear part of f."""
    from neural_tangents._src import empirical

    with jax.disable_jit():  # neural-tangents has no rules for calls
        outputs, linear = jax.linearize(f, *primals)
        closed = jax.make_jaxpr(linear)(*primals)

    def pullback(*cotangents: Any) -> Any:
        found = empirical._backward_pass(
            closed.jaxpr,
            mode=mode,
            consts=closed.consts,
            primals_in=[ad.UndefinedPrimal(variable.aval) for variable in closed.jaxpr.invars],
            cotangents_in=tuple(jax.tree.leaves(cotangents)),
            _j_rules=_j_rules,
            _s_rules=_s_rules,
            _fwd=_fwd,
        )
        return jax.tree.unflatten(jax.tree.structure(primals), found)

    return outputs, pullback


def _transposed(eqn: Any, cotangent: Any, *operands: Any) -> Any:
    """The cotangents of one equation's linear operands; None for its other operands.

    The public table of rules gives them. Primitives without an entry there (slice) use `jax.linear_transpose`, and so
    do primitives with several results (cond, checkpoint), whose rules have another form.
    """
    if eqn is None:  # the identity
        return (cotangent,)
    if eqn.primitive in ad.primitive_transposes and not eqn.primitive.multiple_results:
        return ad.primitive_transposes[eqn.primitive](cotangent, *operands, **eqn.params)
    avals = {place: x.aval for place, x in enumerate(operands) if ad.is_undefined_primal(x)}
    if isinstance(cotangent, ad.Zero):
        cotangents = [ad.Zero(aval) for aval in avals.values()]
    else:

        def linear(*arrays: Array) -> Array:
            given = dict(zip(avals, arrays, strict=True))
            outputs = eqn.primitive.bind(*(given.get(place, x) for place, x in enumerate(operands)), **eqn.params)
            return outputs[0] if eqn.primitive.multiple_results else outputs

        cotangents = jax.linear_transpose(linear, *avals.values())(cotangent)
    found = dict(zip(avals, cotangents, strict=True))
    return [found.get(place) for place in range(len(operands))]


def _num_operations(f: Callable, optimize: bool, *args: Any, **options: Any) -> float:
    """The number of operations that XLA counts. Some versions report it per device, others once."""
    lowered = jax.jit(f).lower(*args, **options)
    analysis = (lowered.compile() if optimize else lowered).cost_analysis()
    counted: Any = analysis[0] if isinstance(analysis, list) else analysis
    return counted["flops"]


nt, stax = _imported()
