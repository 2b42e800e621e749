"""The spectrum of a history's path kernel, the mean kernel along the path of training.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import measures, path_spectrum, track
>>> x, _ = nb.domains.Circle().quadrature(8)
>>> options = {"optimizer": optax.sgd(0.1), "num_steps": 4, "measures": measures.chosen("path_kernel")}
>>> history = track(lambda params, x: jnp.tanh(x @ params), jnp.ones(2), (x, x[:, 0]), **options)
>>> path_spectrum(history).eigenvalues.shape
(8,)
"""

import jax.numpy as jnp

from ntkbias.eigen import eigh
from ntkbias.errors import InputError
from ntkbias.spectra import Spectrum
from ntkbias.tracking.history import History

__all__ = ["path_spectrum"]


def path_spectrum(history: History, snapshot: int = -1) -> Spectrum:
    """The spectrum of the path kernel on the probe, from the first snapshot to the one with index `snapshot`.

    `history` is the history of one run with the measure "path_kernel". The kernel has to have one row per input: it has
    outputs="mean" or "sum", or the network has one output. The spectrum works with `rank_by_frequency` and the like.
    Costs an eigendecomposition. Raises `InputError` on other histories.

    >>> import jax, optax, ntkbias as nb
    >>> net, x = nb.nets.mlp(width=16, depth=1, b_std=0.1), nb.domains.Circle().quadrature(16)[0]
    >>> run = {"optimizer": optax.sgd(0.1), "num_steps": 4, "at": (0, 4)}
    >>> measures = nb.tracking.measures.chosen("path_kernel")
    >>> history = nb.track(net.apply, net.init(jax.random.key(0), (2,)), (x, x[:, 0]), measures=measures, **run)
    >>> nb.tracking.path_spectrum(history).eigenvalues.shape
    (16,)
    """
    if not isinstance(history, History) or "path_kernel" not in history or history["path_kernel"].ndim != 3:
        raise InputError(
            "Expected the history of one run with the measure 'path_kernel'; got none. Add "
            "measures.chosen('path_kernel') to the measures, or select one of several runs by history.run(0)."
        )
    matrix = history["path_kernel"][snapshot]
    if len(matrix) != len(history.probe):
        raise InputError("Expected a path kernel with one row per input; got one for all pairs of outputs.")
    return Spectrum(**{**vars(eigh(matrix)), "x": jnp.asarray(history.probe)})
