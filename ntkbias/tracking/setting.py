"""What a run looks at: as users give it, `Watched`; checked before training, the `Setting` of all its snapshots."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from ntkbias import losses
from ntkbias.checks import require_array, require_choice, require_finite, require_key, require_positive
from ntkbias.domains import Domain
from ntkbias.errors import InputError, InputTypeError
from ntkbias.function import checked_function, require_inputs
from ntkbias.memory import checked_memory_budget, default_memory_budget
from ntkbias.packing import are_several, packed_rows
from ntkbias.training import checked_data
from ntkbias.types import ApplyFunction, Outputs, Params

__all__ = ["PROBE", "Setting", "Watched"]

PROBE = 500  # training inputs that the kernel is followed on unless a probe is given


class Setting(NamedTuple):
    """What all snapshots of a run have in common."""

    f: ApplyFunction
    loss: losses.LossFunction
    x: Array  # training inputs
    y: Array
    probe: Array  # inputs on which the kernel is followed
    probe_y: Array | None
    test: tuple[Array, Array] | None
    behaviors: dict[str, Array]  # named functions on the probe, (n,) or (n, o)
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
        data: tuple[Array, Array],
        probe: tuple[Array, Array | None],
        loss: str | losses.LossFunction,
        *,
        test: tuple[Array, Array] | None = None,
        behaviors: Mapping[str, Array] | None = None,
        domain: Domain | None = None,
        outputs: Outputs = "mean",
        num_modes: int = 20,
        has_state: bool = False,
        memory_budget: int | None = None,
        key: PRNGKeyArray | None = None,
    ) -> "Setting":
        """The setting of arrays that have been checked; see `track` for what they mean."""
        return cls(
            f,
            losses.named(loss),
            *data,
            *probe,
            test,
            dict(behaviors or {}),
            domain,
            outputs,
            num_modes,
            has_state,
            default_memory_budget() if memory_budget is None else memory_budget,
            jax.random.key(0) if key is None else key,
        )


class Watched(NamedTuple):
    """What is looked at, as users give it."""

    probe: Any
    test: Any
    targets: Any
    domain: Any
    outputs: Outputs
    num_modes: int
    memory_budget: int | None
    key: Any

    def setting(self, f: ApplyFunction, variables: Params, loss: Any, x: Array, y: Array, state: Any) -> Setting:
        """The setting of snapshots, once all of it is checked."""
        require_choice("outputs", self.outputs, Outputs)
        if self.outputs == "each":
            raise InputError("Expected a kernel that is one matrix; got outputs='each'. Use 'mean', 'sum' or 'all'.")
        require_positive("num_modes", self.num_modes)
        shape = jax.eval_shape(f, variables, x[:1]).shape[1:]
        probe, probe_y = self._probe(loss, x, y, shape)
        f, variables, _ = checked_function(f, variables, None if state is None else "[0]")
        require_inputs(f, variables, probe, "the probe")
        if self.domain is not None:
            if not isinstance(self.domain, Domain):
                raise InputTypeError(f"Expected a domain, e.g. Circle(); got {type(self.domain).__name__}.")
            self.domain.check(probe)
        test = None
        if self.test is not None:
            test = self.test
            if isinstance(test, tuple | list) and len(test) == 2 and are_several(test[0]):
                test = packed_rows(test[0], "test")[1], test[1]
            test_x, test_y = checked_data(test, "test")
            _require_like(test_x, x, "test")
            outputs = jax.ShapeDtypeStruct((len(test_x), *shape), jnp.float32)
            test = test_x, losses.checked_targets(loss, outputs, test_y)
        return Setting.of(
            f,
            (x, y),
            (probe, probe_y),
            loss,
            test=test,
            behaviors=self._behaviors(len(probe), shape),
            domain=self.domain,
            outputs=self.outputs,
            num_modes=self.num_modes,
            has_state=state is not None,
            memory_budget=checked_memory_budget(self.memory_budget),
            key=jax.random.key(0) if self.key is None else require_key(self.key),
        )

    def _probe(self, loss: Any, x: Array, y: Array, shape: tuple[int, ...]) -> tuple[Array, Array | None]:
        if self.probe is None:
            return (x, y) if len(x) <= PROBE else (x[:PROBE], y[:PROBE])
        if isinstance(self.probe, tuple | list) and not hasattr(self.probe, "_fields"):
            pair = self.probe
            if len(pair) == 2 and are_several(pair[0]):
                pair = packed_rows(pair[0], "probe")[1], pair[1]
            probe, targets = checked_data(pair, "probe")
            _require_like(probe, x, "probe")
            return probe, losses.checked_targets(loss, jax.ShapeDtypeStruct((len(probe), *shape), jnp.float32), targets)
        probe = packed_rows(self.probe, "probe")[1] if are_several(self.probe) else self.probe
        probe = require_array(probe, "probe")
        _require_like(probe, x, "probe")
        require_finite(probe, "probe")
        return probe, None

    def _behaviors(self, n: int, shape: tuple[int, ...]) -> dict[str, Array]:
        if self.targets is None:
            return {}
        if not isinstance(self.targets, Mapping) or not all(isinstance(name, str) for name in self.targets):
            raise InputTypeError(
                f"Expected targets to be a dictionary of named functions on the probe; got "
                f"{type(self.targets).__name__}. Labels to train on are the y of data=(x, y)."
            )
        checked = {}
        for name, values in self.targets.items():
            array = require_array(values, f"target {name!r}")
            flat = n, math.prod(shape)
            if array.shape not in ((n,), (n, *shape), (n, *shape[:-1]), flat):
                raise InputError(
                    f"Expected target {name!r} of shape ({n},) or {flat if len(shape) < 2 else (n, *shape)}, a value "
                    f"for each input of the probe; got {array.shape}."
                )
            require_finite(array, f"target {name!r}")
            if not bool(jnp.any(array != 0)):
                raise InputError(f"Expected target {name!r} that is not zero everywhere; got zeros.")
            checked[name] = array
        return checked


def _require_like(x: Array, data: Array, name: str) -> None:
    if x.ndim != data.ndim or x.shape[1:] != data.shape[1:] or not len(x):
        raise InputError(
            f"Expected inputs (n, {', '.join(map(str, data.shape[1:]))}) in {name}, of the shape of the training "
            f"inputs; got shape {x.shape}."
        )
