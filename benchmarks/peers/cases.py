"""The measured cases: networks, weights, inputs and sizes as NumPy arrays, for environments that share nothing else.

A network is a list of `Layer`s. Its weights are Gaussian arrays named after the layers, `name.w`
`(*window, fan_in, fan_out)` and `name.b` `(fan_out,)`. `mlp` and `cnn` are those of `ntkbias.nets` (NTK
parameterization, no biases). This module also counts the products of the kernel's contraction, in the cheaper of two
orders for each layer (see `ntkbias/kernels/factors/`), and the total number of multiplications.
"""

import dataclasses
import itertools
import math
from pathlib import Path
from typing import NamedTuple

import numpy as np

INPUTS = {
    "mlp256": (64,),
    "mlp1024": (64,),
    "cnn_flatten": (16, 16, 3),
    "cnn_pooled": (16, 16, 3),
    "resnet18": (32, 32, 3),
    "transformer": (32, 64),
}
TITLES = {
    "mlp256": "MLP 256 x 3",
    "mlp1024": "MLP 1024 x 3",
    "cnn_flatten": "CNN flatten 3 x 32",
    "cnn_pooled": "CNN pooled 3 x 32",
    "resnet18": "ResNet-18",
    "transformer": "transformer block",
}
KINK = 3e-6  # ten times the error of a pre-activation in single precision


@dataclasses.dataclass(frozen=True)
class Case:
    """The kernel of one network on `n` inputs with themselves, or with `m` others."""

    network: str
    num_outputs: int
    outputs: str  # "mean" or "all"
    n: int
    m: int = 0  # zero: the inputs with themselves
    group: str = "standard"  # "standard" includes "quick", and "all" includes both
    memory_budget: int | None = None

    @property
    def columns(self) -> int:
        """The number of inputs on the other side."""
        return self.m or self.n

    @property
    def examples(self) -> int:
        """The number of inputs on both sides together."""
        return self.n + self.m

    @property
    def net(self) -> tuple[str, int, str]:
        """Everything that identifies the case except its size."""
        return self.network, self.num_outputs, self.outputs

    @property
    def few(self) -> bool:
        """Whether there are few enough pairs of inputs for NTK-vector products, which take one pass per pair."""
        return self.n * self.columns <= 256**2

    @property
    def name(self) -> str:
        """The title of the case."""
        size = f"{self.n} x {self.m}" if self.m else f"n = {self.n}"
        plural = "s" if self.num_outputs > 1 else ""
        return f"{TITLES[self.network]}, {self.num_outputs} output{plural}, {self.outputs}, {size}"


CASES = [
    Case("mlp256", 10, "mean", 32, group="quick"),
    Case("mlp256", 10, "all", 32, group="all"),
    Case("mlp256", 10, "all", 128, group="quick"),
    Case("mlp256", 10, "mean", 200, 199, group="quick"),
    Case("mlp256", 10, "mean", 512, group="quick"),
    Case("mlp256", 10, "mean", 997),
    Case("mlp256", 10, "mean", 1000),
    Case("mlp256", 10, "mean", 4096, group="all"),
    Case("mlp256", 10, "all", 512, group="all"),
    Case("mlp256", 1, "mean", 32, group="all"),
    Case("mlp256", 1, "mean", 512, group="all"),
    Case("mlp256", 1, "mean", 1000),
    Case("mlp256", 1, "mean", 4096, group="all"),
    Case("mlp1024", 10, "mean", 32),
    Case("mlp1024", 10, "mean", 128, group="all"),
    Case("mlp1024", 10, "mean", 1000, group="all"),
    Case("mlp1024", 1, "mean", 128),
    Case("mlp1024", 1, "mean", 512, group="all"),
    Case("cnn_flatten", 10, "mean", 64, group="quick"),
    Case("cnn_flatten", 10, "mean", 200, 199, group="all"),
    Case("cnn_flatten", 10, "mean", 512, group="all"),
    Case("cnn_flatten", 10, "mean", 1000, group="all"),
    Case("cnn_flatten", 10, "all", 32, group="all"),
    Case("cnn_flatten", 10, "all", 64, group="all"),
    Case("cnn_flatten", 1, "mean", 32),
    Case("cnn_flatten", 1, "mean", 200, 199),
    Case("cnn_flatten", 1, "mean", 512),
    Case("cnn_flatten", 1, "mean", 997),
    Case("cnn_pooled", 10, "mean", 64),
    Case("cnn_pooled", 10, "all", 64),
    Case("cnn_pooled", 10, "mean", 512, group="all"),
    Case("cnn_pooled", 10, "mean", 1000, group="all"),
    Case("cnn_pooled", 1, "mean", 64, group="all"),
    Case("cnn_pooled", 1, "mean", 200, 199, group="all"),
    Case("cnn_pooled", 1, "mean", 512),
    Case("cnn_pooled", 1, "mean", 997, group="all"),
    Case("resnet18", 1, "mean", 8),
    Case("resnet18", 1, "mean", 32, group="all"),
    Case("resnet18", 10, "mean", 8, group="all"),
    Case("resnet18", 10, "all", 8, group="all"),
    Case("transformer", 10, "mean", 32, group="quick"),
    Case("transformer", 10, "all", 32),
    Case("transformer", 10, "mean", 128, group="all"),
    Case("transformer", 10, "mean", 512, group="all"),
    Case("transformer", 1, "mean", 32, group="all"),
    Case("transformer", 1, "mean", 128),
    Case("transformer", 1, "mean", 512, group="all"),
]
ON_ACCELERATOR = [
    Case("mlp256", 10, "mean", 32),
    Case("mlp256", 10, "all", 512),
    Case("mlp256", 10, "mean", 997),
    Case("mlp256", 10, "mean", 4096),
    Case("mlp256", 1, "mean", 4096),
    Case("mlp1024", 10, "mean", 200, 199),
    Case("mlp1024", 10, "mean", 1000),
    Case("cnn_flatten", 10, "mean", 64),
    Case("cnn_flatten", 10, "mean", 1000),
    Case("cnn_flatten", 1, "mean", 200, 199),
    Case("cnn_flatten", 1, "mean", 997),
    Case("cnn_pooled", 10, "all", 64),
    Case("cnn_pooled", 10, "mean", 1000),
    Case("resnet18", 1, "mean", 64),
    Case("resnet18", 10, "mean", 16),
    Case("transformer", 10, "mean", 128),
    Case("transformer", 10, "mean", 1000),
    Case("transformer", 1, "mean", 512),
]
GROWTH = [Case("mlp256", 10, "mean", n, group="growth", memory_budget=64 * 2**20) for n in (256, 512, 1024, 2048, 4096)]


class Layer(NamedTuple):
    """A linear map, applied at each position; with `norm`, the scale and shift of a layer norm instead."""

    name: str
    positions: int
    fan_in: int
    fan_out: int
    window: tuple[int, ...] = ()
    bias: bool = False
    norm: bool = False

    @property
    def rows(self) -> int:
        """The number of rows of the weights as a matrix."""
        return math.prod(self.window) * self.fan_in


class Contraction(NamedTuple):
    """The products (rows, inner, columns) of a parameter's part of the kernel, and whether its gradients are formed."""

    formed: bool
    products: list[tuple[int, int, int]]


def layers(network: str, num_outputs: int) -> list[Layer]:
    """All layers with parameters, from inputs to outputs."""
    if network.startswith("mlp"):
        width = int(network.removeprefix("mlp"))
        sizes = [64, width, width, width, num_outputs]
        return [Layer(f"dense{k}", 1, *pair) for k, pair in enumerate(itertools.pairwise(sizes))]
    if network.startswith("cnn"):
        convolutions = [Layer(f"conv{k}", 256, channels, 32, (3, 3)) for k, channels in enumerate((3, 32, 32))]
        return [*convolutions, Layer("dense", 1, 32 * (256 if network == "cnn_flatten" else 1), num_outputs)]
    return _resnet18(num_outputs) if network == "resnet18" else _transformer(num_outputs)


def _resnet18(num_outputs: int) -> list[Layer]:
    found = [Layer("stem", 32 * 32, 3, 64, (3, 3))]
    for stage, channels in enumerate((64, 128, 256, 512)):
        positions = (32 // 2**stage) ** 2
        for block in range(2):
            before = found[-1].fan_out
            name = f"stage{stage}_block{block}"
            if before != channels:
                found.append(Layer(f"{name}_shortcut", positions, before, channels, (1, 1)))
            found.append(Layer(f"{name}_conv0", positions, before, channels, (3, 3)))
            found.append(Layer(f"{name}_conv1", positions, channels, channels, (3, 3)))
    return [*found, Layer("head", 1, 512, num_outputs, bias=True)]


def _transformer(num_outputs: int) -> list[Layer]:
    return [
        Layer("norm0", 32, 1, 64, norm=True),
        Layer("qkv", 32, 64, 192, bias=True),
        Layer("projection", 32, 64, 64, bias=True),
        Layer("norm1", 32, 1, 64, norm=True),
        Layer("expand", 32, 64, 256, bias=True),
        Layer("reduce", 32, 256, 64, bias=True),
        Layer("head", 1, 64, num_outputs, bias=True),
    ]


def num_parameters(case: Case) -> int:
    """The number of weights, scales and biases."""
    found = layers(case.network, case.num_outputs)
    return sum(layer.rows * layer.fan_out + (layer.bias or layer.norm) * layer.fan_out for layer in found)


def save(case: Case, path: Path) -> None:
    """Write the weights and inputs of a case. They are the same in every run."""
    params = weights(case)
    rng = np.random.default_rng(1)
    arrays = {"x1": inputs(case, params, rng, case.n)}
    if case.m:
        arrays["x2"] = inputs(case, params, rng, case.m)
    np.savez(path, **params, **arrays)


def weights(case: Case) -> dict[str, np.ndarray]:
    """Gaussian weights, with variance one if the network scales them itself."""
    rng = np.random.default_rng(0)
    gain = {"resnet18": 2.0, "transformer": 1.0}.get(case.network)
    arrays = {}
    for layer in layers(case.network, case.num_outputs):
        std = 1.0 if gain is None else math.sqrt(gain / layer.rows)
        shape = (layer.fan_out,) if layer.norm else (*layer.window, layer.fan_in, layer.fan_out)
        drawn = std * rng.normal(size=shape)
        arrays[f"{layer.name}.w"] = 1 + 0.1 * drawn if layer.norm else drawn
        if layer.bias or layer.norm:
            arrays[f"{layer.name}.b"] = 0.1 * rng.normal(size=layer.fan_out)
    return {name: array.astype(np.float32) for name, array in arrays.items()}


def inputs(case: Case, params: dict[str, np.ndarray], rng: np.random.Generator, num: int) -> np.ndarray:
    """Gaussian inputs, without those at which rounding decides on which side of its kink a ReLU is.

    At such inputs, two gradients are equally right, and a comparison would mean nothing. The ResNet and the transformer
    keep all inputs: the comparison does not notice one ReLU in half a million, and the transformer has no ReLU.
    """
    chosen: list[np.ndarray] = []
    while sum(map(len, chosen)) < num:
        x = rng.normal(size=(64, *INPUTS[case.network])).astype(np.float32)
        plain = case.network in ("resnet18", "transformer")
        chosen.append(x if plain else x[smallest_preactivation(params, x) > KINK])
    return np.concatenate(chosen)[:num]


def smallest_preactivation(params: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The smallest |pre-activation| of each example in an MLP or CNN, relative to the layer's root mean square."""
    smallest = np.full(len(x), np.inf)
    for w in list(params.values())[:-1]:
        if w.ndim == 4:
            window = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
            x = np.lib.stride_tricks.sliding_window_view(window, (3, 3), (1, 2)).transpose(0, 1, 2, 4, 5, 3)
            x = x.reshape(*x.shape[:3], -1)
        x = x @ w.reshape(-1, w.shape[-1])
        x /= np.sqrt(np.mean(x**2))
        smallest = np.minimum(smallest, np.min(np.abs(x).reshape(len(x), -1), 1))
        x = np.maximum(x, 0)
    return smallest


def load(path: str) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray | None]:
    """The weights, the inputs, and the other inputs if there are any."""
    with np.load(path) as arrays:
        params = {name: arrays[name] for name in arrays.files if name not in ("x1", "x2")}
        return params, arrays["x1"], arrays["x2"] if "x2" in arrays.files else None


def contractions(case: Case) -> dict[str, Contraction]:
    """The cheaper of two orders for each parameter: over pairs of positions, or with gradients that are formed."""
    found = {}
    for layer in layers(case.network, case.num_outputs):
        vectors = [f"{layer.name}.b"] * (layer.bias or layer.norm) + [f"{layer.name}.w"] * layer.norm
        found |= {name: _contraction(case, 1, 1, layer.fan_out) for name in vectors}
        if not layer.norm:
            found[f"{layer.name}.w"] = _contraction(case, layer.positions, layer.rows, layer.fan_out)
    return found


def _contraction(case: Case, t: int, i: int, j: int) -> Contraction:
    n, m, o = case.n, case.columns, case.num_outputs
    if case.outputs == "all":
        pairs = [(n * t, i, m * t), (n * o * t, j, m * o * t)]
        gradients = [(n * o, i * j, m * o)]
    else:
        pairs = [(n * t, i, m * t), (n * t, o * j, m * t)]
        gradients = [(n, o * i * j, m)]
    forming = (n + m) * o * t * i * j
    if sum(map(math.prod, pairs)) <= forming + sum(map(math.prod, gradients)):
        return Contraction(False, pairs)
    return Contraction(True, gradients)


def multiplications(case: Case) -> float:
    """The multiplications that the kernel needs: the passes, the gradients that are formed, half a symmetric matrix."""
    formed = contractions(case)
    first, *_ = found = layers(case.network, case.num_outputs)
    passes = 0.0
    for layer in found:
        once = 0 if layer.norm else layer.positions * layer.rows * layer.fan_out
        backward = (layer is not first) + formed[f"{layer.name}.w"].formed
        passes += case.examples * once * (1 + backward * case.num_outputs)
    if case.network == "transformer":  # two products of attention, each with two in the backward pass
        passes += case.examples * 2 * 32 * 32 * 64 * (1 + 2 * case.num_outputs)
    products = sum(math.prod(product) for each in formed.values() for product in each.products)
    return passes + products * (1.0 if case.m else 0.5)
