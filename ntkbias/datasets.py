"""Real inputs with labels, as arrays.

>>> from ntkbias import datasets
>>> x, y = datasets.digits()
>>> x.shape, y.shape
((1797, 8, 8, 1), (1797,))
"""

import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import sklearn.datasets
from jaxtyping import Float, Num

from ntkbias.types import InputError

__all__ = ["Dataset", "digits", "from_file", "one_hot"]


class Dataset(NamedTuple):
    """Inputs `(n, ...)` and labels or targets `(n,)` or `(n, t)`; y is None where there are none."""

    x: Float[np.ndarray, "n ..."]
    y: Num[np.ndarray, "n *t"] | None


def digits(num_examples: int | None = None, *, seed: int = 0) -> Dataset:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships, `(n, 8, 8, 1)`, with labels 0 to 9.

    Pixels are shifted and scaled together to mean zero and variance one over the whole set. `num_examples` takes a
    random part, drawn by `seed`.
    """
    bunch = sklearn.datasets.load_digits()
    images = bunch.images.astype(np.float32)[..., None]
    x, y = (images - images.mean()) / images.std(), bunch.target
    if num_examples is None:
        return Dataset(x, y)
    if not 1 <= num_examples <= len(x):
        raise InputError(f"Expected 1 to {len(x)} examples of the digits; got {num_examples}.")
    chosen = np.random.default_rng(seed).permutation(len(x))[:num_examples]
    return Dataset(x[chosen], y[chosen])


def from_file(path: str | Path, num_examples: int | None = None) -> Dataset:
    """The arrays `x`, made floating-point, and `y`, if there, of an .npz file; the first `num_examples` of them."""
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in ("x", "y") if name in file}
    except FileNotFoundError:
        raise InputError(f"Expected a file of arrays at {path}; there is none.") from None
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
        reason = "it is no archive of arrays" if reason.startswith("Cannot load file") else reason
        raise InputError(
            f"Expected {path} to be an .npz file of plain arrays; it cannot be read: {reason}. Write it by numpy.savez."
        ) from None
    if "x" not in arrays:
        raise InputError(f"Expected an array named x in {path}; got none. Write it by numpy.savez(path, x=x, y=y).")
    x, y = arrays["x"], arrays.get("y")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"Expected numbers in {name} of {path}; got {array.dtype}.")
    if x.ndim < 2 or x.size == 0:
        raise InputError(
            f"Expected x of {path} to be (n, ...), with two axes or more and something in each; got shape {x.shape}."
        )
    if y is not None and (y.ndim not in (1, 2) or len(y) != len(x)):
        raise InputError(f"Expected one label for each of {len(x)} inputs in y of {path}; got shape {y.shape}.")
    if num_examples is not None:
        if not 1 <= num_examples <= len(x):
            raise InputError(f"Expected 1 to {len(x)} examples of {path}; got {num_examples}.")
        x, y = x[:num_examples], None if y is None else y[:num_examples]
    x = x if x.dtype.kind == "f" else x.astype(np.float32)
    for name, array in (("x", x), ("y", y)):
        with np.errstate(over="ignore"):
            finite = array is None or np.isfinite(array.astype(np.float32)).all()
        if not finite:
            raise InputError(
                f"Expected finite numbers in {name} of {path}; got NaN, infinity, or some beyond float32. "
                "Remove those rows, or rescale."
            )
    return Dataset(x, y)


def one_hot(labels: Num[np.ndarray, " n"]) -> Float[np.ndarray, "n t"]:
    """One column for each of the different labels, in their order: 1 where an example has it, else 0."""
    return (np.asarray(labels)[:, None] == np.unique(labels)).astype(np.float32)
