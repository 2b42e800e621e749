"""A domain made of your own functions: any `harmonics(x)`, with a frequency for each.

Use it if you know a basis that suits the data: parities of subsets of features, wavelets, spherical functions of a
molecule, sines along a known coordinate. The functions need not be orthonormal. `energy` orthonormalizes them under the
inputs' weights, level by level in the order of frequency (Gram-Schmidt). A mode's power in a level is therefore what
this level explains and the lower ones do not.

>>> import jax.numpy as jnp
>>> from ntkbias.domains import FromHarmonics
>>> def waves(x):
...     return jnp.stack([jnp.ones(len(x)), x[:, 0], jnp.cos(3 * x[:, 0]), jnp.sin(3 * x[:, 0])], 1)
>>> domain = FromHarmonics(waves, (0.0, 1.0, 3.0, 3.0))
>>> x = jnp.linspace(-1, 1, 50)[:, None]
>>> domain.energy(2 + x, x, jnp.full(50, 1 / 50), 2).round(3).tolist()
[[4.0, 0.347, 0.0]]
"""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from ntkbias.checks import require_finite
from ntkbias.domains.domain import Domain, Edges, HarmonicDomain, orthonormalized, whole_number
from ntkbias.domains.point_cloud import PointCloud
from ntkbias.errors import InputError, InputTypeError

__all__ = ["FromHarmonics"]


class FromHarmonics(HarmonicDomain):
    """Inputs `(n, ...)` with functions `harmonics(x)`, `(n, h)`, and one of the `frequencies` for each function.

    Functions of equal frequency make up a level. The levels are numbered in ascending order of frequency, and this
    number is their `degree`. Measures of frequency that need distances take those of the domain `distances`, by default
    a `PointCloud`. This domain has no distribution: `sample` and `quadrature` raise an `InputError`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> x = jnp.linspace(-1, 1, 16)[:, None]
    >>> lines = nb.domains.FromHarmonics(lambda x: jnp.concatenate([jnp.ones_like(x), x], 1), (0.0, 1.0))
    >>> lines.energy(2 * x, x, jnp.full(16, 1 / 16), 1).round(2).tolist()
    [[0.0, 1.51]]
    """

    function: Callable[[Array], Array] | None = eqx.field(static=True, default=None, metadata={"saved": False})
    frequencies: tuple[float, ...] = eqx.field(static=True, default=())
    distances: Domain = PointCloud()

    def __init__(
        self,
        function: Callable[[Array], Array] | None = None,
        frequencies: Sequence[float] = (),
        distances: Domain | None = None,
    ):
        if function is not None and not callable(function):
            raise InputTypeError(f"Expected a function harmonics(x) -> (n, h); got {type(function).__name__}.")
        values = np.asarray(frequencies, float)
        if values.ndim != 1 or values.size == 0 or not np.all(np.isfinite(values) & (values >= 0)):
            raise InputError(f"Expected a frequency of zero or more for each harmonic; got {frequencies!r}.")
        self.function = function
        self.frequencies = tuple(values.tolist())
        self.distances = PointCloud() if distances is None else distances

    def __repr__(self) -> str:
        ends = f"{min(self.frequencies):.3g} to {max(self.frequencies):.3g}"
        return f"FromHarmonics({len(self.frequencies)} functions, frequencies {ends}, distances={self.distances!r})"

    def check(self, x: Array) -> None:
        self.distances.check(x)
        require_finite(x, "x")

    def harmonics(self, x: Array, max_degree: int) -> Float[Array, "n h"]:
        """Your functions of the levels up to `max_degree`, in ascending order of frequency, not orthonormalized."""
        if self.function is None:
            raise InputError(
                "Expected a domain with its functions; got one from a file, which does not hold them. Make it again."
            )
        values = jnp.asarray(self.function(x))
        if values.shape != (len(x), len(self.frequencies)):
            raise InputError(
                f"Expected harmonics(x) of shape {(len(x), len(self.frequencies))}, one column per frequency; got "
                f"{values.shape}."
            )
        require_finite(values, "harmonics(x)")
        order = np.argsort(self.frequencies, kind="stable")
        return values[:, order[: len(self.degrees(max_degree))]]

    def degrees(self, max_degree: int) -> Int[np.ndarray, " h"]:
        levels = np.searchsorted(self._levels, np.sort(self.frequencies))
        return levels[levels <= max_degree]

    def frequency(self, degree: Array | np.ndarray) -> Array:
        return jnp.asarray(self._levels)[jnp.asarray(degree, int)]

    def levels(self, max_degree: int) -> Int[np.ndarray, " levels"]:
        return np.arange(min(max_degree, len(self._levels) - 1) + 1)

    def max_degree(self, num_inputs: int) -> int:
        """The largest level up to which there are at most half as many functions as inputs."""
        counts = np.cumsum([self.multiplicity(level) for level in range(len(self._levels))])
        return max(int(np.searchsorted(counts, num_inputs / 2, side="right")) - 1, 0)

    def energy_on(
        self, x: Array, weights: Array, max_degree: int
    ) -> Callable[[Array | np.ndarray], Float[Array, "k levels"]]:
        """`energy` as a function of `functions` alone.

        Raises `InputError` if the harmonics are not linearly independent on these inputs.
        """
        basis = self.harmonics(x, whole_number("max_degree", max_degree))
        few = basis.shape[1] > len(x)
        independent = np.arange(basis.shape[1]) < len(x) if few else orthonormalized(basis, weights)[1]
        if not independent.all():
            raise InputError(
                f"Expected harmonics that are linearly independent on the {len(x)} inputs; got "
                f"{int(np.sum(~independent))} of {basis.shape[1]} that are combinations of others. Leave those out."
            )
        return super().energy_on(x, weights, max_degree)

    def sample(self, num_inputs: int, *, key: PRNGKeyArray) -> Array:
        raise InputError(
            "Expected a domain with a distribution of its own; FromHarmonics has none. Give your own inputs."
        )

    def quadrature(self, num_inputs: int) -> tuple[Array, Array]:
        raise InputError("Expected a domain with nodes of its own; FromHarmonics has none. Give your own inputs.")

    def intrinsic_dimension(self, x: Array) -> int:
        return self.distances.intrinsic_dimension(x)

    def neighbors(self, x: Array) -> Edges:
        return self.distances.neighbors(x)

    def steps(self, x: Array, scale: float, num_steps: int, *, key: PRNGKeyArray) -> tuple[Array, Array, Array]:
        return self.distances.steps(x, scale, num_steps, key=key)

    def step_length(self, x: Array) -> float:
        return self.distances.step_length(x)

    def correlation(self, frequency: Any, distance: Any, dimension: int) -> Float[np.ndarray, "f e"]:
        return self.distances.correlation(frequency, distance, dimension)

    def chart(self, x: Array) -> Float[np.ndarray, "n c"]:
        return self.distances.chart(x)

    @property
    def _levels(self) -> Float[np.ndarray, " levels"]:
        return np.unique(self.frequencies)
