"""Real inputs with labels as arrays, from scikit-learn or from your own files.

>>> from ntkbias import datasets
>>> x, y = datasets.digits()
>>> x.shape, y.shape
((1797, 8, 8, 1), (1797,))
"""

import gzip
import lzma
import math
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Num

from ntkbias.checks import in_native_order, require_choice, require_positive, require_seed
from ntkbias.errors import InputError
from ntkbias.files import Unreadable, opened, read_array, read_arrays, reason_of
from ntkbias.memory import default_memory_budget

__all__ = ["Dataset", "Split", "cifar10", "digits", "from_file", "mnist", "one_hot"]


def __dir__() -> list[str]:
    return sorted(__all__)


Split = Literal["train", "test"]
OPENERS: dict[str, Callable[[Any], Any]] = {"": lambda file: file, ".gz": gzip.open, ".xz": lzma.open}
MEMORY_SHARE = 2  # a file's arrays may take, unpacked, this many times the memory budget: half of the memory
CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes


class Dataset(NamedTuple):
    """Inputs `(n, ...)`, and labels or targets `(n,)` or `(n, t)`. y is None if there are none.

    >>> import ntkbias as nb
    >>> data = nb.datasets.digits(10)
    >>> type(data).__name__, data.x.shape
    ('Dataset', (10, 8, 8, 1))
    """

    x: Float[np.ndarray, "n ..."]
    y: Num[np.ndarray, "n *t"] | None


def digits(num_examples: int | None = None, *, seed: int = 0) -> Dataset:
    """The 1,797 handwritten digits of 8 x 8 pixels that scikit-learn ships, `(n, 8, 8, 1)`, with labels 0 to 9.

    One shift and one scale bring all pixels to mean zero and variance one over the whole set. `num_examples` selects a
    random subset, drawn by `seed`.

    >>> import ntkbias as nb
    >>> x, labels = nb.datasets.digits(100)
    >>> x.shape, labels.shape
    ((100, 8, 8, 1), (100,))
    """
    import sklearn.datasets  # it takes long to load

    require_seed("seed", seed)
    bunch = sklearn.datasets.load_digits()
    images = bunch.images.astype(np.float32)[..., None]
    x, y = (images - images.mean()) / images.std(), bunch.target
    if num_examples is None:
        return Dataset(x, y)
    _require_so_many(num_examples, len(x), "the digits")
    chosen = np.random.default_rng(seed).permutation(len(x))[:num_examples]
    return Dataset(x[chosen], y[chosen])


def mnist(folder: str | Path, split: Split = "train", num_examples: int | None = None) -> Dataset:
    """The handwritten digits of MNIST, `(n, 28, 28, 1)`, with labels 0 to 9 (LeCun, Cortes and Burges 1998).

    `folder` holds the published files with the images and the labels of the split (`train-images-idx3-ubyte` and
    `train-labels-idx1-ubyte`, `t10k-...` for the test split), plain or ending in .gz or .xz. Other data sets in these
    formats, such as Fashion-MNIST, can be read too. `num_examples` takes the first ones. One shift and one scale bring
    all pixels to mean zero and variance one over the whole split.

    Raises `InputError` if a file is missing, truncated or of another kind.

    >>> import ntkbias as nb
    >>> nb.datasets.mnist("no such folder")
    Traceback (most recent call last):
        ...
    ntkbias.errors.InputError: Expected a folder of data files at no such folder; got none.
    """
    require_choice("split", split, Split)
    prefix = {"train": "train", "test": "t10k"}[split]
    images = _idx(_found(folder, f"{prefix}-images-idx3-ubyte"), (28, 28))
    labels = _idx(_found(folder, f"{prefix}-labels-idx1-ubyte"), ())
    if len(images) != len(labels):
        raise InputError(
            f"Expected as many labels as images in {folder}; got {len(labels)} and {len(images)}. "
            "Take both files from the same source."
        )
    return _standardized(images[..., None], labels, num_examples, folder)


def cifar10(folder: str | Path, split: Split = "train", num_examples: int | None = None) -> Dataset:
    """The small photographs of CIFAR-10, `(n, 32, 32, 3)`, with labels 0 to 9 (Krizhevsky 2009).

    `folder` holds the binary version: files `data_batch_*.bin` or `train*.bin` for the training split and `test*.bin`
    for the test split, plain or ending in .gz or .xz. They are read in the order of their names. `num_examples` takes
    the first ones. One shift and one scale bring all pixels to mean zero and variance one over the whole split.

    Raises `InputError` if files are missing, truncated or of another kind.

    >>> import ntkbias as nb
    >>> nb.datasets.cifar10("no such folder")
    Traceback (most recent call last):
        ...
    ntkbias.errors.InputError: Expected a folder of data files at no such folder; got none.
    """
    patterns = {"train": ("data_batch_*.bin", "train*.bin"), "test": ("test*.bin",)}
    require_choice("split", split, Split)
    paths = [path for pattern in patterns[split] for path in _matching(folder, pattern)]
    if not paths:
        raise InputError(
            f"Expected files {' or '.join(patterns[split])}, plain or ending in .gz or .xz, in {folder}; got none. "
            "They are published as the binary version of CIFAR-10; give the folder inside the archive."
        )
    records = np.concatenate([_cifar_records(path) for path in paths])
    pixels = records[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
    return _standardized(pixels, records[:, 0], num_examples, folder)


def from_file(path: str | Path, num_examples: int | None = None) -> Dataset:
    """The arrays `x` (converted to floating point) and `y` (if present) of an .npz file, or the x of an .npy file.

    `num_examples` takes the first ones. Raises `InputError` if the file is missing, damaged, too large for the memory,
    or does not hold such arrays.

    >>> import tempfile, ntkbias as nb, numpy as np
    >>> path = tempfile.mkdtemp() + "/data.npz"
    >>> np.savez(path, x=np.zeros((4, 2)), y=np.arange(4))
    >>> nb.datasets.from_file(path).x.shape
    (4, 2)
    """
    path, advice = Path(path), "Write it by numpy.savez(path, x=x, y=y)."
    most = MEMORY_SHARE * default_memory_budget()
    try:
        if path.suffix == ".npy":
            advice = "Write it by numpy.save(path, x)."
            arrays = {"x": read_array(path, "an .npy file of one plain array", most)}
        else:
            arrays = read_arrays(path, "an .npz file of plain arrays", ("x", "y"), most=most)
    except Unreadable as error:
        if error.missing:
            raise InputError(f"Expected a file of arrays at {path}; there is none.") from None
        raise InputError(f"{error} {advice}") from error
    if "x" not in arrays:
        raise InputError(f"Expected an array named x in {path}; got none. {advice}")
    x, y = arrays["x"], arrays.get("y")
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise InputError(f"Expected numbers in {name} of {path}; got {array.dtype}.")
    if x.ndim < 2 or x.size == 0:
        raise InputError(
            f"Expected x of {path} to be (n, ...), with two axes or more and none empty; got shape {x.shape}."
        )
    if y is not None and (y.ndim not in (1, 2) or len(y) != len(x)):
        raise InputError(f"Expected one label for each of {len(x)} inputs in y of {path}; got shape {y.shape}.")
    if num_examples is not None:
        _require_so_many(num_examples, len(x), path)
        x, y = x[:num_examples], None if y is None else y[:num_examples]
    x = in_native_order(x if x.dtype.kind == "f" else x.astype(np.float32))  # also at most float64
    y = None if y is None else in_native_order(y)
    for name, values in (("x", x), ("y", y)):
        with np.errstate(over="ignore"):
            finite = values is None or np.isfinite(values.astype(np.float32)).all()
        if not finite:
            raise InputError(
                f"Expected finite numbers in {name} of {path}; got NaN, infinity, or numbers too large for float32. "
                "Remove those rows, or rescale."
            )
    return Dataset(x, y)


def one_hot(labels: Num[np.ndarray, " n"]) -> Float[np.ndarray, "n t"]:
    """One column per distinct label, in ascending order: 1 for the examples with this label, else 0.

    >>> import ntkbias as nb, numpy as np
    >>> nb.datasets.one_hot(np.array([3, 7, 3])).tolist()
    [[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]
    """
    return (np.asarray(labels)[:, None] == np.unique(labels)).astype(np.float32)


def _require_so_many(num_examples: int, available: int, place: str | Path) -> None:
    """Raise an `InputError` unless so many examples are available; the command line adds its option to the message."""
    if isinstance(num_examples, bool) or not isinstance(num_examples, int | np.integer):
        require_positive("num_examples", num_examples)  # which says that it is no whole number
    if not 1 <= num_examples <= available:
        raise InputError(f"Expected 1 to {available} examples of {place}; got {num_examples}.")


def _standardized(images: np.ndarray, labels: np.ndarray, num_examples: int | None, place: str | Path) -> Dataset:
    """The first examples of a split, with pixels standardized over the whole split.

    A subset therefore has the same values as in the whole split.
    """
    if num_examples is not None:
        require_positive("num_examples", num_examples)
        _require_so_many(num_examples, len(images), place)
    counts = sum(np.bincount(image.reshape(-1), minlength=256) for image in images)  # exact, and needs no float copy
    mean, square = (np.average(np.arange(256.0) ** power, weights=counts) for power in (1, 2))
    x = images[:num_examples].astype(np.float32)
    x -= np.float32(mean)
    x /= np.float32((square - mean**2) ** 0.5 or 1.0)  # images of a single gray value become zero
    return Dataset(np.ascontiguousarray(x), labels[:num_examples].astype(np.int64))


def _matching(folder: str | Path, pattern: str) -> list[Path]:
    """The files of a folder that match, plain or compressed, in the order of their names and each once."""
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"Expected a folder of data files at {folder}; got {'a file' if folder.exists() else 'none'}.")
    found: dict[str, Path] = {}
    for suffix in OPENERS:
        for path in folder.glob(pattern + suffix):
            found.setdefault(path.name.removesuffix(suffix), path)
    return [found[name] for name in sorted(found)]


def _found(folder: str | Path, name: str) -> Path:
    paths = _matching(folder, name)
    if not paths:
        raise InputError(
            f"Expected {name}, plain or ending in .gz or .xz, in {folder}; got no such file. It is published as part "
            "of the MNIST database of handwritten digits."
        )
    return paths[0]


def _content(path: Path) -> bytes:
    """The bytes of a file, plain or compressed. Raises `InputError` if it is unreadable or too large for the memory."""
    most = MEMORY_SHARE * default_memory_budget()
    try:
        with opened(path, "a file of data") as file, OPENERS.get(path.suffix, OPENERS[""])(file) as unpacked:
            content = unpacked.read(most + 1)
        reason = f"it unpacks to more than {most:,} bytes" if len(content) > most else None
    except Unreadable as error:
        reason = error.reason
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        reason = reason_of(error)
    if reason is not None:
        raise InputError(f"Expected to read {path}; got: {reason}. Fetch the file again.")
    return content


def _idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """The examples in a file in the idx format: bytes 0, 0, 8, the number of axes, big-endian sizes, and the data."""
    content, num_axes = _content(path), 1 + len(shape)
    magic = bytes((0, 0, 8, num_axes))
    if content[:4] != magic:
        raise InputError(
            f"Expected {path} to begin with {magic.hex(' ')}, as idx files of {num_axes} axes of bytes do; got "
            f"{content[:4].hex(' ') or 'nothing'}. Fetch the file again."
        )
    start = 4 + 4 * num_axes
    sizes = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if sizes[1:] != shape or sizes[0] == 0:
        raise InputError(f"Expected {path} to hold examples of shape {shape}; got sizes {sizes}. It is something else.")
    if len(content) != start + math.prod(sizes):
        raise InputError(
            f"Expected {math.prod(sizes)} bytes after the header of {path}; got {len(content) - start}. It is cut "
            "short, or damaged: fetch the file again."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(sizes)


def _cifar_records(path: Path) -> np.ndarray:
    """The records of one file, `(n, 3073)`: a label, then the red, green and blue pixels, each row by row."""
    content = _content(path)
    if not content or len(content) % CIFAR_RECORD:
        raise InputError(
            f"Expected records of {CIFAR_RECORD} bytes in {path}; got {len(content)} bytes, no multiple of that. It is "
            "cut short, or something else: fetch the file again."
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, CIFAR_RECORD)
    if records[:, 0].max() > 9:
        raise InputError(f"Expected labels from 0 to 9 in {path}; got {records[:, 0].max()}. It is something else.")
    return records
