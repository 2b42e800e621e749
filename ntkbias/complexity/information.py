"""Mutual information in bits, estimated from counts: between layers and the input or label, and between two models.

    I(A; B) = H(A) + H(B) - H(A, B),    I(A; B | C) = H(A, C) + H(B, C) - H(A, B, C) - H(C)

Each neuron's activations are put into bins of equal width. The tuple of a layer's bins is its state T. For a
deterministic network and distinct inputs, I(X; T) = H(T) (Shwartz-Ziv and Tishby 2017, arXiv 1703.00810). This number
says how many inputs share all their bins, so it depends on the width of the bins. With tanh, which saturates, states
merge late in training: this is the compression that the paper reports. With ReLU they do not (Saxe et al. 2018).

A network F has the information I(F; Y) about the labels Y. The part that a simple model L explains is

    mu(F; L) = I(F; Y) - I(F; Y | L)                     (Kalimeris et al. 2019, arXiv 1905.11604)

Entropies are plug-in estimates from the sample at hand: they are at most log2 n. With n examples in k cells, mutual
informations come out too large by about k / (2 n ln 2) bits.

>>> import numpy as np
>>> from ntkbias.complexity import explained_information, mutual_information
>>> y = np.array([0, 0, 1, 1])
>>> mutual_information(y, y), mutual_information(y, np.array([0, 1, 0, 1])), explained_information(y, y, y)
(1.0, 0.0, 1.0)
"""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_positive
from ntkbias.complexity.problem import checked_labels, checked_layers, checked_rows
from ntkbias.errors import InputError
from ntkbias.tables import Axes, Printed, Table

__all__ = [
    "LayerInformation",
    "conditional_mutual_information",
    "explained_information",
    "layer_information",
    "mutual_information",
]


class LayerInformation(Printed):
    """The mutual information of each layer's binned activations with the input and with the label, in bits.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> layers, labels = [jnp.array([[0.0], [0.0], [1.0], [1.0]])], jnp.array([0, 0, 1, 1])
    >>> nb.complexity.layer_information(layers, labels, num_bins=2)
    LayerInformation: activations in 2 bins
    layer  bits with input  bits with label
        1            1.000            1.000
    """

    named_axes = Axes("layer", layers="layer")

    with_input: Float[Array, " layers"]  # I(X; T) = H(T)
    with_label: Float[Array, " layers"]  # I(T; Y)
    num_bins: int = eqx.field(static=True)

    def _table(self, num_rows: int) -> Table:
        shown = range(min(num_rows, len(self.with_input)))
        columns = {
            "layer": [str(place + 1) for place in shown],
            "bits with input": [f"{self.with_input[place]:.3f}" for place in shown],
            "bits with label": [f"{self.with_label[place]:.3f}" for place in shown],
        }
        title = f"LayerInformation: activations in {self.num_bins} bins"
        return Table(title, columns, more=len(self.with_input) - len(shown))


def mutual_information(a: ArrayLike, b: ArrayLike) -> float:
    """I(A; B) in bits, from 0 to log2 n, of two labels `(n,)` per example. Any numbers may stand for the classes.

    >>> import ntkbias as nb, numpy as np
    >>> nb.complexity.mutual_information(np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1]))
    0.0
    """
    first, second = _checked(a, b)
    return max(_entropy(first) + _entropy(second) - _entropy(first, second), 0.0)


def conditional_mutual_information(a: ArrayLike, b: ArrayLike, given: ArrayLike) -> float:
    """I(A; B | C) in bits of three labels `(n,)` per example: the information that a and b share, given `given`.

    >>> import numpy as np
    >>> from ntkbias.complexity import conditional_mutual_information
    >>> a, b = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    >>> conditional_mutual_information(a, a, b), conditional_mutual_information(a, a, a)
    (1.0, 0.0)
    """
    first, second, third = _checked(a, b, given)
    joint = _entropy(first, third) + _entropy(second, third) - _entropy(first, second, third)
    return max(joint - _entropy(third), 0.0)


def explained_information(predictions: ArrayLike, simple_predictions: ArrayLike, labels: ArrayLike) -> float:
    """I(F; Y) - I(F; Y | L) in bits: the part of a network's information about the labels that a simple model explains.

    The arguments are classes `(n,)`: those that the network F predicts, those that the simple model L predicts (a
    linear model, for example), and the true labels Y. Use test data, as the paper does. The result is symmetric in F
    and L, at most min(I(F; Y), I(L; Y)), and may be negative. `mutual_information(predictions, labels)` minus this
    result is the network's information beyond the simple model. (Kalimeris et al. 2019, arXiv 1905.11604.)

    >>> import ntkbias as nb, numpy as np
    >>> y = np.array([0, 0, 1, 1])
    >>> nb.complexity.explained_information(y, y, y)
    1.0
    """
    return mutual_information(predictions, labels) - conditional_mutual_information(
        predictions, labels, simple_predictions
    )


def layer_information(
    activations: Sequence[ArrayLike],
    labels: ArrayLike,
    *,
    num_bins: int = 30,
    limits: tuple[float, float] | None = None,
) -> LayerInformation:
    """The mutual information of each layer's activations `(n, ...)` with the input and with the labels `(n,)`.

    There are `num_bins` bins of equal width between `limits`; for tanh, pass (-1, 1). Values outside go to the first or
    the last bin. By default, the limits are the smallest and the largest activation of each layer. To compare steps of
    training, pass fixed limits, or the bins move. The inputs must be distinct: the information about the input is then
    the entropy of the layer's state. Costs a sort of n rows per layer.

    Raises `InputError` if `limits` are not an interval, or if a layer does not have one row per label.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> layers, labels = [jnp.array([[0.0], [0.0], [1.0], [1.0]])], jnp.array([0, 0, 1, 1])
    >>> print(nb.complexity.layer_information(layers, labels, num_bins=2))
    LayerInformation: activations in 2 bins
    layer  bits with input  bits with label
        1            1.000            1.000
    """
    require_positive("num_bins", num_bins)
    if limits is not None and not (len(limits) == 2 and limits[0] < limits[1]):
        raise InputError(f"Expected limits (low, high) of the bins, low below high; got {limits}.")
    with_input, with_label = [], []
    for index, layer in enumerate(checked_layers(activations)):
        rows = checked_rows(layer, f"activations[{index}]")
        classes = checked_labels(labels, len(rows))
        states = _states(rows, num_bins, limits)
        with_input.append(_entropy(states))
        with_label.append(max(_entropy(states) + _entropy(classes) - _entropy(states, classes), 0.0))
    return LayerInformation(jnp.asarray(with_input), jnp.asarray(with_label), num_bins)


def _states(rows: Float[np.ndarray, "n d"], num_bins: int, limits: tuple[float, float] | None) -> Int[np.ndarray, " n"]:
    low, high = (rows.min(), rows.max()) if limits is None else limits
    width = (high - low) / num_bins or 1.0  # if all values are equal, they share one bin
    bins = np.clip((rows - low) / width, 0, num_bins - 1).astype(np.int32)
    return np.unique(bins, axis=0, return_inverse=True)[1].ravel()


def _entropy(*labels: Int[np.ndarray, " n"]) -> float:
    """The entropy of the tuples of labels, in bits."""
    _, counts = np.unique(np.stack(labels, 1), axis=0, return_counts=True)
    shares = counts / counts.sum()
    return float(np.sum(shares * np.log2(1 / shares)))


def _checked(*labels: Any) -> list[Int[np.ndarray, " n"]]:
    n = np.size(labels[0])
    if not n:
        raise InputError("Expected at least one example; got none.")
    return [checked_labels(values, n, f"label {index}") for index, values in enumerate(labels, 1)]
