"""The data and the domain that the options name.

>>> from ntkbias.cli.inputs import inputs
>>> from ntkbias.cli.options import SpectrumOptions
>>> inputs(SpectrumOptions(data="circle", num_examples=8)).x.shape
(8, 2)
"""

import difflib
import hashlib
import json
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ntkbias import __version__, datasets, domains
from ntkbias.cli.groups import DATA, DOMAINS, DataOptions
from ntkbias.domains import Domain, HarmonicDomain, Images, PointCloud
from ntkbias.errors import InputError

__all__ = ["Inputs", "domain_names", "domain_of", "inputs", "settings"]

DEFAULT_EXAMPLES = 2_000  # of mnist and cifar10
DEFAULT_NODES = 256  # on a domain
MAKERS: dict[str, tuple[Callable[..., HarmonicDomain], int | None]] = {  # and the number that a name alone stands for
    "circle": (domains.Circle, None),
    "torus": (domains.Torus, 2),
    "sphere": (domains.Sphere, 3),
    "cube": (domains.Hypercube, 8),
    "gaussian": (domains.Gaussian, 2),
}


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
        """The targets, each shifted to mean zero: one-hot columns of labels, or values. None if they are constant."""
        if self.y is None:
            return None
        columns = datasets.one_hot(self.y) if self.labeled else self.y.astype(np.float32)
        shifted = columns - columns.mean(0)
        return jnp.asarray(shifted) if np.ptp(columns, 0).any() else None

    @property
    def digest(self) -> str:
        """SHA-256 of all numbers: a later command recognizes the same data by it."""
        found = hashlib.sha256(repr(self.domain).encode())
        for array in (self.x, self.weights, self.y):
            values = np.asarray(array)
            found.update(f"{values.shape} {values.dtype}".encode())
            found.update(np.ascontiguousarray(values).tobytes() if values.dtype != object else b"none")
        return found.hexdigest()


def domain_names() -> list[str]:
    """The domains as the options name them, each with the number that a name alone stands for."""
    return [name if number is None else f"{name}:{number}" for name, (_, number) in MAKERS.items()]


def domain_of(name: str) -> HarmonicDomain | None:
    """The domain that a name stands for, as sphere:3; None if it is no domain. Raises `InputError` on a bad number."""
    kind, colon, number = name.partition(":")
    if kind not in MAKERS:
        return None
    make, default = MAKERS[kind]
    if not colon:
        return make() if default is None else make(default)
    if default is None:
        raise InputError(f"Expected {kind} without a number; got {name!r}.")
    if not (number.isascii() and number.isdigit() and 1 <= int(number[:9]) < 10**6):
        raise InputError(f"Expected a whole number after {kind}:, as {kind}:{default}; got {name!r}.")
    return make(int(number))


def inputs(
    options: DataOptions, split: datasets.Split = "train", num_examples: int | None = None, equal_weights: bool = False
) -> Inputs:
    """The data that the options name.

    `split` counts for mnist and cifar10. `num_examples` overrides the option: it is the number of --test-examples.
    `equal_weights` draws inputs from a domain at random, by --seed, if the weights of its quadrature are not equal.
    """
    count = options.num_examples if num_examples is None else num_examples
    if (harmonic := domain_of(options.data)) is not None:
        count = DEFAULT_NODES if count is None else count
        x, weights = harmonic.quadrature(count)
        if equal_weights and np.ptp(np.asarray(weights)) * len(x) > 1e-6:
            x = harmonic.sample(count, key=jax.random.key(getattr(options, "seed", 0)))
            weights = jnp.full(len(x), 1 / len(x))
        return Inputs(x, weights, None, harmonic)
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


def _read(options: DataOptions, split: datasets.Split, count: int | None) -> datasets.Dataset:
    """The arrays of a data set or of a file."""
    if options.data == "digits":
        return datasets.digits(count, seed=getattr(options, "seed", 0))
    if options.data in ("mnist", "cifar10"):
        if options.folder is None:
            raise InputError(f"Expected --folder with the files of {options.data}; got none.")
        read = datasets.mnist if options.data == "mnist" else datasets.cifar10
        return read(options.folder, split, DEFAULT_EXAMPLES if count is None else count)
    if options.data.endswith((".npz", ".npy")):
        return datasets.from_file(options.data, count)
    names = [*DATA, *domain_names()]
    likely = difflib.get_close_matches(options.data.partition(":")[0], (*DATA, *DOMAINS), 1)
    hint = f" Perhaps you meant {likely[0]}." if likely else ""
    raise InputError(
        f"Expected --data to be {', '.join(names)} or the path of an .npz or .npy file; got {options.data!r}.{hint}"
    )


def settings(options: Any, command: str, data: Inputs | None = None) -> dict[str, Any]:
    """Everything that the results depend on, in a form that JSON can store."""
    packages = ("jax", "jaxlib", "equinox", "numpy", "scipy", "scikit-learn")
    chosen = {name: _plain(value) for name, value in vars(options).items()}
    found = {
        "command": command,
        "options": chosen,
        "versions": {
            "python": platform.python_version(),
            "ntkbias": __version__,  # also if the package runs from a folder where it is not installed
            **{name: version(name) for name in packages},
        },
        "device": f"{jax.devices()[0].device_kind} ({jax.default_backend()})",
        "precision": str(jnp.result_type(float)),
        **({} if data is None else {"inputs": data.digest}),
    }
    return json.loads(json.dumps(found))


def _plain(value: Any) -> Any:
    """A path as text, and a tuple of one value as that value."""
    if isinstance(value, Path):
        return str(value)
    return value[0] if isinstance(value, tuple) and len(value) == 1 else value
