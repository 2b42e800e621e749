"""Which features a network uses: the simple ones alone, or all that predict the label.

If some coordinates of the test inputs are shuffled across examples, they keep their distribution but say nothing about
the label. Suppose the AUC falls to chance when the simple coordinates are shuffled, and stays when the others are: the
network then uses the simple coordinates alone (Shah et al. 2020, arXiv 2006.07710).

Gradient starvation (Pezeshki et al. 2021, arXiv 2011.09468) shows the same effect in the kernel. With tangent features
Phi `(n, p)` and labels y of -1 and +1,

    diag(y) Phi = U S V^T,       response of feature j   z_j = u_j . (y f),       strength s_j

Once one feature gives an example its margin, that example has little gradient left for the others. So as one feature
grows stronger, the responses of the features coupled to it fall.

>>> import jax, jax.numpy as jnp
>>> from ntkbias.complexity import feature_responses, shuffled_auc
>>> x = jax.random.normal(jax.random.key(0), (400, 2))
>>> auc = shuffled_auc(lambda w, x: x @ w, jnp.array([1.0, 0.0]), x, jnp.sign(x[:, 0]), [0], key=jax.random.key(1))
>>> print(auc)
AUC 1.00, 0.5... with the coordinates shuffled, 1.00 with the others shuffled
>>> responses = feature_responses(jnp.diag(jnp.array([4.0, 1.0])), jnp.array([2.0, -3.0]), jnp.array([1.0, -1.0]))
>>> responses.strengths.tolist(), jnp.abs(responses.responses).tolist()
([2.0, 1.0], [2.0, 3.0])
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_finite, require_key, require_wide
from ntkbias.complexity.problem import Network, checked_inputs
from ntkbias.errors import InputError
from ntkbias.tables import Axes, Printed, Table, number
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["FeatureResponses", "ShuffledAUC", "feature_responses", "shuffle_coordinates", "shuffled_auc"]


class ShuffledAUC(Printed):
    """Areas under the ROC curve: on the inputs, with some coordinates shuffled, and with all others shuffled.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> x = jax.random.normal(jax.random.key(0), (40, 2))
    >>> f, w, y = (lambda w, x: x @ w), jnp.array([1.0, 0.0]), jnp.sign(x[:, 0])
    >>> nb.complexity.shuffled_auc(f, w, x, y, [1], key=jax.random.key(1))
    AUC 1.00, 1.00 with the coordinates shuffled, 0.70 with the others shuffled
    """

    plain: float
    shuffled: float
    others_shuffled: float

    def _table(self, num_rows: int) -> Table:
        return Table(
            f"AUC {self.plain:.2f}, {self.shuffled:.2f} with the coordinates shuffled, {self.others_shuffled:.2f} with "
            "the others shuffled"
        )


class FeatureResponses(Printed):
    """The features of diag(y) Phi, strongest first, and a network's response to each.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> K, outputs, y = jnp.diag(jnp.array([4.0, 1.0])), jnp.array([2.0, -3.0]), jnp.array([1.0, -1.0])
    >>> nb.complexity.feature_responses(K, outputs, y).strengths.tolist()
    [2.0, 1.0]
    """

    named_axes = Axes("feature", n="feature", m="example")

    strengths: Float[Array, " n"]  # singular values
    responses: Float[Array, " n"]
    directions: Float[Array, "m n"]  # column j is u_j over the examples, with its sign chosen so that its sum is >= 0

    def _table(self, num_rows: int) -> Table:
        shown = range(min(num_rows, len(self.strengths)))
        columns = {
            "feature": [str(place + 1) for place in shown],
            "strength": [number(self.strengths[place]) for place in shown],
            "response": [number(self.responses[place]) for place in shown],
        }
        return Table(f"FeatureResponses: {len(self.strengths):,}", columns, more=len(self.strengths) - len(shown))


def shuffled_auc(
    f: ApplyFunction,
    params: Params,
    x: Inputs,
    y: ArrayLike,
    coordinates: Sequence[int],
    *,
    key: PRNGKeyArray,
    batch_size: int = 1_024,
) -> ShuffledAUC:
    """The AUC of a network with one output on x `(n, ...)`, and on x with some of its coordinates shuffled.

    `y` `(n,)` has two values; the larger one marks the positive class. `coordinates` index the flattened inputs, and
    are permuted together across examples. An AUC of 1/2 is chance, with a standard error of about 1 / sqrt(3 n) if the
    classes are balanced. Below 1/2, the network ranks the classes the wrong way round. Costs three forward passes.

    Raises `InputError` if `f` has several outputs, if `y` does not have exactly two values, or if x does not have the
    coordinates.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> x = jax.random.normal(jax.random.key(0), (40, 2))
    >>> f, w, y = (lambda w, x: x @ w), jnp.array([1.0, 0.0]), jnp.sign(x[:, 0])
    >>> print(nb.complexity.shuffled_auc(f, w, x, y, [1], key=jax.random.key(1)))
    AUC 1.00, 1.00 with the coordinates shuffled, 0.70 with the others shuffled
    """
    network = Network(f, params, x, batch_size)
    network.require_coordinates()
    n = len(network.x)
    import sklearn.metrics  # it takes long to load

    labels = np.asarray(require_wide(y, "y"))
    if labels.shape != (n,) or len(np.unique(labels)) != 2:
        raise InputError(f"Expected labels ({n},) of two values; got {len(np.unique(labels))} in shape {labels.shape}.")
    if network.outputs.size != n:
        raise InputError(
            f"Expected f(params, x) to return one number per input; got shape {network.outputs.shape}. Return the "
            "difference of two outputs."
        )
    chosen = _checked_coordinates(coordinates, network.x)
    others = np.setdiff1d(np.arange(network.x[0].size), chosen)
    first, second = jax.random.split(require_key(key))
    inputs = [
        network.x,
        shuffle_coordinates(network.x, chosen, key=first),
        shuffle_coordinates(network.x, others, key=second) if len(others) else network.x,
    ]
    positive = labels == labels.max()
    return ShuffledAUC(*(float(sklearn.metrics.roc_auc_score(positive, network.values(x).ravel())) for x in inputs))


def shuffle_coordinates(x: ArrayLike, coordinates: Any, *, key: PRNGKeyArray) -> Float[Array, "n ..."]:
    """x `(n, ...)` with some coordinates of the flattened inputs permuted together across the examples.

    >>> import jax, jax.numpy as jnp, ntkbias as nb
    >>> x = jnp.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    >>> shuffled = nb.complexity.shuffle_coordinates(x, [0], key=jax.random.key(1))
    >>> shuffled[:, 1].tolist(), sorted(shuffled[:, 0].tolist())
    ([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    """
    inputs = checked_inputs(x)
    chosen = _checked_coordinates(coordinates, inputs)
    flat = inputs.reshape(len(inputs), -1)
    order = jax.random.permutation(require_key(key), len(inputs))
    return flat.at[:, chosen].set(flat[order][:, chosen]).reshape(inputs.shape)


def feature_responses(K: ArrayLike, outputs: ArrayLike, y: ArrayLike) -> FeatureResponses:
    """The responses U^T diag(y) f to the features of diag(y) Phi = U S V^T, from the Gram matrix K = Phi Phi^T.

    `K` `(n, n)` is the NTK of the network at initialization, `outputs` `(n,)` are its outputs on the same inputs at any
    time, and `y` `(n,)` holds labels of -1 and +1. If several features have the same strength, their responses mean
    nothing one by one. With K in float32, strengths below 3e-4 times the largest are rounding. Costs 10 n^3 operations.

    Raises `InputError` if K is not symmetric, or if a label is neither -1 nor +1.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> K, outputs, y = jnp.diag(jnp.array([4.0, 1.0])), jnp.array([2.0, -3.0]), jnp.array([1.0, -1.0])
    >>> abs(nb.complexity.feature_responses(K, outputs, y).responses).tolist()
    [2.0, 3.0]
    """
    gram, values, labels = (require_wide(v, name) for v, name in ((K, "K"), (outputs, "outputs"), (y, "y")))
    n = len(gram) if gram.ndim else 0
    if gram.shape != (n, n) or not n:
        raise InputError(f"Expected a matrix K (n, n); got shape {gram.shape}.")
    for array, name in ((values, "outputs"), (labels, "y")):
        if array.size != n or array.shape[:1] != (n,):
            raise InputError(f"Expected {name} ({n},), one per input; got shape {array.shape}.")
    for array, name in ((gram, "K"), (values, "outputs"), (labels, "y")):
        require_finite(array, name)
    host = np.asarray(gram, float)
    if np.max(np.abs(host - host.T)) > 1e-3 * np.max(np.abs(host)):  # far above rounding, far below a real asymmetry
        raise InputError(
            "Expected a symmetric K; got one that differs from its transpose. Evaluate the kernel on one set of "
            "inputs, kernel(x)."
        )
    signs = np.asarray(labels, float).ravel()
    if not np.all(np.abs(signs) == 1):
        raise InputError("Expected labels y of -1 and +1; got others. Turn labels b of 0, 1 to 2 b - 1.")
    squares, directions = np.linalg.eigh(signs[:, None] * (host + host.T) / 2 * signs)
    squares, directions = np.maximum(squares[::-1], 0), directions[:, ::-1]
    directions = directions * np.where(directions.sum(0) < 0, -1.0, 1.0)
    responses = directions.T @ (signs * np.asarray(values, float).ravel())
    return FeatureResponses(jnp.asarray(np.sqrt(squares)), jnp.asarray(responses), jnp.asarray(directions))


def _checked_coordinates(coordinates: Any, x: Array) -> np.ndarray:
    chosen, size = np.asarray(coordinates), x[0].size
    if chosen.ndim != 1 or not chosen.size or chosen.dtype.kind not in "iu":
        raise InputError(f"Expected coordinates as a list of whole numbers; got {coordinates!r}.")
    if chosen.min() < 0 or chosen.max() >= size:
        raise InputError(f"Expected coordinates from 0 to {size - 1}; got {chosen.min()} to {chosen.max()}.")
    return chosen
