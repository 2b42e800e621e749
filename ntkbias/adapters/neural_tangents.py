"""neural-tangents, whose import this module mends, and its `stax` networks as layers of ours.

neural-tangents 0.6.5, the last there is, cannot be imported on JAX 0.6 and later, and loads TensorFlow. A script that
uses it runs unchanged but for its import; after that line a plain `import neural_tangents` works as well:

    from ntkbias.adapters.neural_tangents import nt, stax

in place of `import neural_tangents as nt` and `from neural_tangents import stax`. A network that `stax` describes, with
attention, LayerNorm and whatever else it has, becomes a layer by `from_stax`: all functions here take it.

>>> import jax, ntkbias as nb
>>> from ntkbias.adapters.neural_tangents import from_stax, stax
>>> init_fn, apply_fn, kernel_fn = stax.serial(stax.Dense(64), stax.LayerNorm(), stax.Erf(), stax.Dense(1))
>>> x = jax.random.normal(jax.random.key(0), (4, 3))
>>> limit = nb.infinite_ntk(from_stax(init_fn, apply_fn, kernel_fn))
>>> bool(abs(limit(x) - kernel_fn(x, None, "ntk")).max() < 1e-5)
True

Install it without what it does not need here: `pip install --no-deps neural-tangents==0.6.5 frozendict`.

Mended for the length of the import, after which JAX is as it was: names that left `jax.core`, `jax.util` and
`jax.interpreters.ad` are there, unless JAX has them; `neural_tangents.experimental`, which loads TensorFlow, is empty.
Mended for good, in neural-tangents' own modules:

    predict, stax                attention's positions and solvers use `jax.core.eval_context`, which fails on tracers;
                                 `jax.ensure_compile_time_eval` does what it did
    predict.max_learning_rate    calls SciPy by an argument that was renamed
    empirical                    structured derivatives call private functions that changed: linearization and
                                 transposition are written anew by public ones, and what `jax_enable_checks` asked for
                                 is left out; `jnp.size` is asked for the size of a shape; `AUTO` reads the number of
                                 operations where the compiler gives it now

Not mended: `neural_tangents.experimental`, for TensorFlow's models. Dropout in training, masks and patterns work by
`kernel_fn` itself, not through `from_stax`.
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
from jax import core  # noqa: TID251  (neural-tangents is written for these two: the one place that reads them)
from jax.interpreters import ad  # noqa: TID251
from jaxtyping import Array

from ntkbias.adapters.stax_network import Stax, from_stax

__all__ = ["Stax", "from_stax", "nt", "stax"]

TESTED = ((0, 8), (0, 10), (0, 12))  # versions of JAX


# Its import.


@contextlib.contextmanager
def _old_names() -> Iterator[None]:
    """Names that neural-tangents imports, and that JAX has no more, for the length of the block."""
    moved = ("Jaxpr", "JaxprEqn", "Literal", "Primitive", "Var")
    util = types.ModuleType("jax.util")
    vars(util).update(
        safe_map=lambda f, *lists: [f(*items) for items in zip(*lists, strict=True)],
        safe_zip=lambda *lists: list(zip(*lists, strict=True)),
    )
    wanted: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (vars(core), {name: getattr(jax.extend.core, name) for name in moved}),
        (vars(ad), {"zeros_like_p": jax.extend.core.Primitive("zeros_like")}),  # a key of its tables that nothing has
        (sys.modules, {"jax.util": util, "neural_tangents.experimental": types.ModuleType("experimental")}),
    ]
    with contextlib.ExitStack() as afterwards:
        for namespace, names in wanted:
            for name in names.keys() - namespace.keys():
                namespace[name] = names[name]
                afterwards.callback(namespace.pop, name)
        yield


def _imported() -> tuple[Any, Any]:
    """The modules `neural_tangents` and `neural_tangents.stax`, mended."""
    if jax.__version_info__[:2] not in TESTED:
        tested = ", ".join(f"{major}.{minor}" for major, minor in TESTED)
        warnings.warn(
            f"neural-tangents was mended and tested for JAX {tested}; this is {jax.__version__}. Compare its results "
            "with those of empirical_ntk and infinite_ntk before trusting them.",
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
        vars(neural_tangents).pop("experimental", None)  # the empty one; importing the real one is up to the user
    _mend()
    return neural_tangents, neural_tangents.stax


# What it does with JAX afterwards. Its modules see JAX through these; JAX itself is left alone.


class _With:
    """A module with a few names replaced."""

    def __init__(self, module: Any, **names: Any):
        self._module = module
        vars(self).update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def _mend() -> None:
    """Replace in neural-tangents' modules what JAX and SciPy do otherwise now."""
    from neural_tangents._src import empirical, predict
    from neural_tangents._src.stax import linear

    # On tracers `eval_context` fails since JAX 0.4.36.
    predict.jax = linear.jax = _With(jax, core=_With(core, eval_context=jax.ensure_compile_time_eval))
    predict.sp = _With(scipy, linalg=_With(scipy.linalg, eigvalsh=_eigvalsh))

    empirical.jnp = _With(jnp, size=lambda x: math.prod(x.shape))  # JAX's refuses shapes without values
    empirical.core = _With(core, DShapedArray=None)  # a type that it looks for, and that no array has
    empirical.ad = _With(
        ad,
        source_info_util=jax.extend.source_info_util,
        config=types.SimpleNamespace(jax_enable_checks=False),  # its check calls what has no successor
    )
    empirical._get_primals_out_and_pullback = _outputs_and_pullback
    empirical._eqn_vjp_fn = _transposed
    empirical._get_flops = _num_operations


def _eigvalsh(a: Any, eigvals: tuple[int, int]) -> Any:
    """`scipy.linalg.eigvalsh`, whose argument had this name before SciPy 1.14."""
    return scipy.linalg.eigvalsh(a, subset_by_index=eigvals)


def _outputs_and_pullback(
    f: Callable, mode: Any, _j_rules: bool, _s_rules: bool, _fwd: bool | None, *primals: Any
) -> tuple[Any, Callable]:
    """The outputs of f, and what neural-tangents reads off its linear part on the way back from cotangents."""
    from neural_tangents._src import empirical

    with jax.disable_jit():  # it has no rules for calls
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
    """The cotangents of one equation's linear operands; None for the others.

    By the public table of rules; what has no entry there (slice), or a rule of another form since it has several
    results (cond, checkpoint), by `jax.linear_transpose`.
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
    """The number of operations that XLA counts, which it gives for each device or once."""
    lowered = jax.jit(f).lower(*args, **options)
    analysis = (lowered.compile() if optimize else lowered).cost_analysis()
    counted: Any = analysis[0] if isinstance(analysis, list) else analysis
    return counted["flops"]


nt, stax = _imported()
