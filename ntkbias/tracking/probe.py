"""The probe: the inputs at which a run's kernel is measured, and the options for that.

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
    """The inputs at which a run's kernel is measured, and how: `probe=` of `track`, `track_snapshots`, `track_many`.

    - `x` `(n, ...)`: the inputs of the kernel, each with the shape of a training input. The default is the first 500
      training examples, with their targets.
    - `targets`: the targets at `x`, in the form that the loss accepts. If you pass `x` alone and it
      is the training inputs, or the first of them, their targets are used. Otherwise the measures of residuals and
      labels are left out.
    - `test`: a pair (x, y), on which the test loss and the test accuracy are measured.
    - `watched`: a dictionary of named targets `(n,)` or `(n, o)`, the values at `x` of functions that the network may
      learn. Measures report how fast the kernel learns each of them.
    - `domain`: the domain of the inputs. With it, modes and residuals have frequencies.
    - `outputs`: "mean", "sum" or "all", as in `empirical_ntk`.
    - `num_modes`: how many modes are reported by measures that have one value per mode.
    - `memory_budget`: the most bytes for one block of the kernel (default: a quarter of the memory).

    Raises `InputError` on outputs="each", and on targets without inputs. Arrays are checked when training begins.

    >>> import jax, optax, ntkbias as nb
    >>> circle = nb.domains.Circle()
    >>> x, weights = circle.quadrature(16)
    >>> net = nb.nets.mlp(width=16, depth=1, b_std=0.1)
    >>> run = {"optimizer": optax.sgd(0.1), "num_steps": 4, "at": (0, 4)}
    >>> params, probe = net.init(jax.random.key(0), (2,)), nb.tracking.Probe(x, domain=circle)
    >>> history = nb.track(net.apply, params, (x, x[:, 0]), probe=probe, **run)
    >>> "frequencies" in history
    True
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
            raise InputError("Expected inputs with the targets of a probe; got targets alone. Pass Probe(x, targets).")
        if self.watched is not None and (
            not isinstance(self.watched, Mapping) or not all(isinstance(name, str) for name in self.watched)
        ):
            raise InputTypeError(
                f"Expected watched to be a dictionary of named targets on the probe; got "
                f"{type(self.watched).__name__}. Pass training labels as the y of data=(x, y)."
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
        """The `Probe` for an argument `probe=`: a `Probe`, inputs, a pair (x, targets), or None for the default."""
        if isinstance(probe, Probe):
            return probe
        if isinstance(probe, tuple | list) and not hasattr(probe, "_fields"):
            if len(probe) != 2:
                raise InputTypeError(
                    f"Expected probe= to be inputs, a pair (x, targets) or a Probe; got {len(probe)} values."
                )
            return cls(*probe)
        return cls(probe)
