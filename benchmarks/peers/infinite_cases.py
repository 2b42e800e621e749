"""Infinite-width networks as nested tuples, which each library turns into its own layers.

    ("dense",), ("conv", window, stride), ("relu",), ("average", window), ("flatten",), ("pool",),
    ("residual", branch, shortcut)      two tuples of layers, whose outputs are added

Convolutions pad with zeros to the same size. Weights have standard deviation sqrt 2, and there are no biases.
"""

import dataclasses
import math

RELU, FLATTEN, POOL, DENSE = ("relu",), ("flatten",), ("pool",), ("dense",)


def conv(window: int = 3, stride: int = 1) -> tuple:
    return ("conv", window, stride)


def block(stride: int = 1) -> tuple:
    """A pre-activation block of two convolutions. If it changes the size, its shortcut does too."""
    return ("residual", (RELU, conv(3, stride), RELU, conv()), () if stride == 1 else (conv(3, stride),))


NETS = {
    "mlp": (FLATTEN, *3 * (DENSE, RELU), DENSE),
    "cnn_flatten": (*3 * (conv(), RELU), FLATTEN, DENSE),
    "cnn_pooled": (*3 * (conv(), RELU), POOL, DENSE),
    "resnet": (conv(), block(), block(2), block(2), RELU, FLATTEN, DENSE),
    "resnet_pooled": (conv(), block(), block(2), block(2), RELU, POOL, DENSE),
    "myrtle5": (
        *2 * (conv(), RELU),
        ("average", 2),
        *(conv(), RELU, ("average", 2)),
        *(conv(), RELU, ("average", 2)),
        POOL,
        DENSE,
    ),
}


@dataclasses.dataclass(frozen=True)
class Case:
    """The NTK of one network between `n` inputs, or with `m` others."""

    name: str
    net: str
    shape: tuple[int, ...]
    n: int
    m: int = 0
    group: str = "standard"  # "standard" includes "quick", and "all" includes both

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))  # it is a list if it came as JSON

    @property
    def pairs(self) -> int:
        """The number of pairs of inputs whose kernel is needed."""
        return self.n * self.m if self.m else self.n * (self.n + 1) // 2


CASES = [
    Case("MLP 3, n = 2000", "mlp", (64,), 2000, group="quick"),
    Case("MLP 3, 2000 x 1000", "mlp", (64,), 2000, 1000),
    Case("CNN flatten 3, 16 x 16, n = 200", "cnn_flatten", (16, 16, 3), 200, group="quick"),
    Case("CNN flatten 3, 16 x 16, 200 x 100", "cnn_flatten", (16, 16, 3), 200, 100),
    Case("CNN pooled 3, 8 x 8, n = 100", "cnn_pooled", (8, 8, 3), 100, group="quick"),
    Case("CNN pooled 3, 16 x 16, n = 32", "cnn_pooled", (16, 16, 3), 32),
    Case("CNN pooled 3, 16 x 16, 16 x 32", "cnn_pooled", (16, 16, 3), 16, 32),
    Case("ResNet flatten, 32 x 32, n = 100", "resnet", (32, 32, 3), 100),
    Case("ResNet pooled, 16 x 16, n = 16", "resnet_pooled", (16, 16, 3), 16),
    Case("Myrtle-5, 16 x 16, n = 16", "myrtle5", (16, 16, 3), 16),
    Case("Myrtle-5, 32 x 32, n = 4", "myrtle5", (32, 32, 3), 4, group="all"),
    Case("CNN pooled 3, 16 x 16, n = 100", "cnn_pooled", (16, 16, 3), 100, group="all"),
]

BYTES = 4


def entries(net: tuple, positions: tuple[int, ...], pooled: bool) -> tuple[int, tuple[int, ...]]:
    """The number of covariance entries per pair of inputs, summed over the layers, and the positions at the end."""
    total, power = 0, 2 if pooled else 1
    for kind, *arguments in net:
        if kind == "residual":
            inner, after = entries(arguments[0], positions, pooled)
            shortcut, _ = entries(arguments[1], positions, pooled)
            positions, total = after, total + inner + shortcut
        elif kind in ("flatten", "pool"):
            positions = ()
        else:
            stride = arguments[-1] if kind in ("conv", "average") else 1
            positions = tuple(-(-size // stride) for size in positions)
        total += math.prod(positions) ** power
    return total, positions


def fewest_bytes(case: Case) -> int:
    """The bytes that move if every layer reads and writes its two kernels once, without any cache."""
    net = NETS[case.net]
    pooled = any(kind == "pool" for kind, *_ in net)
    positions = () if net[0] == FLATTEN else case.shape[:-1]
    return 2 * 2 * BYTES * case.pairs * entries(net, positions, pooled)[0]
