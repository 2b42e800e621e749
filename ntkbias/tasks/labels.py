"""Labels for given inputs: the sign of a kernel's eigenfunction, and labels of which some are random.

>>> import jax, numpy as np
>>> from ntkbias.tasks import with_random_labels
>>> labels = with_random_labels(np.arange(10) % 2, 0.3, key=jax.random.key(0))
>>> int(labels.redrawn.sum())
3
"""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Num, PRNGKeyArray

from ntkbias.checks import require_array, require_finite, require_key
from ntkbias.errors import InputError
from ntkbias.spectra import Spectrum
from ntkbias.tasks.task import Task
from ntkbias.types import Inputs

__all__ = ["RandomLabels", "SignOfEigenfunction", "eigenfunction_labels", "with_random_labels"]


class SignOfEigenfunction(eqx.Module):
    """The truth of `eigenfunction_labels`: the sign of an eigenfunction, extended to any inputs by its kernel."""

    spectrum: Spectrum
    index: int = eqx.field(static=True)

    def __call__(self, x: Inputs) -> Float[Array, " m"]:
        """The targets of the inputs."""
        return _signs(self.spectrum.extend(x, self.index + 1)[:, self.index])


class RandomLabels(NamedTuple):
    """Labels `(n,)` of which some are random: the labels, those without noise, and which were drawn anew.

    >>> import jax, ntkbias as nb, numpy as np
    >>> labels = nb.tasks.with_random_labels(np.arange(10) % 2, 0.3, key=jax.random.key(0))
    >>> labels.y.shape, labels.clean.tolist(), labels.redrawn.shape
    ((10,), [0, 1, 0, 1, 0, 1, 0, 1, 0, 1], (10,))
    """

    y: Num[Array, " n"]
    clean: Num[Array, " n"]
    redrawn: Bool[Array, " n"]


def eigenfunction_labels(spectrum: Spectrum, index: int) -> Task:
    """The inputs of a spectrum, labeled by the sign of eigenfunction `index` (0 is the first): 1 or -1.

    The truth extends the eigenfunction to new inputs. For a training and a test set, take the spectrum on the inputs of
    both, and call `split`. In an eigenspace of several dimensions, the eigenfunction is one of many bases' choices.
    (Ortiz-Jimenez et al. 2021, arXiv 2106.06770.)

    Raises `InputError` if the spectrum has no inputs, is vector-valued, or has its noise floor above this mode.

    >>> import ntkbias as nb
    >>> x, weights = nb.domains.Circle().quadrature(32)
    >>> spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), x)
    >>> train, test = nb.tasks.eigenfunction_labels(spectrum, 1).split(20)
    >>> train.x.shape, sorted(set(train.y.tolist()))
    ((20, 2), [-1.0, 1.0])
    """
    if spectrum.x is None or spectrum.kernel is None:
        raise InputError("Expected a spectrum made from a kernel and inputs, spectrum(kernel, x); got one of a matrix.")
    if spectrum.eigenfunctions.ndim != 2:
        raise InputError("Expected eigenfunctions with one value per input; got vectors. Use outputs='mean'.")
    count = int(np.sum(np.asarray(spectrum.eigenvalues > spectrum.noise_floor)))
    if isinstance(index, bool) or not isinstance(index, int | np.integer) or not 0 <= index < count:
        raise InputError(f"Expected the index of one of {count} eigenfunctions above the noise floor; got {index!r}.")
    y = _signs(spectrum.eigenfunctions[:, index])
    return Task(spectrum.x, y, SignOfEigenfunction(spectrum, int(index)))


def with_random_labels(labels: ArrayLike, share: float, *, key: PRNGKeyArray) -> RandomLabels:
    """Labels `(n,)` of which a random `share` is replaced by classes drawn uniformly from all that occur.

    Exactly round(`share` n) examples are chosen, each at most once. With c classes, about one in c of the new labels
    equals the old one. Raises `InputError` if the share is not between 0 and 1.

    >>> import jax, ntkbias as nb, numpy as np
    >>> labels = nb.tasks.with_random_labels(np.arange(1_000) % 10, 0.5, key=jax.random.key(0))
    >>> bool((labels.y == labels.clean)[~labels.redrawn].all()), round(float((labels.y == labels.clean).mean()), 1)
    (True, 0.6)
    """
    clean = require_array(labels, "labels")
    if clean.ndim != 1 or not clean.size:
        raise InputError(f"Expected labels (n,); got shape {clean.shape}.")
    require_finite(clean, "labels")
    if not 0 <= share <= 1:
        raise InputError(f"Expected a share of labels from 0 to 1; got {share!r}.")
    n = len(clean)
    chosen, drawn = jax.random.split(require_key(key))
    redrawn = jax.random.permutation(chosen, n) < round(share * n)
    return RandomLabels(jnp.where(redrawn, jax.random.choice(drawn, jnp.unique(clean), (n,)), clean), clean, redrawn)


def _signs(values: Array) -> Array:
    return jnp.where(values >= 0, 1.0, -1.0)
