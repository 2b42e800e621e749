"""How well each layer separates the classes: neural collapse and effective depth.

A layer separates the classes if every example is nearest to the mean of its own class. The effective depth is the
first layer in which at most a share epsilon of the examples is nearer to another class. It is small for easy data, and
grows with the number of noisy labels (Galanti, Galanti and Ben-Shaul 2022, arXiv 2202.09028). The class-distance
normalized variance tends to zero as the classes collapse (Galanti, György and Hutter 2021, arXiv 2112.15121):

    CDNV = mean over pairs c != c' of (Var_c + Var_c') / (2 ||mu_c - mu_c'||^2)

>>> import jax, ntkbias as nb
>>> from ntkbias.complexity import activations, effective_depth, layer_separation
>>> net = nb.nets.mlp(width=64, depth=3, num_outputs=10)
>>> x, labels = nb.datasets.digits(200)
>>> features = activations(net, net.init(jax.random.key(0), x.shape[1:]), x)
>>> accuracies = layer_separation(features, labels)             # one per layer; about equal before training
>>> bool((accuracies > 0.5).all()), effective_depth(features, labels, max_error=0.5)
(True, 1)
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike
from jaxtyping import Array, Float, Int

from ntkbias.checks import require_finite, require_positive
from ntkbias.complexity.problem import checked_inputs, checked_labels, checked_layers, checked_rows
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Activation, Sequential
from ntkbias.types import Inputs, Params

__all__ = [
    "activations",
    "class_distance_variance",
    "effective_depth",
    "hidden_activations",
    "layer_separation",
    "nearest_center_accuracy",
]


def activations(net: Sequential, params: Params, x: Inputs, *, batch_size: int = 1_024) -> list[Float[Array, "n ..."]]:
    """The outputs of each layer of a `Sequential` network for inputs x `(n, ...)`, in order.

    Costs a forward pass, in batches of `batch_size` inputs, and the memory of all activations. For another kind of
    network, collect the list yourself: the measures accept any list of arrays.

    Raises `InputTypeError` if `net` is not a `Sequential`, and `InputError` on inputs that are empty or not finite.

    >>> import jax, ntkbias as nb
    >>> net, x = nb.nets.mlp(width=16, depth=1), jax.numpy.ones((4, 2))
    >>> [layer.shape for layer in nb.complexity.activations(net, net.init(jax.random.key(0), (2,)), x)]
    [(4, 2), (4, 16), (4, 16), (4, 1)]
    """
    if not isinstance(net, Sequential):
        raise InputTypeError(
            f"Expected a network made of layers in sequence, e.g. nets.mlp(); got {type(net).__name__}. Collect its "
            "layers' outputs yourself: the measures take any list of arrays."
        )
    inputs = checked_inputs(x)
    require_finite(inputs, "x")
    require_positive("batch_size", batch_size)
    found: list[list[Array]] = [[] for _ in net.layers]
    for start in range(0, len(inputs), batch_size):
        values = inputs[start : start + batch_size]
        for kept, layer, layer_params in zip(found, net.layers, params, strict=True):
            values = layer.apply(layer_params, values)
            kept.append(values)
    return [jnp.concatenate(parts) for parts in found]


def hidden_activations(
    net: Sequential, params: Params, x: Inputs, *, batch_size: int = 1_024
) -> dict[str, Float[Array, "n ..."]]:
    """The hidden activations behind each nonlinearity of a `Sequential` network, by name: "relu 1", "relu 2", ...

    The names are those of the layers' types, counted from the inputs on. Cost and errors are those of `activations`.
    Nonlinearities inside a block, such as a residual one, are not seen: give the block as a network of its own.

    Raises `InputError` if the network has no nonlinearity among its layers.

    >>> import jax, ntkbias as nb
    >>> net, x = nb.nets.mlp(width=16, depth=2), jax.numpy.ones((4, 2))
    >>> hidden = nb.complexity.hidden_activations(net, net.init(jax.random.key(0), (2,)), x)
    >>> {name: values.shape for name, values in hidden.items()}
    {'relu 1': (4, 16), 'relu 2': (4, 16)}
    """
    layers = activations(net, params, x, batch_size=batch_size)
    found: dict[str, Array] = {}
    counts: dict[str, int] = {}
    for layer, values in zip(net.layers, layers, strict=True):
        if isinstance(layer, Activation):
            kind = type(layer).__name__.lower()
            counts[kind] = counts.get(kind, 0) + 1
            found[f"{kind} {counts[kind]}"] = values
    if not found:
        raise InputError("Expected a network with nonlinearities among its layers; got none. Use activations.")
    return found


def nearest_center_accuracy(
    features: ArrayLike,
    labels: ArrayLike,
    test_features: ArrayLike | None = None,
    test_labels: ArrayLike | None = None,
) -> float:
    """The share of examples that are nearest, in Euclidean distance, to the mean of their own class.

    `features` `(n, ...)` are flattened; `labels` `(n,)` may be any numbers. The class means are always those of
    `features`. The share is taken over `test_features`, if given, and otherwise over `features`. Costs n d
    multiplications per class.

    Raises `InputError` on fewer than two classes, and if `test_labels` name a class that is not in `labels`.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.complexity.nearest_center_accuracy(jnp.array([[0.0], [0.1], [1.0], [1.1]]), jnp.array([0, 0, 1, 1]))
    1.0
    """
    rows = checked_rows(features, "features", 2)
    classes, centers = _class_centers(rows, labels)
    if (test_features is None) != (test_labels is None):
        raise InputError("Expected test_features and test_labels together; got one of them.")
    if test_features is None:
        return float(np.mean(_nearest(rows, centers) == classes))
    tested = checked_rows(test_features, "test_features")
    if tested.shape[1] != rows.shape[1]:
        raise InputError(f"Expected test_features of {rows.shape[1]} numbers each; got {tested.shape[1]}.")
    checked_labels(test_labels, len(tested), "test_labels")
    names, wanted = np.unique(np.asarray(labels)), np.asarray(test_labels)
    if not np.isin(wanted, names).all():
        raise InputError("Expected test_labels of classes that labels have; got others. Leave those examples out.")
    return float(np.mean(names[_nearest(tested, centers)] == wanted))


def layer_separation(activations: Sequence[ArrayLike], labels: ArrayLike) -> Float[Array, " layers"]:
    """The `nearest_center_accuracy` of each layer's activations `(n, ...)`, in order.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> layers = [jnp.array([[0.0], [2.0], [1.0], [3.0]]), jnp.array([[0.0], [0.1], [1.0], [1.1]])]
    >>> nb.complexity.layer_separation(layers, jnp.array([0, 0, 1, 1])).tolist()
    [0.5, 1.0]
    """
    return jnp.asarray([nearest_center_accuracy(layer, labels) for layer in checked_layers(activations)])


def effective_depth(activations: Sequence[ArrayLike], labels: ArrayLike, *, max_error: float = 0.05) -> int:
    """The first layer, counted from 1, in which at most a share `max_error` of examples is nearer to another class.

    If no layer qualifies, the result is the number of layers, as in the paper. To tell this case from a last layer that
    does separate the classes, look at `layer_separation`. Each entry of `activations` counts as a layer: pass the
    outputs of the activation functions alone, or those of all layers.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> layers = [jnp.array([[0.0], [2.0], [1.0], [3.0]]), jnp.array([[0.0], [0.1], [1.0], [1.1]])]
    >>> nb.complexity.effective_depth(layers, jnp.array([0, 0, 1, 1]))
    2
    """
    layers = checked_layers(activations)
    if not 0 <= max_error < 1:
        raise InputError(f"Expected max_error from 0 to below 1, a share of examples; got {max_error!r}.")
    for depth, layer in enumerate(layers, 1):
        if 1 - nearest_center_accuracy(layer, labels) <= max_error:
            return depth
    return len(layers)


def class_distance_variance(features: ArrayLike, labels: ArrayLike) -> float:
    """The class-distance normalized variance (CDNV): class variance over squared distance, averaged over pairs.

    For each pair, the mean of the two variances is divided by the squared distance of the two centers. The result does
    not depend on the scale of the features. It is zero if every class has collapsed to a point, and infinite if two
    centers coincide.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.complexity.class_distance_variance(jnp.array([[0.0], [0.0], [1.0], [1.0]]), jnp.array([0, 0, 1, 1]))
    0.0
    """
    rows = checked_rows(features, "features", 2)
    classes, centers = _class_centers(rows, labels)
    squares = np.bincount(classes, np.sum((rows - centers[classes]) ** 2, 1)) / np.bincount(classes)
    first, second = np.triu_indices(len(centers), 1)
    distances = np.sum((centers[first] - centers[second]) ** 2, 1)
    variances = (squares[first] + squares[second]) / 2
    return float(np.mean(np.divide(variances, distances, out=np.full(len(distances), np.inf), where=distances > 0)))


def _class_centers(rows: Float[np.ndarray, "n d"], labels: Any) -> tuple[Int[np.ndarray, " n"], np.ndarray]:
    classes = checked_labels(labels, len(rows))
    count = classes.max() + 1
    if count < 2:
        raise InputError(f"Expected labels of two classes or more; got {count}.")
    members = (classes[:, None] == np.arange(count)).astype(float)
    return classes, members.T @ rows / members.sum(0)[:, None]


def _nearest(rows: Float[np.ndarray, "n d"], centers: Float[np.ndarray, "c d"]) -> Int[np.ndarray, " n"]:
    """The index of the nearest center of each row. |row|^2 is the same for all centers, so it is left out."""
    middle = centers.mean(0)  # subtracted, since differences of large numbers lose digits
    centers = centers - middle
    return np.argmin(np.sum(centers**2, 1) - 2 * (rows - middle) @ centers.T, 1)
