"""The manifest of a Gram matrix on disk: a JSON file with everything that the values depend on, by name.

Arrays are recorded by their SHA-256, and structure as text. Functions cannot be compared, so the manifest also records
the kernel of a few inputs (see `probes`). It has no times, process ids or paths, so the same matrix always has the same
manifest.

>>> import jax.numpy as jnp, ntkbias as nb
>>> from ntkbias.kernels.disk.manifest import checked_inputs, description
>>> kernel = nb.infinite_ntk(nb.nets.mlp(depth=1))
>>> list(description(kernel, checked_inputs(kernel, jnp.eye(3), "x1"), None)["of"])[:4]
['x1', 'x2', 'type', 'net']
"""

import dataclasses
import enum
import hashlib
import importlib.metadata
import json
import os
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

from ntkbias.checks import in_native_order, require_array, require_finite
from ntkbias.claims import claimed, require_no_foreign_part
from ntkbias.errors import InputError
from ntkbias.files import PART, StorageError, Unreadable, read_json, reason_of, storage_errors
from ntkbias.kernels.disk.entries import MANIFEST, wrong_entry
from ntkbias.kernels.disk.probes import differ, first_values, probe_values
from ntkbias.kernels.form import SymmetricForm
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.inputs import checked
from ntkbias.kernels.outputs import arrangement

__all__ = [
    "Inputs",
    "begin",
    "checked_inputs",
    "description",
    "listed",
    "manifest_of",
    "require_same_kernel",
    "require_same_versions",
    "rewrite",
]

TYPE = "type"  # the entry for the type of the kernel itself; its parts go by the names of its fields
FORMAT = "ntkbias kernel on disk, 1"
PIECE_BYTES = 2**24  # bytes of inputs that are checked at a time
NOT_IN_VALUES = {"memory_budget", "outputs"}  # static fields that do not change values, or have their own entry


class Inputs(NamedTuple):
    """Inputs in the host's memory or on its disk, and their digest."""

    x: np.ndarray
    digest: str


def checked_inputs(kernel: SymmetricForm, x: Any, name: str) -> Inputs:
    """Check inputs and compute their digest. A `numpy.memmap` is read piece by piece, and not copied.

    Raises the errors that `kernel(x)` raises.
    """
    if not isinstance(x, np.ndarray | jax.Array) or x.ndim < 2 or not x.size:
        x = checked(kernel, x, name)
    x = in_native_order(np.asarray(x))
    length = max(1, PIECE_BYTES // (x.nbytes // len(x)))
    first = np.asarray(checked(kernel, x[:length], name if len(x) <= length else f"{name}[:{length}]"))

    def pieces() -> Iterator[np.ndarray]:
        yield first
        for start in range(length, len(x), length):
            piece = require_array(x[start : start + length], name)
            require_finite(piece, f"{name}[{start}:{start + len(piece)}]")
            yield np.asarray(piece)

    return Inputs(x, _digest(first.dtype, x.shape, pieces()))


def description(kernel: SymmetricForm, inputs1: Inputs, inputs2: Inputs | None) -> dict[str, Any]:
    """The manifest of a Gram matrix, without the shape of blocks. Costs three Gram matrices of two by three inputs."""
    x1, x2 = inputs1.x, (inputs1 if inputs2 is None else inputs2).x
    probe = first_values(kernel, x1, x2)
    if not np.isfinite(probe).all():
        raise InputError(
            "Expected finite values of the kernel of the first inputs; got NaN or infinity. "
            "Check the scale of inputs and parameters."
        )
    shape = list(probe.shape)
    for axis, x in zip(arrangement(kernel.outputs).axes, (x1, x2), strict=True):
        shape[axis] = len(x)
    return {
        "format": FORMAT,
        "outputs": kernel.outputs,
        "shape": shape,
        "dtype": probe.dtype.name,
        "symmetric": inputs2 is None,
        "of": {"x1": inputs1.digest, "x2": None if inputs2 is None else inputs2.digest, **dict(_parts(kernel, ""))},
        "functions": _functions(kernel),
        "first_values": probe.astype(float).ravel().tolist(),
        "probe_values": probe_values(kernel, x1, x2),
        "versions": {
            "ntkbias": _version(),
            "jax": jax.__version__,
            "device": jax.local_devices()[0].device_kind,
        },
    }


def require_same_kernel(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise an `InputError` that names the differences if two manifests describe different kernels or inputs."""
    differences = [
        f"{key} ({there[key]} there, {here[key]} here)"
        for key in ("outputs", "dtype", "shape")
        if there[key] != here[key]
    ]
    one_type = here["of"].get(TYPE) == there["of"].get(TYPE)  # otherwise all fields differ, and are not listed
    for name in dict.fromkeys([*here["of"], *there["of"]]) if one_type else ("x1", "x2", TYPE):
        old, new = there["of"].get(name), here["of"].get(name)
        if old != new:
            differences.append(f"{name} ({_difference(old, new)})")
    if differences:
        raise InputError(
            f"Expected the same kernel as in {folder}, to continue its Gram matrix; got one that differs in "
            f"{listed(differences)}. Choose another folder, or delete that one to begin again."
        )
    tolerance = float(jnp.finfo(there["dtype"]).eps) ** 0.5  # above the rounding of other programs
    for entry, inputs in (("first_values", "the first inputs"), ("probe_values", "some inputs")):
        if entry in there and (found := differ(there[entry], here[entry], tolerance)):
            names = [", ".join(manifest["functions"]) or "no name" for manifest in (there, here)]
            raise InputError(
                f"Expected the same function f as in {folder}, to continue its Gram matrix; got another ({names[0]} "
                f"there, {names[1]} here): the kernel of {inputs} differs by {found[0]:.2g}, and its largest value is "
                f"{found[1]:.2g}. Choose another folder, or delete that one to begin again."
            )
    if "probe_values" not in there and there["functions"]:
        warnings.warn(
            f"Expected the same function f as in {folder}; an earlier version of ntkbias began it, and recorded only "
            "the kernel of the first inputs. That agrees: make sure that f was not changed.",
            stacklevel=3,
        )


def require_same_versions(folder: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise an `InputError` if the missing blocks would be computed by other versions or another device."""
    for name, old in there["versions"].items():
        if (new := here["versions"].get(name)) != old:
            raise InputError(
                f"Expected {name} {old}, which computed the blocks in {folder}, for the missing blocks; got {new}, "
                f"which may round differently. Continue with {old}, or choose another folder."
            )


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """Read the manifest in a folder. None if the folder is absent or empty, so that a Gram matrix can begin there.

    Raises `InputError` if the folder holds anything else or the manifest is damaged, and `StorageError` if it cannot be
    read.
    """
    path = folder / MANIFEST
    try:
        nearest = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not nearest.is_dir():
            raise InputError(f"Expected the path of a folder; got {folder}, but {nearest} is a file.")
        if not os.path.lexists(path):
            if not folder.exists() or not set(os.listdir(folder)) - {MANIFEST + PART}:
                require_no_foreign_part(path, begins='{\n "format": ' + json.dumps(FORMAT))
                return None
            raise InputError(
                f"Expected a new or empty folder, or a Gram matrix on disk, at {folder}; got a folder with other files "
                f"and no {MANIFEST}. Choose another."
            )
        manifest = read_json(path, "a manifest")
        kind = manifest["format"]
        if kind == FORMAT:
            if wrong := wrong_entry(manifest):
                raise ValueError(wrong)
            return manifest
    except Unreadable as error:
        kind = f"one that cannot be read: {error.reason}"
    except OSError as error:
        raise StorageError(f"Expected to read {path}; got: {reason_of(error)}. Check its permissions.") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        kind = f"one that cannot be read: {reason_of(error)}"
    raise InputError(
        f"Expected a manifest of the format {FORMAT!r} in {folder}; got {kind}. Choose another folder, or delete that "
        "one to begin again."
    )


def begin(folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
    """Begin a folder with a manifest, and return the manifest there, which may be that of a faster process."""
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with claimed(folder / MANIFEST, wait=True) as claim:
        if claim is not None and not (folder / MANIFEST).exists():
            claim.write(_json(manifest))
    there = manifest_of(folder)
    if there is None:
        raise StorageError(f"Expected {folder / MANIFEST} to stay; it is gone. Make the same call again.")
    return there


def rewrite(folder: Path, manifest: dict[str, Any]) -> None:
    """Replace the manifest in a folder."""
    with claimed(folder / MANIFEST, wait=True) as claim:
        if claim is not None:
            claim.write(_json(manifest))


def listed(names: Iterable[str]) -> str:
    """The first five names, and the number of further ones, as text."""
    names = list(names)
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _json(manifest: dict[str, Any]) -> bytes:
    return (json.dumps(manifest, indent=1) + "\n").encode()


def _parts(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """Yield everything that the values of a kernel depend on, by name: arrays as digests, structure as text."""
    if isinstance(value, eqx.Module):
        if not isinstance(value, Gradients):
            yield name or TYPE, type(value).__qualname__
        for field in dataclasses.fields(value):
            part = getattr(value, field.name)
            # Users do not see the `Gradients` of a kernel, so its fields go by the names of the kernel's own.
            inner = name if isinstance(part, Gradients) else f"{name}.{field.name}".lstrip(".")
            if not field.metadata.get("static", False):
                yield from _parts(part, inner)
            elif field.name not in NOT_IN_VALUES and (text := _text(part)) is not None:
                yield inner, text
        return
    for path, leaf in jax.tree_util.tree_leaves_with_path(value, is_leaf=lambda item: isinstance(item, eqx.Module)):
        inner = name + jax.tree_util.keystr(path)
        if isinstance(leaf, eqx.Module):
            yield from _parts(leaf, inner)
        elif eqx.is_array_like(leaf):
            array = np.asarray(jnp.asarray(leaf))
            yield inner, _digest(array.dtype, array.shape, [array])


def _text(value: Any) -> str | None:
    """A value without arrays as text that is the same in all processes. None for other values, such as functions."""
    if value is None or isinstance(value, bool | int | float | str | enum.Enum):
        return repr(value)
    if isinstance(value, tuple | list):
        items = [_text(item) for item in value]
        return None if None in items else f"({', '.join(map(str, items))})"
    return None


def _functions(kernel: eqx.Module) -> list[str]:
    """The names of a kernel's functions, as a hint in messages."""
    names = []
    for field in dataclasses.fields(kernel):
        value = getattr(kernel, field.name)
        if isinstance(value, SymmetricForm | Gradients):
            names += _functions(value)
        elif callable(value) and hasattr(value, "__qualname__"):
            names.append(f"{value.__module__}.{value.__qualname__}")
    return names


def _digest(dtype: Any, shape: tuple[int, ...], pieces: Iterable[np.ndarray]) -> str:
    """The type, shape and checksum of an array that is given in pieces, as text."""
    digest = hashlib.sha256()
    for piece in pieces:
        digest.update(np.ascontiguousarray(piece).reshape(-1).view(np.uint8).data)
    return f"{np.dtype(dtype).name} {tuple(shape)}, sha256 {digest.hexdigest()}"


def _difference(there: str | None, here: str | None) -> str:
    """Describe the difference of two entries: their types and shapes, or "other values" if these are equal."""
    old, new = ("none" if text is None else text.partition(", sha256 ")[0] for text in (there, here))
    return "other values" if old == new else f"{old} there, {new} here"


def _version() -> str:
    try:
        return importlib.metadata.version(__name__.partition(".")[0])
    except importlib.metadata.PackageNotFoundError:  # run from a folder, not installed
        return "unknown"
