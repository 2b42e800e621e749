"""The kernel of preconditioned training, J P J^T, along a run: of sign descent, of Adam, of any diagonal P.

P is a function of the snapshot, because preconditioners change with the gradients. With P = 1 / |gradient| of the loss
over all training examples, the kernel says how a step of sign descent moves the outputs (`sign_preconditioner`).

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> from ntkbias.tracking import measures
>>> net, (x, _) = nb.nets.mlp(width=16, depth=1, b_std=0.1), nb.domains.Circle().quadrature(8)
>>> chosen = measures.preconditioned(lambda at: nb.kernels.sign_preconditioner(at.gradient))
>>> data, params = (x, jnp.sign(x[:, 0] + 0.1)), net.init(jax.random.key(0), (2,))
>>> signs = optax.chain(optax.stateless(lambda updates, _: jax.tree.map(jnp.sign, updates)), optax.sgd(1e-3))
>>> history = nb.track(net.apply, params, data, optimizer=signs, num_steps=20, at=[0, 20], measures=chosen)
>>> sorted(history)
['preconditioned_alignment', 'preconditioned_drift', 'preconditioned_eigenvalues']
>>> history["preconditioned_eigenvalues"].shape, bool(history["preconditioned_drift"][1] > 0)
((2, 8), True)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ntkbias.checks import widened
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import preconditioned_ntk
from ntkbias.tracking.measures.measure import Measure
from ntkbias.tracking.snapshot import Snapshot, frobenius
from ntkbias.types import Params

__all__ = ["preconditioned"]

KEPT = "(preconditioned matrices)"  # the name of a snapshot's dictionary of matrices by their preconditioners


def preconditioned(preconditioner: Callable[[Snapshot], Params]) -> dict[str, Measure]:
    """Measures of the kernel K_P = J P J^T on the probe, for a P that `preconditioner(snapshot)` returns.

    P is a pytree like the trained parameters, `snapshot.params`, nowhere negative, as in `preconditioned_ntk`. With
    `track(wrt=)` these are the selected ones. Give the result to `measures=` of `track`, alone or with other measures:

    - `preconditioned_eigenvalues` `(k,)`: the largest eigenvalues of K_P / n, of unit rate.
    - `preconditioned_drift`: ||K_P - K_P at the start|| / ||K_P at the start||, which includes the change of P.
    - `preconditioned_alignment`: the cosine <K_P, K> / (||K_P|| ||K||) with the NTK of the same snapshot.

    Each snapshot costs one Gram matrix with a formed Jacobian, the eigenvalues, and what `preconditioner` costs.
    `snapshot.gradient`, the gradient of the loss over all training examples, is computed once for all measures. The
    measures do not apply if the probe's matrix is not held. Raises `InputTypeError` unless `preconditioner` is a
    function; `InputError` on what `preconditioned_ntk` refuses, which at the first snapshot ends the call.
    """
    if not callable(preconditioner):
        raise InputTypeError(
            "Expected a function of a snapshot that returns a preconditioner; got "
            f"{type(preconditioner).__name__}. For one that stays the same give lambda at: P."
        )

    def gram(at: Snapshot) -> Float[np.ndarray, "rows rows"]:
        kept = vars(at).setdefault(KEPT, {})  # as a snapshot keeps its other matrices, for all three measures
        if id(preconditioner) not in kept:
            kept[id(preconditioner)] = _gram(at, preconditioner(at))
        return kept[id(preconditioner)]

    def preconditioned_eigenvalues(at: Snapshot) -> Any:
        """The largest eigenvalues of K_P / n."""
        if at.matrix is None:
            return None
        return np.linalg.eigvalsh(gram(at).astype(np.float64))[::-1][: at.num_modes] / at.num_examples

    def preconditioned_drift(at: Snapshot) -> Any:
        """||K_P - K_P at the start|| / ||K_P at the start||."""
        if at.matrix is None:
            return None
        start = gram(at.initial)
        return float(np.sqrt(frobenius(gram(at) - start, gram(at) - start) / frobenius(start, start)))

    def preconditioned_alignment(at: Snapshot) -> Any:
        """The cosine of K_P and the NTK."""
        if at.matrix is None:
            return None
        own = gram(at)
        return float(frobenius(own, at.matrix) / np.sqrt(frobenius(own, own) * frobenius(at.matrix, at.matrix)))

    return {
        function.__name__: Measure(function.__name__, function, axes, title=title, scale="log", costly=True)
        for function, axes, title in (
            (preconditioned_eigenvalues, ("mode",), None),
            (preconditioned_drift, (), "preconditioned kernel"),
            (preconditioned_alignment, (), None),
        )
    }


def _gram(at: Snapshot, preconditioner: Params) -> np.ndarray:
    """The matrix J P J^T on the probe, with the rows of the NTK's."""
    setting = at.setting
    variables, wrt = at.variables, None
    if setting.has_state:  # what is not trained has no preconditioner, and is not differentiated by
        wanted, given = str(jax.tree.structure(at.params)), str(jax.tree.structure(preconditioner))
        if wanted != given:
            raise InputError(f"Expected a preconditioner like the trained parameters, {wanted}; got {given}.")
        rest = jax.tree.map(lambda leaf: jnp.ones(jnp.shape(leaf)), at.variables[1])
        preconditioner, wrt = (preconditioner, rest), "[0]"
    options: dict[str, Any] = {"outputs": setting.outputs, "memory_budget": setting.memory_budget, "wrt": wrt}
    kernel = preconditioned_ntk(setting.f, variables, preconditioner, **options)
    return np.asarray(widened(kernel(setting.probe))).reshape(at.num_rows, at.num_rows)
