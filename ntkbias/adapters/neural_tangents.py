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
    empirical                    structured derivatives call private functions that changed: linearisation and
                                 transposition are written anew by public ones, and what `jax_enable_checks` asked for
                                 is left out; `jnp.size` is asked for the size of a shape; `AUTO` reads the number of
                                 operations where the compiler gives it now

Not mended: `neural_tangents.experimental`, for TensorFlow's models. Dropout in training, masks and patterns work by
`kernel_fn` itself, not through `from_stax`.
"""

import contextlib
import dataclasses
import math
import sys
import types
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.extend.core
import jax.extend.source_info_util
import jax.numpy as jnp
import scipy.linalg
from jax import core  # noqa: TID251  (neural-tangents is written for these two: the one place that reads them)
from jax.interpreters import ad  # noqa: TID251
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Covariance, Layer, Needs, Positions
from ntkbias.layers.layer import require_positions
from ntkbias.types import Params

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


# Its networks as layers.


class Stax(Layer):
    """A network of `stax`, for inputs `(n, *positions, channels)`; made by `from_stax`.

    Its parameters are those that `init_fn` draws. Two layers are equal if their functions are the same objects: calling
    `stax.serial` again makes new ones, and compiles again. Costs are those of `kernel_fn`, whose pooled convolutions
    carry all pairs of positions.
    """

    init_fn: Callable[..., Any] = eqx.field(static=True)
    apply_fn: Callable[..., Any] = eqx.field(static=True)
    kernel_fn: Callable[..., Any] = eqx.field(static=True)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one output. Raises `InputError` where the network does not take such inputs."""
        require_positions("a stax network", input_shape)
        self._require_axes(len(input_shape) + 1)
        shapes: list[Any] = []

        def init(key: Any) -> Params:
            shape, params = self.init_fn(key, (1, *input_shape))
            shapes.append(shape)
            return params

        try:
            jax.eval_shape(init, jax.eval_shape(jax.random.key, 0))
        except Exception as error:
            raise InputError(
                f"Expected inputs that the stax network takes; got shape {tuple(input_shape)} without the batch axis: "
                f"{_sentence(error)}"
            ) from error
        (shape,) = shapes
        if any(isinstance(size, tuple | list) for size in shape):
            raise InputError(
                f"Expected a stax network with one output; got {len(shape)}. End it with stax.FanInSum or FanInConcat."
            )
        return tuple(int(size) for size in shape[1:])

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        """Random parameters, as `init_fn` draws them for a batch of one input."""
        self.output_shape(input_shape)
        return self.init_fn(key, (1, *input_shape))[1]

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The outputs, by `apply_fn`."""
        return self.apply_fn(params, x)

    def propagate(self, covariance: Covariance) -> Covariance:
        """The covariance of the outputs, by `kernel_fn`. Raises `InputError` where it has no formula."""
        self._require_axes(len(covariance.shape) + 1)
        kernel = _to_kernel(covariance)
        try:
            after = self.kernel_fn(kernel)
            if not covariance.trained and kernel.ntk is not None:
                # The NTK is affine in that of the inputs: its linear part is what passes through without parameters.
                _, ntk = jax.jvp(lambda ntk: self.kernel_fn(kernel.replace(ntk=ntk)).ntk, (kernel.ntk,), (kernel.ntk,))
                after = after.replace(ntk=ntk)
        except (NotImplementedError, ValueError) as error:
            raise InputError(
                f"Expected a stax network with a known infinite-width limit here; got: {_sentence(error)} "
                "Use empirical_ntk for it."
            ) from error
        return _to_covariance(after, covariance)

    def decorrelates(self, before: bool) -> bool:
        """False: not known from outside. In a Residual, put a Dense or Conv of ours last."""
        return False

    def needs(self, after: Needs) -> Needs:
        """The network's own requirement, composed with that of what follows. Both kinds of kernels go together."""
        pairs = max(after) == Positions.ALL
        own = self._requirements.get("diagonal_spatial")
        if isinstance(own, stax.Diagonal):
            known = stax.Bool.NO if pairs else stax.Bool.YES
            pairs = not (own >> stax.Diagonal(input=known, output=known))
        elif own is not None:
            pairs = pairs or not own
        carried = Positions.ALL if pairs else Positions.EQUAL
        return Needs(carried, carried)

    @property
    def _requirements(self) -> Any:
        return self.kernel_fn.input_req  # type: ignore[attr-defined]

    def _require_axes(self, num_axes: int) -> None:
        """Raise an `InputError` unless the network takes the batch first and the channels last."""
        for name, place in (("batch_axis", 0), ("channel_axis", num_axes - 1)):
            axis = self._requirements.get(name)
            if axis is not None and axis % num_axes != place:  # None: it flattens its input, of whatever axes
                raise InputError(
                    f"Expected a stax network of inputs (n, *positions, channels); got {name}={axis} for inputs of "
                    f"{num_axes} axes. Build it with the batch first and the channels last, or call kernel_fn itself."
                )


def from_stax(
    init_fn: Callable[..., Any],
    apply_fn: Callable[..., Any] | None = None,
    kernel_fn: Callable[..., Any] | None = None,
) -> Stax:
    """The layer of a `stax` network: `from_stax(*stax.serial(...))`.

    `init`, `apply` and the infinite-width limit are those of the three functions; kernels of it are computed by blocks,
    differentiated and stored as those of any layer. `nb.infinite_ntk(layer)` is `kernel_fn(x1, x2, "ntk")`.

    Raises `InputTypeError` unless the three are as `stax` returns them, and `InputError` for a network with Dropout.
    """
    for name, function in (("init_fn", init_fn), ("apply_fn", apply_fn), ("kernel_fn", kernel_fn)):
        if not callable(function):
            raise InputTypeError(
                f"Expected the three functions that stax returns; got {type(function).__name__} for {name}. "
                "Pass them as from_stax(*stax.serial(...))."
            )
    requirements = getattr(kernel_fn, "input_req", None)
    if requirements is None:
        raise InputTypeError(
            f"Expected kernel_fn as stax returns it; got {type(kernel_fn).__name__} without stax's requirements. Pass "
            "it as it is; with a mask or other arguments, call it yourself."
        )
    if requirements.get("use_dropout", False):
        raise InputError(
            "Expected a stax network at inference; got Dropout in training. Build it with Dropout(rate, mode='test')."
        )
    assert callable(apply_fn)
    assert callable(kernel_fn)
    return Stax(init_fn, apply_fn, kernel_fn)


def _to_kernel(covariance: Covariance) -> Any:
    """The covariance as neural-tangents carries it: one choice of positions for all arrays, `h, h'` side by side."""
    if covariance.own == Positions.NONE:
        raise InputError(
            "Expected a covariance that holds each input's with itself, which neural-tangents carries always; got one "
            "without. Make it with what needs() asks for."
        )
    shape, num_positions = covariance.shape, covariance.num_positions
    carried = max(covariance.cross, covariance.own)
    second, interleaved = _axes_of_the_second(num_positions)

    def converted(array: Any, given: Positions) -> Array:
        if carried != Positions.ALL:
            return array
        if given != carried:  # equal positions are all that the network needs then: see `needs`
            size = math.prod(covariance.positions)
            columns = array.reshape(*array.shape[: array.ndim - num_positions], size, 1)
            array = (columns * jnp.eye(size, dtype=array.dtype)).reshape(*array.shape, *covariance.positions)
        return jnp.moveaxis(array, second, interleaved)

    # A scalar is what neural-tangents takes for none: parameters then add to it.
    none = jnp.zeros((), covariance.nngp.dtype) if covariance.trained else None
    return nt.Kernel(
        nngp=converted(covariance.nngp, covariance.cross),
        ntk=none if covariance.ntk is None else converted(covariance.ntk, covariance.cross),
        cov1=converted(covariance.self1, covariance.own),
        cov2=converted(covariance.self2, covariance.own),
        x1_is_x2=jnp.asarray(False),  # read by Dropout alone
        is_gaussian=covariance.gaussian,
        is_reversed=False,
        is_input=False,
        diagonal_batch=True,
        diagonal_spatial=num_positions > 0 and carried != Positions.ALL,
        shape1=(covariance.nngp.shape[0], *shape),
        shape2=(covariance.nngp.shape[1], *shape),
        batch_axis=0,
        channel_axis=len(shape),
    )


def _to_covariance(kernel: Any, before: Covariance) -> Covariance:
    """What neural-tangents returned for the covariance `before`, with the positions that it had."""
    if not isinstance(kernel, nt.Kernel):
        raise InputError(
            f"Expected a stax network with one output; got {len(kernel)}. End it with stax.FanInSum or FanInConcat."
        )
    num_positions = len(kernel.shape1) - 2
    if (kernel.batch_axis, kernel.channel_axis) != (0, num_positions + 1):
        raise InputError(
            f"Expected a stax network with outputs (n, *positions, channels); got batch_axis={kernel.batch_axis} and "
            f"channel_axis={kernel.channel_axis}. Build it with the batch first and the channels last."
        )
    carried = Positions.EQUAL if kernel.diagonal_spatial or not num_positions else Positions.ALL
    if carried == Positions.ALL and kernel.is_reversed:
        kernel = kernel.reverse()
    after = dataclasses.replace(
        before,
        shape=tuple(int(size) for size in kernel.shape1[1:]),
        cross=min(carried, before.cross),
        own=min(carried, before.own),
        gaussian=kernel.is_gaussian,
    )
    second, interleaved = _axes_of_the_second(num_positions)

    def converted(array: Array, wanted: Positions) -> Array:
        if carried != Positions.ALL:
            return array
        array = jnp.moveaxis(array, interleaved, second)
        return array if wanted == carried else after.at_equal(array, carried)

    ntk = None if kernel.ntk is None or kernel.ntk.ndim == 0 else converted(kernel.ntk, after.cross)
    return dataclasses.replace(
        after,
        nngp=converted(kernel.nngp, after.cross),
        ntk=ntk,
        self1=converted(kernel.cov1, after.own),
        self2=converted(kernel.cov2, after.own),
    )


def _axes_of_the_second(num_positions: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Where the positions of the second input of two stand: ours `(h, w, h', w')`, theirs `(h, h', w, w')`."""
    return tuple(range(-num_positions, 0)), tuple(range(1 - 2 * num_positions, 0, 2))


def _sentence(error: Exception) -> str:
    """The first line of an error of neural-tangents."""
    return f"{str(error).splitlines()[0] if str(error) else type(error).__name__}".rstrip(". ") + "."
