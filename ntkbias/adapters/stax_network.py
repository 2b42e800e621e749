"""A `stax` network of neural-tangents as a layer of this package. `neural_tangents.py` exports the public names.

This module loads without neural-tangents. Its functions import the library when they are called. Their argument is a
network of that library, so `neural_tangents.py` has already imported and repaired it.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Covariance, Layer, Needs, Positions
from ntkbias.layers.layer import require_positions
from ntkbias.types import Params

__all__ = ["Stax", "from_stax"]


class Stax(Layer):
    """A `stax` network for inputs `(n, *positions, channels)`, made by `from_stax`.

    Its parameters are those that `init_fn` draws. Two layers are equal if their functions are the same objects. Calling
    `stax.serial` again makes new functions, which compile again. Costs are those of `kernel_fn`, which carries all
    pairs of positions for pooled convolutions.
    """

    init_fn: Callable[..., Any] = eqx.field(static=True)
    apply_fn: Callable[..., Any] = eqx.field(static=True)
    kernel_fn: Callable[..., Any] = eqx.field(static=True)

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of one output. Raises `InputError` if the network does not accept such inputs."""
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
        return self.init_fn(require_key(key), (1, *input_shape))[1]

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        """The outputs, by `apply_fn`."""
        return self.apply_fn(params, x)

    def propagate(self, covariance: Covariance) -> Covariance:
        """The covariance of the outputs, by `kernel_fn`. Raises `InputError` if that has no formula."""
        self._require_axes(len(covariance.shape) + 1)
        kernel = _to_kernel(covariance)
        try:
            after = self.kernel_fn(kernel)
            if not covariance.trained and kernel.ntk is not None:
                # The NTK is affine in the NTK of the inputs. Without trained parameters only the linear part remains.
                _, ntk = jax.jvp(lambda ntk: self.kernel_fn(kernel.replace(ntk=ntk)).ntk, (kernel.ntk,), (kernel.ntk,))
                after = after.replace(ntk=ntk)
        except (NotImplementedError, ValueError) as error:
            raise InputError(
                f"Expected a stax network with a known infinite-width limit here; got: {_sentence(error)} "
                "Use empirical_ntk for it."
            ) from error
        return _to_covariance(after, covariance)

    def decorrelates(self, before: bool) -> bool:
        """False, because it cannot be known from outside. End a branch of Residual with a Dense or Conv of ours."""
        return False

    def needs(self, after: Needs) -> Needs:
        """The network's own requirement, composed with that of later layers. It is the same for `cross` and `own`."""
        from neural_tangents import stax

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
            if axis is not None and axis % num_axes != place:  # None: it flattens inputs with any axes
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

    The three functions give `init`, `apply` and the infinite-width limit. Its kernels are computed by blocks,
    differentiated and stored like those of any layer. `nb.infinite_ntk(layer)` is `kernel_fn(x1, x2, "ntk")`.

    Raises `InputTypeError` unless the three functions are as `stax` returns them, and `InputError` for a network with
    Dropout in training.
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
            "it unchanged. If it needs a mask or other arguments, call it yourself."
        )
    if requirements.get("use_dropout", False):
        raise InputError(
            "Expected a stax network at inference; got Dropout in training. Build it with Dropout(rate, mode='test')."
        )
    assert callable(apply_fn)
    assert callable(kernel_fn)
    return Stax(init_fn, apply_fn, kernel_fn)


def _to_kernel(covariance: Covariance) -> Any:
    """The covariance in neural-tangents' form: the same positions for all arrays, and the axes `h, h'` side by side."""
    import neural_tangents as nt

    if covariance.own == Positions.NONE:
        raise InputError(
            "Expected a covariance that holds that of each input with itself, which neural-tangents always carries; "
            "got one without. Make it with what needs() asks for."
        )
    shape, num_positions = covariance.shape, covariance.num_positions
    carried = max(covariance.cross, covariance.own)
    second, interleaved = _axes_of_the_second(num_positions)

    def converted(array: Any, given: Positions) -> Array:
        if carried != Positions.ALL:
            return array
        if given != carried:  # the network then needs only equal positions: see `needs`
            size = math.prod(covariance.positions)
            columns = array.reshape(*array.shape[: array.ndim - num_positions], size, 1)
            array = (columns * jnp.eye(size, dtype=array.dtype)).reshape(*array.shape, *covariance.positions)
        return jnp.moveaxis(array, second, interleaved)

    # neural-tangents reads a scalar as an NTK of zero, to which parameters add.
    zero = jnp.zeros((), covariance.nngp.dtype) if covariance.trained else None
    return nt.Kernel(
        nngp=converted(covariance.nngp, covariance.cross),
        ntk=zero if covariance.ntk is None else converted(covariance.ntk, covariance.cross),
        cov1=converted(covariance.self1, covariance.own),
        cov2=converted(covariance.self2, covariance.own),
        x1_is_x2=jnp.asarray(False),  # only Dropout reads it
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
    """A kernel that neural-tangents returned for the covariance `before`, as a covariance with no more positions."""
    import neural_tangents as nt

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
    """The axes of the second input's positions, in this package `(h, w, h', w')` and in theirs `(h, h', w, w')`."""
    return tuple(range(-num_positions, 0)), tuple(range(1 - 2 * num_positions, 0, 2))


def _sentence(error: Exception) -> str:
    """The first line of an error from neural-tangents."""
    return f"{str(error).splitlines()[0] if str(error) else type(error).__name__}".rstrip(". ") + "."
