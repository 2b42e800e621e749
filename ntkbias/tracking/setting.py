"""What all snapshots of a run share: f, the loss, the data and the checked probe."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import key_or_default, require_array, require_finite
from ntkbias.domains import Domain
from ntkbias.errors import InputError
from ntkbias.function import checked_function, require_inputs
from ntkbias.memory import checked_memory_budget
from ntkbias.packing import are_several, packed_rows
from ntkbias.tracking.probe import Probe
from ntkbias.training.inputs import checked_data
from ntkbias.types import ApplyFunction, Inputs, Outputs, Params

__all__ = ["PROBE", "Setting"]

PROBE = 500  # training examples that are the default probe


class Setting(NamedTuple):
    """What all snapshots of a run share. `Setting.of` makes it.

    >>> import jax, optax, ntkbias as nb
    >>> net, x = nb.nets.mlp(width=16, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)[0]
    >>> run = {"optimizer": optax.sgd(0.1), "num_steps": 4, "at": (0, 4)}
    >>> measures = {"size": lambda snapshot: len(snapshot.setting.probe)}  # each snapshot has its run's Setting
    >>> nb.track(net.apply, net.init(jax.random.key(0), (2,)), (x, x[:, 0]), measures=measures, **run)["size"].tolist()
    [16, 16]
    """

    f: ApplyFunction
    loss: losses.LossFunction
    x: Array  # training inputs
    y: Array
    probe: Array  # the inputs of the kernel
    probe_y: Array | None
    test: tuple[Array, Array] | None
    watched: dict[str, Array]  # named targets at the probe, (n,) or (n, o)
    domain: Domain | None
    outputs: Outputs
    num_modes: int
    has_state: bool  # whether f takes (params, state)
    memory_budget: int
    key: PRNGKeyArray

    @classmethod
    def of(
        cls,
        f: ApplyFunction,
        variables: Params,
        data: tuple[Array, Array],
        loss: str | losses.LossFunction = "mse",
        probe: Any = None,
        *,
        has_state: bool = False,
        key: PRNGKeyArray | None = None,
    ) -> "Setting":
        """Check the arguments, and return the setting for snapshots of `f`.

        `variables` are params, or (params, state) with `has_state`. `data` are arrays (x, y) that the loss accepts.
        `probe` is a `Probe`, inputs, or a pair (inputs, targets); the default is the first 500 training examples.
        Raises `InputError` if the probe does not fit f, the data or the loss.
        """
        (x, y), probe, function = data, Probe.of(probe), losses.named(loss)
        shape = jax.eval_shape(f, variables, x[:1]).shape[1:]
        probe_x, probe_y = _on_probe(probe, function, x, y, shape)
        f, variables, _ = checked_function(f, variables, "[0]" if has_state else None)
        require_inputs(f, variables, probe_x, "the probe")
        if probe.domain is not None:
            probe.domain.check(probe_x)
        return cls(
            f,
            function,
            x,
            y,
            probe_x,
            probe_y,
            None if probe.test is None else _examples(probe.test, "test", function, x, shape),
            {name: _watched(name, values, len(probe_x), shape) for name, values in (probe.watched or {}).items()},
            probe.domain,
            probe.outputs,
            probe.num_modes,
            has_state,
            checked_memory_budget(probe.memory_budget),
            key_or_default(key),
        )


def _on_probe(probe: Probe, loss: Any, x: Array, y: Array, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
    """The inputs of the kernel, and their targets or None."""
    if probe.x is None:
        return (x, y) if len(x) <= PROBE else (x[:PROBE], y[:PROBE])
    if probe.targets is not None:
        return _examples((probe.x, probe.targets), "probe", loss, x, shape)
    inputs = require_array(_one_array(probe.x, "probe"), "probe")
    _require_like(inputs, x, "probe")
    require_finite(inputs, "probe")
    if inputs.shape == x[: len(inputs)].shape and bool(jnp.array_equal(inputs, x[: len(inputs)])):
        return inputs, y[: len(inputs)]
    return inputs, None


def _examples(pair: Any, name: str, loss: Any, data: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """Check a pair of inputs and targets: inputs must be like the training inputs, and the loss must accept targets."""
    if isinstance(pair, tuple | list) and len(pair) == 2:
        pair = _one_array(pair[0], name), pair[1]
    x, y = checked_data(pair, name)
    _require_like(x, data, name)
    return x, losses.checked_targets(loss, jax.ShapeDtypeStruct((len(x), *shape), jnp.float32), y)


def _one_array(x: Inputs, name: str) -> Any:
    """Pack several arrays of inputs into one. A single array is returned unchanged."""
    return packed_rows(x, name)[1] if are_several(x) else x


def _watched(name: str, values: Any, n: int, shape: tuple[int, ...]) -> Array:
    """Check a watched target: it needs a value for each input of the probe, and must not vanish."""
    array = require_array(values, f"watched target {name!r}")
    flat = n, math.prod(shape)
    if array.shape not in ((n,), (n, *shape), (n, *shape[:-1]), flat):
        raise InputError(
            f"Expected watched target {name!r} of shape ({n},) or {flat if len(shape) < 2 else (n, *shape)}, with "
            f"values for each input of the probe; got {array.shape}."
        )
    require_finite(array, f"watched target {name!r}")
    if not bool(jnp.any(array != 0)):
        raise InputError(f"Expected watched target {name!r} to have a value that is not zero; got zeros alone.")
    return array


def _require_like(x: Array, data: Array, name: str) -> None:
    if x.ndim != data.ndim or x.shape[1:] != data.shape[1:] or not len(x):
        raise InputError(
            f"Expected inputs (n, {', '.join(map(str, data.shape[1:]))}) in {name}, like the training inputs; got "
            f"shape {x.shape}."
        )
