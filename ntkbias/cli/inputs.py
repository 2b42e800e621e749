"""The data, the domain and the network that the options name.

>>> from ntkbias.cli.inputs import inputs
>>> from ntkbias.cli.options import SpectrumOptions
>>> inputs(SpectrumOptions(data="circle", num_examples=8)).x.shape
(8, 2)
"""

import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias import __version__, datasets, nets
from ntkbias.cli.options import Architecture, Options
from ntkbias.domains import Circle, Domain, Images, PointCloud
from ntkbias.errors import InputError
from ntkbias.layers import Layer
from ntkbias.memory import default_memory_budget
from ntkbias.types import Params

__all__ = ["Inputs", "initialized", "inputs", "network", "settings"]

DEFAULT_EXAMPLES = 2_000  # of mnist and cifar10


class Inputs(NamedTuple):
    """The data of a run: inputs, their quadrature weights, their labels or targets, and their domain."""

    x: Array
    weights: Array | None
    y: np.ndarray | None
    domain: Domain

    @property
    def labeled(self) -> bool:
        """Whether y holds labels: one whole number per input."""
        return self.y is not None and self.y.ndim == 1 and self.y.dtype.kind in "iub"

    @property
    def targets(self) -> Array | None:
        """The targets, each shifted to mean zero: the one-hot columns of the labels, or the values y."""
        if self.y is None:
            return None
        columns = datasets.one_hot(self.y) if self.labeled else self.y.astype(np.float32)
        return jnp.asarray(columns - columns.mean(0))


def inputs(options: Options, split: datasets.Split = "train", num_examples: int | None = None) -> Inputs:
    """The data that the options name.

    `split` counts for mnist and cifar10. `num_examples` overrides the option: it is the number of --test-examples.
    """
    count = options.num_examples if num_examples is None else num_examples
    if options.data == "circle":
        circle = Circle()
        x, weights = circle.quadrature(256 if count is None else count)
        return Inputs(x, weights, None, circle)
    try:
        data = _read(options, split, count)
    except InputError as error:
        if not str(error).startswith("Expected 1 to "):
            raise
        option = "--num-examples" if num_examples is None else "--test-examples"
        raise InputError(f"{error} Change {option}.") from None
    x, y = jnp.asarray(data.x), data.y
    domain: Domain = Images() if x.ndim == 4 else PointCloud()
    domain.check(x)
    return Inputs(x, None, y, domain)


def _read(options: Options, split: datasets.Split, count: int | None) -> datasets.Dataset:
    """The arrays of a data set or of a file."""
    if options.data == "digits":
        return datasets.digits(count, seed=options.seed)
    if options.data in ("mnist", "cifar10"):
        if options.folder is None:
            raise InputError(f"Expected --folder with the files of {options.data}; got none.")
        read = datasets.mnist if options.data == "mnist" else datasets.cifar10
        return read(options.folder, split, DEFAULT_EXAMPLES if count is None else count)
    if options.data.endswith(".npz"):
        return datasets.from_file(options.data, count)
    raise InputError(
        f"Expected --data to be digits, circle, mnist, cifar10 or the path of an .npz file; got {options.data!r}."
    )


def network(options: Options, architecture: Architecture, input_shape: tuple[int, ...], num_outputs: int = 1) -> Layer:
    """The network that the options describe, for inputs of this shape. Raises `InputError` if they do not fit it."""
    if architecture != "mlp" and len(input_shape) != 3:
        raise InputError(
            f"Expected images (n, height, width, channels) for {architecture}; got inputs of shape "
            f"(n, {', '.join(map(str, input_shape))}). Use mlp."
        )
    if not 0 <= options.b_std < float("inf"):
        raise InputError(f"Expected --b-std to be zero or more; got {options.b_std}.")
    shared: dict[str, Any] = {
        "width": options.width,
        "depth": options.depth,
        "num_outputs": num_outputs,
        "activation": options.activation,
        "b_std": options.b_std or None,
        "parameterization": options.parameterization,
    }
    readout: nets.Readout = "pool" if architecture == "cnn-pool" else "flatten"
    net = nets.mlp(**shared) if architecture == "mlp" else nets.cnn(**shared, readout=readout)
    net.output_shape(input_shape)  # which raises if the network cannot take the inputs
    return net


def initialized(options: Options, net: Layer, input_shape: tuple[int, ...], num_runs: int | None = None) -> Params:
    """Random parameters of one network or of several runs. Raises `InputError` if they do not fit in memory."""
    key = jax.random.key(options.seed)
    if options.width >= 2**31:
        raise InputError(f"Expected --width below 2^31; got {options.width}.")
    shapes = jax.tree.leaves(jax.eval_shape(lambda: net.init(key, input_shape)))
    num_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in shapes) * (num_runs or 1)
    if num_bytes > 2 * default_memory_budget():  # half of the memory; without memory, the system ends the process
        raise InputError(
            f"Expected a network that fits in memory; got parameters of {num_bytes / 1e9:,.0f} GB. "
            "Choose a smaller --width, or for spectra --limit infinite."
        )
    if num_runs is None:
        return net.init(key, input_shape)
    return jax.vmap(lambda key: net.init(key, input_shape))(jax.random.split(key, num_runs))


def settings(options: Options, command: str) -> dict[str, Any]:
    """Everything that the results depend on, in a form that JSON can store."""
    packages = ("jax", "jaxlib", "equinox", "numpy", "scipy", "scikit-learn")
    chosen = {name: str(value) if isinstance(value, Path) else value for name, value in vars(options).items()}
    return {
        "command": command,
        "options": chosen,
        "versions": {
            "python": platform.python_version(),
            "ntkbias": __version__,  # also if the package runs from a folder where it is not installed
            **{name: version(name) for name in packages},
        },
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "precision": str(jnp.result_type(float)),
    }
