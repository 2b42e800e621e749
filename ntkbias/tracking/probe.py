"""The probe: the inputs on which a run's kernel is followed, and all that says how it is looked at.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.tracking import Probe
>>> circle = nb.domains.Circle()
>>> x, _ = circle.quadrature(8)
>>> probe = Probe(x, jnp.sign(x[:, 0]), watched={"cos": x[:, 0]}, domain=circle, num_modes=5)
>>> probe.num_modes, probe.outputs
(5, 'mean')
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from jax.typing import ArrayLike

from ntkbias.checks import require_choice, require_positive
from ntkbias.domains import Domain
from ntkbias.errors import InputError, InputTypeError
from ntkbias.memory import checked_memory_budget
from ntkbias.types import Inputs, Outputs

__all__ = ["Probe"]


@dataclasses.dataclass(frozen=True, eq=False)
class Probe:
    """Where, and how, the kernel of a run is looked at; the `probe=` of `track`, `track_snapshots` and `track_many`.

    `x` `(n, ...)` are the inputs of the kernel, of the shape of the training inputs, and `targets` are theirs, of the
    form that the loss takes; without targets, measures of the residual and of the labels are left out. If `x` is the
    training inputs, or the first of them, their targets are those of the training data. By default the probe is the
    first 500 of the training data.

    `test` is a pair (x, y) on which loss and accuracy are measured. `watched` is a dictionary of named targets, `(n,)`
    or `(n, o)`, values on `x` of functions that the network may learn. On a `domain` modes and residuals have
    frequencies.

    `outputs` is "mean", "sum" or "all", as in `empirical_ntk`. Measures by mode report the first `num_modes`. One block
    of the kernel takes at most `memory_budget` bytes (default: a quarter of the memory).

    Raises `InputError` on outputs="each", and on targets without inputs; arrays are checked where training begins.
    """

    x: Inputs | None = None
    targets: ArrayLike | None = None
    _: dataclasses.KW_ONLY
    test: tuple[Inputs, ArrayLike] | None = None
    watched: Mapping[str, ArrayLike] | None = None
    domain: Domain | None = None
    outputs: Outputs = "mean"
    num_modes: int = 20
    memory_budget: int | None = None

    def __post_init__(self) -> None:
        if self.x is None and self.targets is not None:
            raise InputError("Expected inputs with the targets of a probe; got targets alone. Give Probe(x, targets).")
        if self.watched is not None and (
            not isinstance(self.watched, Mapping) or not all(isinstance(name, str) for name in self.watched)
        ):
            raise InputTypeError(
                f"Expected watched to be a dictionary of named targets on the probe; got "
                f"{type(self.watched).__name__}. Labels to train on are the y of data=(x, y)."
            )
        if self.domain is not None and not isinstance(self.domain, Domain):
            raise InputTypeError(f"Expected a domain, e.g. Circle(); got {type(self.domain).__name__}.")
        require_choice("outputs", self.outputs, Outputs)
        if self.outputs == "each":
            raise InputError("Expected a kernel that is one matrix; got outputs='each'. Use 'mean', 'sum' or 'all'.")
        require_positive("num_modes", self.num_modes)
        if self.memory_budget is not None:
            checked_memory_budget(self.memory_budget)

    @classmethod
    def of(cls, probe: Any) -> "Probe":
        """What `probe=` says: a `Probe`, inputs, a pair (x, targets), or None for the training data."""
        if isinstance(probe, Probe):
            return probe
        if isinstance(probe, tuple | list) and not hasattr(probe, "_fields"):
            if len(probe) != 2:
                raise InputTypeError(
                    f"Expected probe= to be inputs, a pair (x, targets) or a Probe; got {len(probe)} values."
                )
            return cls(*probe)
        return cls(probe)
