"""The average gradient outer product (AGOP), and how well the weights agree with it.

    AGOP of f in its inputs      G = mean_i sum_o grad f_o(x_i) grad f_o(x_i)^T
    neural feature ansatz        W^T W is proportional to the G in the inputs of the layer with the weights W

The ansatz says which directions of its inputs a layer learns: those along which the output changes (Radhakrishnan et
al. 2022, arXiv 2212.13881). The agreement is the cosine of the two matrices, tr(A B) / (||A|| ||B||), without centering
of their entries, as in the authors' code. There, the weights at initialization are subtracted from W first: from a
large initialization, most of W^T W is that of the random start.

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.complexity import average_gradient_outer_product, feature_correlations
>>> f = lambda params, x: jnp.tanh(x @ params["w"]) @ params["v"]
>>> params, x = {"w": jnp.diag(jnp.array([2.0, 0.0])), "v": jnp.ones((2, 1))}, jnp.eye(2)
>>> average_gradient_outer_product(f, params, x).round(3).tolist()           # along the first coordinate alone
[[2.01, 0.0], [0.0, 0.0]]
>>> {path: round(float(value), 3) for path, value in feature_correlations(f, params, x).items()}
{"['v']": 1.0, "['w']": 1.0}
"""

import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ntkbias.compilation import compiled
from ntkbias.complexity.problem import Network
from ntkbias.errors import InputError
from ntkbias.kernels import Gradients
from ntkbias.kernels.factors import Factor, Product
from ntkbias.kernels.reading import factors
from ntkbias.types import ApplyFunction, Inputs, Params

__all__ = ["average_gradient_outer_product", "feature_correlations", "matrices_of"]

FEW = 16  # inputs whose gradient tells h @ W from h @ W.T if W is square


def average_gradient_outer_product(
    f: ApplyFunction, params: Params, x: Inputs, *, batch_size: int = 256
) -> Float[Array, "d d"]:
    """mean_i sum_o grad f_o(x_i) grad f_o(x_i)^T over inputs x `(n, ...)`, with d numbers each, and outputs o.

    Its trace is the `geometric_complexity`. The first eigenvectors are the directions in input space along which the
    outputs change most. The unit is (unit of the outputs / unit of the inputs)^2. The result is exact; at the kink of a
    ReLU, the derivative is the one that JAX defines. Costs one forward and one backward pass per output, and the memory
    of `batch_size` inputs and of the result. Source: Radhakrishnan et al. 2022 (arXiv 2212.13881).

    Raises `InputError` if `f` does not accept the inputs, or if it mixes examples.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> nb.complexity.average_gradient_outer_product(lambda w, x: x @ w, jnp.array([[3.0], [4.0]]), jnp.eye(2)).tolist()
    [[9.0, 12.0], [12.0, 16.0]]
    """
    network = Network(f, params, x, batch_size)
    network.require_coordinates()
    inputs = network.x.astype(jnp.result_type(network.x.dtype, float)) if network.x.dtype.kind in "iub" else network.x
    total: Any = 0.0
    for rows in network.batches():
        for output in range(math.prod(network.outputs.shape[1:])):  # a loop, as in `geometric_complexity`
            total = total + _outer_of_slopes(network.f, network.params, inputs[rows], output)
    return total / len(inputs)


@compiled
def _outer_of_slopes(f: ApplyFunction, params: Params, x: Array, output: Any) -> Array:
    def chosen(x: Array) -> Array:
        return jnp.sum(f(params, x).reshape(len(x), -1)[:, output])

    with jax.default_matmul_precision("highest"):
        slopes = jax.grad(chosen)(x).reshape(len(x), -1)
        return slopes.T @ slopes


def feature_correlations(
    f: ApplyFunction, params: Params, x: Inputs, *, start: Params | None = None, batch_size: int = 256
) -> dict[str, Float[Array, ""]]:
    """The correlation of each weight matrix with the AGOP in its layer's inputs, by path: the neural feature ansatz.

    For a layer h -> h W the two matrices are W W^T (in the paper's notation W^T W) and the mean over inputs of the sum
    over outputs of grad_h f grad_h f^T. The correlation is their cosine, from 0 to 1, and NaN if one of them is zero.
    With `start`, the parameters at initialization, W minus its start replaces W in the first matrix, as in the code of
    the authors. The gradient in h is the one through this layer; in networks with shortcuts, h may act in other ways
    too. If the layer acts at several positions, the second matrix is summed over them.

    The matrices are the parameters of two axes that multiply an activation once, `h @ W` or `h @ W.T`. Others are left
    out. A linear read-out has a correlation of one, whatever its weights, unless `start` is given. Compare with the
    value at initialization, which is not zero: neither matrix has negative eigenvalues.

    Costs one backward pass per output and input. Holds `batch_size` inputs with their gradients by layer outputs.
    Source: Radhakrishnan et al. 2022 (arXiv 2212.13881). Raises `InputError` if no parameter is such a matrix, if
    `start` differs from `params` in structure or shapes, and on whatever `nb.empirical_ntk` refuses.

    >>> import jax, ntkbias as nb
    >>> net, x = nb.nets.mlp(width=64, depth=1), nb.domains.Circle().quadrature(16)[0]
    >>> found = nb.complexity.feature_correlations(net.apply, net.init(jax.random.key(0), (2,)), x)
    >>> list(found), round(float(found["[3]['w']"]), 4)  # a linear read-out
    (["[1]['w']", "[3]['w']"], 1.0)
    """
    network = Network(f, params, x, batch_size)
    gradients = Gradients.of(network.f, network.params, "all")
    gradients.check(network.x, "x")
    paths = matrices_of(gradients, network.x)
    if not paths:
        raise InputError(
            f"Expected params with a weight matrix that multiplies activations, h @ W; got none in "
            f"{', '.join(gradients.paths[:8])}."
        )
    weights = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(network.params)}
    initial = {path: jnp.zeros_like(leaf) for path, leaf in weights.items()}
    if start is not None:
        other = Network(f, start, x, batch_size).params
        initial = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(other)}
        if {path: leaf.shape for path, leaf in initial.items()} != {path: leaf.shape for path, leaf in weights.items()}:
            raise InputError("Expected start to have the structure and shapes of params; got others.")
    moments: dict[str, Any] = dict.fromkeys(paths, 0.0)
    for rows in network.batches():
        found = _moments(gradients, tuple(paths), network.x[rows])
        moments = {path: moments[path] + found[path] for path in paths}
    tried = _tried_gradients(gradients, tuple(paths), network.x[:FEW])
    return {path: _cosine(weights[path], weights[path] - initial[path], moments[path], *tried[path]) for path in paths}


def matrices_of(gradients: Gradients, x: Array) -> list[str]:
    """The paths of the parameters `(i, j)` or `(j, i)` that multiply i activations to j numbers, once."""
    shapes = {
        jax.tree_util.keystr(path): jnp.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradients.params)
    }
    found = []
    for path, factor in gradients.shapes(x).items():
        if isinstance(factor, Product) and factor.activation.shape[1] == 1:
            sides = factor.activation.shape[-1], factor.cotangent.shape[-1]
            if shapes[path] in (sides, sides[::-1]):
                found.append(path)
    return found


@compiled
def _moments(gradients: Gradients, paths: tuple[str, ...], x: Array) -> dict[str, Array]:
    """The sum over examples, outputs and positions of c c^T, for the cotangents c of each layer's outputs."""
    factors = _factors(gradients, paths, x)
    with jax.default_matmul_precision("highest"):
        found = {}
        for path, factor in factors.items():
            cotangents = factor.cotangent.reshape(-1, factor.cotangent.shape[-1])
            repeated = len(x) / len(factor.cotangent)  # one cotangent may stand for all examples
            found[path] = factor.scale**2 * repeated * cotangents.T @ cotangents
        return found


@compiled
def _tried_gradients(gradients: Gradients, paths: tuple[str, ...], x: Array) -> dict[str, tuple[Array, Array]]:
    """The gradient of one number by each layer's weights: from the factor, as `(i, j)`, and by JAX, in their shape."""
    factors = _factors(gradients, paths, x)
    function, chosen = gradients.by(paths).outputs_by_params(x)
    shape = jax.eval_shape(function, chosen)
    mix = jnp.cos(1.0 + jnp.arange(shape.shape[1])).astype(shape.dtype)
    by_jax = jax.grad(lambda chosen: jnp.sum(function(chosen) @ mix))(chosen)
    order = [path for path in gradients.paths if path in paths]
    found = {}
    for path, gradient in zip(order, by_jax, strict=True):
        factor = factors[path]
        cotangent = jnp.broadcast_to(factor.cotangent, (len(x), *factor.cotangent.shape[1:]))
        outer = jnp.einsum("nbti,nobtj,o->ij", factor.activation, cotangent, mix, precision="highest")
        found[path] = factor.scale * outer, gradient
    return found


def _factors(gradients: Gradients, paths: tuple[str, ...], x: Array) -> dict[str, Any]:
    found: dict[str, Factor] = factors(gradients.f, gradients.params, x, "all", gradients.precision, None)
    return {path: found[path] for path in paths}


@eqx.filter_jit
def _cosine(weights: Array, moved: Array, moment: Array, outer: Array, gradient: Array) -> Array:
    """The cosine of M M^T and W C W^T, with W and its moved part M turned to `(i, j)`, as the gradient says."""

    def cosine(weights: Array, moved: Array) -> Array:
        features = jnp.matmul(moved, moved.T, precision="highest")
        gradients = jnp.matmul(jnp.matmul(weights, moment, precision="highest"), weights.T, precision="highest")
        return jnp.sum(features * gradients) / (jnp.linalg.norm(features) * jnp.linalg.norm(gradients))

    def difference(gradient: Array) -> Array:
        return jnp.linalg.norm(outer - gradient)

    if outer.shape[0] != outer.shape[1]:
        return cosine(weights, moved) if weights.shape == outer.shape else cosine(weights.T, moved.T)
    straight = difference(gradient) <= difference(gradient.T)
    return jnp.where(straight, cosine(weights, moved), cosine(weights.T, moved.T))
