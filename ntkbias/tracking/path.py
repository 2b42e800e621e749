"""The path kernel of a history as a spectrum.

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
    """The spectrum of the path kernel up to a snapshot, on the probe, for `rank_by_frequency` and the rest.

    `history` is that of one run with the measure "path_kernel", of outputs="mean" or "sum", or of one output.
    """
    if not isinstance(history, History) or "path_kernel" not in history or history["path_kernel"].ndim != 3:
        raise InputError(
            "Expected the history of one run with the measure 'path_kernel'; got none. Add "
            "measures.chosen('path_kernel') to the measures; of several runs take history.run(0)."
        )
    matrix = history["path_kernel"][snapshot]
    if len(matrix) != len(history.probe):
        raise InputError("Expected a path kernel of one row an input; got that of all pairs of outputs.")
    return Spectrum(**{**vars(eigh(matrix)), "x": jnp.asarray(history.probe)})
