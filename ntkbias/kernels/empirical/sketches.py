"""Sketches of a network's gradients, a few numbers per example: random projections that estimate the NTK.

    S = J U / sqrt(dim),    E[S S^T] = J J^T = K,    U with independent standard normal entries

The standard error of an entry of S S^T is sqrt((K_ii K_jj + K_ij^2) / dim), for any number of parameters. The data are
read once. In operator norm, S S^T differs from K by about ||K|| sqrt(r / dim), where r = trace(K) / ||K|| (as sample
covariances do: Koltchinskii and Lounici 2017). So a sketch is good for inner products and large eigenvalues, not for
small ones. TRAK attributes predictions to training data by such projections (Park et al. 2023, arXiv 2303.14186).

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=64, depth=2, num_outputs=3)
>>> kernel = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,)))
>>> x = jax.random.normal(jax.random.key(1), (20, 2))
>>> gradients = nb.kernels.sketch(kernel, x, 1000)
>>> errors = (gradients.gram() - kernel(x)) / gradients.standard_error()
>>> gradients.features.shape, 0.5 < float(jnp.std(errors)) < 2.0
((20, 1000), True)
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, PRNGKeyArray, UInt32

from ntkbias.checks import key_or_default, require_positive
from ntkbias.errors import InputError
from ntkbias.kernels.on_inputs import kernel_on, on_inputs
from ntkbias.kernels.operators import Features, Jacobian, JacobianOperator, KernelOperator
from ntkbias.kernels.operators.by_gradients import Coordinates
from ntkbias.kernels.operators.jacobian import HELD_SHARE
from ntkbias.kernels.tiles import Tiles
from ntkbias.progress import progress
from ntkbias.tables import Described
from ntkbias.types import Inputs

__all__ = ["Sketch", "sketch"]


class Sketch(Described):
    """Random projections of gradients, one row per example, or per output for `outputs="all"`; made by `sketch`.

    `sketch[examples]` is the sketch of some of the examples.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.mlp(width=16, depth=1)
    >>> kernel, x = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,))), jax.numpy.ones((4, 2))
    >>> sketch = nb.kernels.sketch(kernel, x, 8, key=jax.random.key(1))
    >>> (sketch.features @ sketch.features.T).shape  # an estimate of kernel(x)
    (4, 4)
    """

    features: Float[Array, "n *o dim"]

    def described(self) -> str:
        """The sizes of the sketch, as text."""
        n, *outputs, dim = self.features.shape
        with_outputs = "".join(f", {count:,} outputs" for count in outputs)
        return f"Sketch: {n:,} examples{with_outputs}, {dim:,} numbers each"

    def gram(self) -> Float[Array, "..."]:
        """An unbiased estimate of the kernel, `(n, n)`, or `(n, o, n, o)` for all outputs. Costs n^2 o^2 dim."""
        return jnp.tensordot(self.features, self.features, (-1, -1), precision="highest")

    def standard_error(self) -> Float[Array, "..."]:
        """The standard error of each entry of `gram()` over draws of the projections.

        It is sqrt((K_ii K_jj + K_ij^2) / dim), so sqrt(2 / dim) K_ii on the diagonal. K is estimated by the sketch
        itself, so the standard error has a relative error of about sqrt(2 / dim).
        """
        gram, dim = self.gram(), self.features.shape[-1]
        diagonal = jnp.sum(self.features**2, -1)
        products = jnp.tensordot(diagonal, diagonal, 0)
        return jnp.sqrt((products + gram**2) / dim)

    def operator(self) -> KernelOperator:
        """The estimated kernel as an operator, S (S^T v), with 2 n o dim multiplications per vector."""
        return Features(self.features)

    def __getitem__(self, examples: slice | Int[Array, " m"] | Int[np.ndarray, " m"]) -> "Sketch":
        return Sketch(self.features[examples])


@on_inputs
def sketch(kernel: Any, x: Inputs, dim: int, *, key: PRNGKeyArray | None = None) -> Sketch:
    """Random projections of the gradients of a network at `x` `(n, ...)` to `dim` numbers per row.

    `kernel` is an empirical NTK, of all parameters or of one layer, or a positive multiple of one. You can pass its
    operator instead of `kernel` and `x`. The `features` of the sketch are `(n, dim)`, or `(n, o, dim)` for
    `outputs="all"`. For "sum" and "mean" their inner products estimate the kernel summed, or averaged, over outputs.
    The projections depend only on `key` (default: a fixed one). So inner products of two sketches with the same key
    estimate the kernel between their inputs. Batches, devices and the memory budget change the projections only by
    rounding.

    The data are read once. That costs o backward passes per example, as for the kernel itself, and then about P dim
    multiplications per output. P normal numbers are drawn per column, or o P for "sum" and "mean". They are drawn once
    if all columns fit a quarter of the kernel's `memory_budget`. Otherwise the data are divided into pieces whose
    factors fit an eighth of it, and the columns are drawn again for each piece, as many at a time as fit. The result is
    held on the device.

    Raises `InputError` on inputs that the kernel refuses, for outputs="each", and on a kernel without gradients.

    >>> import jax, ntkbias as nb
    >>> net = nb.nets.mlp(width=16, depth=1)
    >>> kernel, x = nb.empirical_ntk(net.apply, net.init(jax.random.key(0), (2,))), jax.numpy.ones((4, 2))
    >>> nb.kernels.sketch(kernel, x, 8, key=jax.random.key(1)).features.shape
    (4, 8)
    """
    kernel, x = kernel_on(kernel, x)
    require_positive("dim", dim)
    key = key_or_default(key)
    operator = kernel.operator(x)
    if not isinstance(operator, JacobianOperator):
        raise InputError(
            "Expected an empirical NTK, whose gradients can be projected, or a positive multiple of one; got "
            f"{type(kernel).__name__}. For other kernels use nystrom(kernel, x, landmarks)."
        )
    width = min(dim, operator.jacobian.vectors_at_once())
    width = -(-dim // -(-dim // width))
    rows = _in_one_pass(operator, dim, key) if width == dim else _by_pieces(operator, dim, width, key)
    shape = (-1, operator.num_outputs, dim) if kernel.outputs == "all" else (-1, dim)
    return Sketch(jnp.asarray(rows).reshape(shape))


def _in_one_pass(operator: JacobianOperator, dim: int, key: PRNGKeyArray) -> Float[np.ndarray, "rows dim"]:
    """Compute all columns in one pass over the data."""
    return operator.unpack(operator.push(_tangents(operator, key, 0, dim, dim)))


def _by_pieces(operator: JacobianOperator, dim: int, width: int, key: PRNGKeyArray) -> Float[np.ndarray, "rows dim"]:
    """Compute a few columns at a time for each piece of the data, while the factors of the piece are held."""
    jacobian = operator.jacobian
    x, held = jacobian.x, jacobian.gradients.memory_budget // HELD_SHARE
    pieces = Tiles(x, max(1, min(len(x), jacobian.layout.num_devices * held // jacobian.bytes_per_example)))
    result = np.empty((len(x), operator.num_outputs, dim), operator.dtype)
    for index in progress(range(len(pieces)), "sketch"):
        piece = Jacobian(jacobian.gradients, np.asarray(pieces[index]), keeps=True)
        bounds = pieces.bounds(index)
        for start in range(0, dim, width):
            rows = piece.layout.unpack(piece.push(_tangents(operator, key, start, width, dim)))
            rows = rows.reshape(pieces.rows, operator.num_outputs, width)
            own = rows[: bounds.stop - bounds.start, :, : dim - start]
            result[bounds, :, start : start + width] = operator.scales[bounds, None, None] * own
    return result.reshape(-1, dim)


def _tangents(operator: JacobianOperator, key: PRNGKeyArray, start: int, width: int, dim: int) -> Coordinates:
    """Columns `start` to `start + width` of U / sqrt(dim), on every device."""
    mesh = operator.jacobian.layout.mesh
    sharding = None if mesh is None else NamedSharding(mesh, PartitionSpec())
    columns = np.arange(start, start + width, dtype=np.uint32)
    return _drawn(key, columns, tuple(operator.jacobian.sizes.items()), operator.dtype, dim**-0.5, sharding)


@partial(jax.jit, static_argnums=(2, 3, 4, 5))
def _drawn(
    key: PRNGKeyArray,
    columns: UInt32[Array, " k"],
    sizes: tuple[tuple[str, int], ...],
    dtype: Any,
    scale: float,
    sharding: NamedSharding | None,
) -> Coordinates:
    """Normal numbers, drawn with a separate key for each parameter and each column."""

    def column(own: PRNGKeyArray, size: int, index: Array) -> Array:
        return scale * jax.random.normal(jax.random.fold_in(own, index), (size,), dtype)

    found = {
        path: jax.vmap(partial(column, jax.random.fold_in(key, number), size), out_axes=1)(columns)
        for number, (path, size) in enumerate(sizes)
    }
    return found if sharding is None else jax.lax.with_sharding_constraint(found, sharding)
