"""A network at one step of training: its parameters, and the kernel, spectrum and outputs that follow from them.

Measures read, for instance, `snapshot.spectrum` or `snapshot.matrix`. Each is computed when it is first read, and all
measures share it. `snapshot.initial` and `snapshot.previous` are the first snapshot and the one before.

>>> import jax, ntkbias as nb
>>> from ntkbias.tracking import Setting, Snapshot
>>> net, x = nb.nets.mlp(width=16, depth=1), nb.domains.Circle().quadrature(8)[0]
>>> params = net.init(jax.random.key(0), (2,))
>>> snapshot = Snapshot(Setting.of(net.apply, params, (x, x[:, 0])), step=0, variables=params)
>>> snapshot.matrix.shape, snapshot.spectrum.eigenvalues.shape, snapshot.residual.shape
((8, 8), (8,), (8, 1))
"""

import math
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ntkbias.checks import widened
from ntkbias.compilation import Function, compiled
from ntkbias.eigen import eigh, top_modes
from ntkbias.errors import InputError
from ntkbias.kernels import Kernel, KernelOperator, as_operator, empirical_ntk, empirical_ntk_by_layer
from ntkbias.kernels.empirical import ntk_of_some
from ntkbias.kernels.tiles import Tiles
from ntkbias.spectra import Spectrum
from ntkbias.tracking.setting import Setting
from ntkbias.types import ApplyFunction, Outputs, Params

__all__ = ["DENSE_ROWS", "Snapshot", "columns", "frobenius"]

DENSE_ROWS = 1_500  # of the largest matrix whose modes are all computed, in about a second
MATRIX_BYTES = 2**30  # the most memory for the matrices of snapshots
MATRICES = 4  # held at once: those of three snapshots, and a centered one
PIECE = 1_000  # examples per call of the network
STRIP = 1_024  # rows of a matrix that are converted to float64 at once


class Snapshot:
    """A network at one step of training. Everything that follows from its parameters is computed when first read.

    `spectrum` has all modes of a kernel with up to 1,500 rows, and the first `num_modes` of a larger one. `matrix` is
    the kernel's matrix with up to about 8,000 rows, and None for a larger one. If `memory_budget` is below 16 bytes per
    entry, `matrix` is None and `spectrum` has the first modes. `values` and `before` hold what the measures returned at
    this snapshot, so far, and at the previous one. `keys` gives the key of each measure in them.
    """

    def __init__(
        self,
        setting: Setting,
        step: int,
        variables: Params,
        *,
        time: float = math.nan,
        learning_rate: float = math.nan,
        path_length: float = 0.0,
        previous: "Snapshot | None" = None,
        initial: "Snapshot | None" = None,
        before: Mapping[str, np.ndarray] | None = None,
        keys: Mapping[Any, str] | None = None,
    ) -> None:
        self.setting, self.step, self.variables = setting, step, variables
        self.time, self.learning_rate = time, learning_rate
        self.path_length = path_length  # of the path of the parameters since the previous snapshot
        self.previous = previous
        self.initial = self if initial is None else initial
        self.before = {} if before is None else before
        self.keys = {} if keys is None else keys
        self.values: dict[str, np.ndarray] = {}

    @property
    def params(self) -> Params:
        """The trained parameters, without the network's state."""
        return self.variables[0] if self.setting.has_state else self.variables

    @cached_property
    def kernel(self) -> Kernel:
        """The empirical NTK at this step, with the probe's `outputs`."""
        return self.kernel_of(self.setting.outputs)

    def kernel_of(self, outputs: Outputs) -> Kernel:
        """The empirical NTK at this step, with the given `outputs`."""
        setting = self.setting
        if not setting.has_state:
            return empirical_ntk(setting.f, self.variables, outputs=outputs, memory_budget=setting.memory_budget)
        return ntk_of_some(
            setting.f, self.variables, "[0]", setting.probe, outputs=outputs, memory_budget=setting.memory_budget
        )

    @property
    def num_examples(self) -> int:
        """The number n of inputs in the probe."""
        return len(self.setting.probe)

    @cached_property
    def num_rows(self) -> int:
        """The number of rows of the kernel's matrix: n, or n o for outputs="all"."""
        return self.num_examples * (self.num_outputs if self.setting.outputs == "all" else 1)

    @cached_property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of what f returns for one input: () or (*positions, o), with classes last."""
        one = jax.ShapeDtypeStruct((1, *self.setting.probe.shape[1:]), self.setting.probe.dtype)
        return jax.eval_shape(self.setting.f, self.variables, one).shape[1:]

    @property
    def num_outputs(self) -> int:
        """The number o of outputs for one input, over all positions."""
        return math.prod(self.output_shape)

    @cached_property
    def matrix(self) -> Float[np.ndarray, "rows rows"] | None:
        """The kernel's matrix on the probe, on the host. None if the matrices of three snapshots would not fit."""
        size = MATRICES * 4 * self.num_rows**2
        if size > min(MATRIX_BYTES, self.setting.memory_budget):
            return None
        gram = self.kernel(self.setting.probe)
        self.gram_dtype = gram.dtype
        return np.asarray(widened(gram)).reshape(self.num_rows, self.num_rows)

    @cached_property
    def centered_matrix(self) -> Float[np.ndarray, "rows rows"] | None:
        """The kernel's matrix after its features are centered over the probe, each output separately."""
        return None if self.matrix is None else self.centered(self.matrix)

    def centered(self, matrix: Float[np.ndarray, "rows rows"]) -> Float[np.ndarray, "rows rows"]:
        """Center the features of a kernel's matrix over the probe, each output separately."""
        o = self.num_rows // self.num_examples
        blocks = matrix.reshape(self.num_examples, o, self.num_examples, o)
        rows, columns = (blocks.mean(axis, keepdims=True, dtype=np.float64) for axis in (0, 2))
        mean = rows.mean(2, keepdims=True)
        return (blocks - (rows + columns - mean).astype(blocks.dtype)).reshape(matrix.shape)

    @cached_property
    def layer_matrices(self) -> dict[str, Float[np.ndarray, "rows rows"]]:
        """The part of the kernel's matrix that belongs to each parameter, by path. Unused parameters are left out."""
        setting, shape = self.setting, (self.num_rows, self.num_rows)
        parts = empirical_ntk_by_layer(
            setting.f,
            self.variables,
            outputs=setting.outputs,
            memory_budget=setting.memory_budget,
            wrt="[0]" if setting.has_state else None,
        )
        return {path: np.asarray(widened(gram)).reshape(shape) for path, gram in parts(setting.probe).items()}

    @cached_property
    def norm(self) -> float | None:
        """||K||_F."""
        return None if self.matrix is None else math.sqrt(frobenius(self.matrix, self.matrix))

    @cached_property
    def centered_norm(self) -> float | None:
        """||K||_F of the centered matrix."""
        return (
            None if self.centered_matrix is None else math.sqrt(frobenius(self.centered_matrix, self.centered_matrix))
        )

    @cached_property
    def trace(self) -> float:
        """tr K / n, for the kernel's matrix K on the probe."""
        if self.matrix is not None:
            return float(np.trace(self.matrix, dtype=np.float64)) / self.num_examples
        return self.operator.trace() / self.num_examples

    @cached_property
    def operator(self) -> KernelOperator:
        """The kernel's matrix on the probe as a linear operator, (rows, rows)."""
        if self.matrix is None:
            return self.kernel.operator(self.setting.probe)
        if self.setting.outputs == "all":
            return as_operator(self.matrix.reshape(2 * (self.num_examples, self.num_outputs)))
        return as_operator(self.matrix)

    @cached_property
    def spectrum(self) -> Spectrum:
        """The modes of K / n: all for up to 1,500 rows, and otherwise, or without a matrix, the first `num_modes`."""
        if self.num_rows <= DENSE_ROWS and self.matrix is not None:
            shape = (self.num_examples, self.num_outputs) if self.setting.outputs == "all" else (self.num_examples,)
            gram = jnp.asarray(self.matrix).reshape(2 * shape)
            modes = eigh(gram.astype(self.gram_dtype))  # the type sets the noise floor
        else:
            modes = top_modes(self.operator, self.num_modes, key=self.setting.key)
        return Spectrum(**{**vars(modes), "x": self.setting.probe, "kernel": self.kernel})

    @property
    def num_modes(self) -> int:
        """The number k of modes that measures report."""
        return min(self.setting.num_modes, self.num_rows)

    @cached_property
    def modes(self) -> Float[np.ndarray, "rows k"]:
        """The first k eigenfunctions, with mean square one and the rows of the matrix."""
        functions = np.asarray(self.spectrum.eigenfunctions, np.float64)[..., : self.num_modes]
        return functions.reshape(self.num_rows, -1)

    @cached_property
    def train_kernel(self) -> tuple[Spectrum, Array]:
        """The spectrum of all outputs on the training inputs, and the kernel between the probe and these inputs."""
        kernel = self.kernel_of("all" if self.num_outputs > 1 else "mean")
        return eigh(kernel(self.setting.x)), kernel(self.setting.probe, self.setting.x)

    @cached_property
    def outputs(self) -> Float[np.ndarray, "n o"]:
        """The network's outputs on the probe."""
        return self.network(self.setting.probe)

    @cached_property
    def train_outputs(self) -> Float[np.ndarray, "n o"]:
        """The network's outputs on the training inputs."""
        same = self.setting.x is self.setting.probe
        return self.outputs if same else self.network(self.setting.x)

    @cached_property
    def test_outputs(self) -> Float[np.ndarray, "n o"] | None:
        """The network's outputs on the test inputs, or None if there are none."""
        return None if self.setting.test is None else self.network(self.setting.test[0])

    @cached_property
    def labels(self) -> Float[np.ndarray, "n t"] | None:
        """The probe's targets as numbers, one column per output or class. Whole-number class labels become one-hot.

        If f has outputs at several positions, there is a column for each of them.
        """
        return None if self.setting.probe_y is None else columns(self.setting.probe_y, self.output_shape)

    @cached_property
    def residual(self) -> Float[np.ndarray, "n o"] | None:
        """n times the derivative of the loss in the outputs on the probe. For the squared error it is f - y."""
        y = self.setting.probe_y
        return None if y is None else self.residual_of(self.outputs, y)

    @cached_property
    def train_residual(self) -> Float[np.ndarray, "n o"]:
        """The residual on the training inputs."""
        return self.residual_of(self.train_outputs, self.setting.y)

    @cached_property
    def gradient(self) -> Params:
        """The gradient of the loss over all training inputs."""
        return self._pull_back(self.setting.x, self.train_residual / len(self.setting.x))

    @cached_property
    def velocity(self) -> Float[np.ndarray, "n o"]:
        """df/dt on the probe under gradient flow: -J gradient, which is -(1/n) K(probe, train) residual."""
        pieces = Tiles(self.setting.probe, min(PIECE, self.num_examples))
        network = self.setting.f, self.variables, self.setting.has_state
        found = [_jvp_piece(*network, pieces[i], self.gradient) for i in range(len(pieces))]
        return -np.concatenate([np.asarray(part) for part in found])[: self.num_examples]

    def has_rows_for(self, function: Float[np.ndarray, "n t"]) -> bool:
        """Whether a function on the probe has a value for each row of the kernel's matrix."""
        return self.setting.outputs != "all" or function.shape[1] == self.num_outputs

    def network(self, x: Array) -> Float[np.ndarray, "n o"]:
        """The outputs `(n, o)` at the inputs `x`, computed in pieces of 1,000 inputs."""
        pieces = Tiles(x, min(PIECE, len(x)))
        found = [np.asarray(_applied(self.setting.f, self.variables, pieces[i])) for i in range(len(pieces))]
        return np.concatenate(found)[: len(x)]

    def loss(self, outputs: np.ndarray, y: Array) -> float:
        """The loss of outputs `(n, o)` for the targets `y`."""
        return float(_loss(Function.of(self.setting.loss), self._shaped(outputs), y))

    def residual_of(self, outputs: np.ndarray, y: Array) -> Float[np.ndarray, "n o"]:
        """n times the derivative of the loss in the outputs `(n, o)`."""
        gradient = _loss_gradient(Function.of(self.setting.loss), self._shaped(outputs), y)
        return np.asarray(gradient, np.float64).reshape(outputs.shape) * len(outputs)

    def _shaped(self, outputs: np.ndarray) -> Array:
        """Reshape outputs (n, o) to the shape that f returns, which losses expect."""
        return jnp.asarray(outputs).reshape(len(outputs), *self.output_shape)

    def _pull_back(self, x: Array, cotangent: np.ndarray) -> Params:
        """J^T times a cotangent (n, o), summed over pieces of the inputs."""
        pieces = Tiles(x, min(PIECE, len(x)))
        padded = np.zeros((len(pieces) * pieces.rows, cotangent.shape[1]), np.result_type(x.dtype, np.float32))
        padded[: len(x)] = cotangent
        total: Any = None
        for i in range(len(pieces)):
            part = jnp.asarray(padded[i * pieces.rows : (i + 1) * pieces.rows])
            found = _vjp_piece(self.setting.f, self.variables, self.setting.has_state, pieces[i], part)
            total = found if total is None else jax.tree.map(jnp.add, total, found)
        return total


def columns(y: Array, output_shape: tuple[int, ...]) -> Float[np.ndarray, "n t"]:
    """Targets as numbers `(n, t)`. Whole-number class labels, one per input or per position, become one-hot.

    `output_shape` is the shape of the outputs for one input, with classes on its last axis.
    """
    values = np.asarray(y)
    *positions, count = output_shape or (1,)
    labels = values.shape[1:] in ((), (*positions,)) and values.dtype.kind in "iub"
    if labels and count > 1 and values.min() >= 0 and values.max() < count:
        return np.eye(count)[values.astype(int)].reshape(len(values), -1)
    return values.astype(np.float64).reshape(len(values), -1)


def frobenius(left: Float[np.ndarray, "n m"], right: Float[np.ndarray, "n m"]) -> float:
    """The Frobenius inner product of two matrices, summed in float64 over strips of rows."""
    if left.shape != right.shape:
        raise InputError(f"Expected matrices of one shape; got {left.shape} and {right.shape}.")
    strips = [slice(start, start + STRIP) for start in range(0, len(left), STRIP)]
    return float(sum(np.vdot(left[s].astype(np.float64), right[s].astype(np.float64)) for s in strips))


@compiled
def _applied(f: ApplyFunction, variables: Params, x: Array) -> Array:
    return widened(f(variables, x).reshape(len(x), -1))


@compiled
def _loss(loss: Function, outputs: Array, y: Array) -> Array:
    return loss(outputs, y)


@compiled
def _loss_gradient(loss: Function, outputs: Array, y: Array) -> Array:
    return jax.grad(loss)(outputs, y)


@compiled
def _vjp_piece(f: ApplyFunction, variables: Params, has_state: bool, x: Array, cotangent: Array) -> Params:
    of_params, params = _of_params(f, variables, has_state, x)
    back = jax.vjp(of_params, params)[1]
    return jax.tree.map(widened, back(cotangent.astype(jax.eval_shape(of_params, params).dtype))[0])


@compiled
def _jvp_piece(f: ApplyFunction, variables: Params, has_state: bool, x: Array, direction: Params) -> Array:
    of_params, params = _of_params(f, variables, has_state, x)
    along = jax.tree.map(lambda p, d: d.astype(p.dtype), params, direction)
    return widened(jax.jvp(of_params, (params,), (along,))[1])


def _of_params(
    f: ApplyFunction, variables: Params, has_state: bool, x: Array
) -> tuple[Callable[[Params], Array], Params]:
    """The outputs `(n, o)` as a function of the trained parameters alone, and these parameters."""
    if not has_state:
        return lambda params: f(params, x).reshape(len(x), -1), variables
    params, state = variables
    return lambda params: f((params, state), x).reshape(len(x), -1), params
