"""Information, in bits, from counts: what layers know of input and label, what a simple model explains of a network.

    I(A; B) = H(A) + H(B) - H(A, B),    I(A; B | C) = H(A, C) + H(B, C) - H(A, B, C) - H(C)

A layer's activations are put into bins of equal width, neuron by neuron; the tuple of bins is its state T. For a
deterministic network and distinct inputs I(X; T) = H(T) (Shwartz-Ziv and Tishby 2017, arXiv 1703.00810). It measures
how many inputs share all bins, and so depends on their width: with tanh, that saturates, states merge late in training,
the compression of the paper; with ReLU they do not (Saxe et al. 2018).

Of what a network F knows of the labels Y a simple model L explains (Kalimeris et al. 2019, arXiv 1905.11604)

    mu(F; L) = I(F; Y) - I(F; Y | L)

Entropies are of the sample at hand, plug-in estimates: at most log2 n, and informations of n examples in k cells are
too large by about k / (2 n ln 2) bits.

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
from ntkbias.tables import Printed, Table

__all__ = [
    "LayerInformation",
    "conditional_mutual_information",
    "explained_information",
    "layer_information",
    "mutual_information",
]


class LayerInformation(Printed):
    """What the binned activations of each layer tell of the input and of the label, in bits."""

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
    """I(A; B) in bits of two labels `(n,)` an example, any numbers that stand for classes. Zero to log2 n."""
    first, second = _checked(a, b)
    return max(_entropy(first) + _entropy(second) - _entropy(first, second), 0.0)


def conditional_mutual_information(a: ArrayLike, b: ArrayLike, given: ArrayLike) -> float:
    """I(A; B | C) in bits of three labels `(n,)` an example: what a and b share beyond what `given` tells of both."""
    first, second, third = _checked(a, b, given)
    joint = _entropy(first, third) + _entropy(second, third) - _entropy(first, second, third)
    return max(joint - _entropy(third), 0.0)


def explained_information(predictions: ArrayLike, simple_predictions: ArrayLike, labels: ArrayLike) -> float:
    """I(F; Y) - I(F; Y | L): the bits that a network's predicted classes tell of the labels, as far as L tells them.

    All are classes `(n,)`: of the network, of a simple model (a linear one), and the truth; as in the paper, use test
    data. It is symmetric in F and L where I(F; Y) and I(L; Y) are swapped alike, at most min(I(F; Y), I(L; Y)), and can
    be below zero. `mutual_information(predictions, labels)` less this is what the network knows beyond the simple
    model. (Kalimeris et al. 2019, arXiv 1905.11604.)
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

    Bins are `num_bins` of equal width between `limits`, (-1, 1) for tanh; values beyond them are in the first and last.
    By default each layer's limits are its least and largest activation: along training give fixed ones, or bins move.
    Inputs have to be distinct: the first term then is the entropy of the layer's state. Costs a sort of n rows.

    Raises `InputError` on limits that are no interval, and on layers of different lengths.
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
    width = (high - low) / num_bins or 1.0  # all the same: one bin
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
