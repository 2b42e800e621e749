"""Pack inputs of several arrays into one: each example becomes a row of bytes, which the function unpacks.

A network may take a dictionary of tokens and a mask, a pair for its branch and its trunk, or a padded graph. The rest
of this package works with one array `(n, ...)`: kernels, stores on disk, spectra, training. So inputs of several
arrays are packed where they enter, without changing a bit, and `Unpacking` is the function of packed inputs.

>>> import jax.numpy as jnp
>>> from ntkbias.packing import packed
>>> f = lambda params, x: jnp.where(x["mask"], x["values"] @ params, 0.0)
>>> g, x = packed(f, {"values": jnp.ones((5, 3)), "mask": jnp.ones((5, 1), bool)}, "x")
>>> x.shape, x.dtype.name, g(jnp.ones((3, 1)), x).shape
((5, 13), 'uint8', (5, 1))
"""

import dataclasses
import math
import sys
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, UInt8

from ntkbias.checks import require_array, require_finite
from ntkbias.compilation import Function
from ntkbias.errors import InputError
from ntkbias.mistaken import refuse_own
from ntkbias.types import ApplyFunction, Params
from ntkbias.wrappers import Wrapper

__all__ = ["Layout", "Unpacking", "are_several", "num_examples", "of_packed", "packed", "packed_rows", "unpacked"]


class Layout:
    """How a row of bytes holds the arrays of one example: their pytree structure, and the shape and type of each."""

    def __init__(self, x: Any) -> None:
        leaves, self.treedef = jax.tree.flatten(x)
        self.arrays = tuple((leaf.shape[1:], np.dtype(leaf.dtype)) for leaf in leaves)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Layout) and (self.treedef, self.arrays) == (other.treedef, other.arrays)

    def __hash__(self) -> int:
        return hash((self.treedef, self.arrays))

    def __reduce__(self) -> tuple:
        return Layout, (self.example,)

    @property
    def example(self) -> Any:
        """One example that lies so: shapes and types in place of its arrays, with the axis of examples."""
        arrays = [jax.ShapeDtypeStruct((1, *shape), dtype) for shape, dtype in self.arrays]
        return jax.tree.unflatten(self.treedef, arrays)

    def __repr__(self) -> str:
        arrays = [f"{dtype.name}[{', '.join(map(str, ('n', *shape)))}]" for shape, dtype in self.arrays]
        return str(jax.tree.unflatten(self.treedef, arrays))

    def pack(self, x: Any) -> UInt8[Array, "n bytes"]:
        """Return the rows of bytes. Raises `InputError` if it is differentiated: bytes have no derivative."""
        return _packed_bytes(jax.tree.leaves(x))

    def unpack(self, rows: UInt8[Array, "n bytes"]) -> Any:
        """Return the arrays that the rows hold."""
        if rows.dtype != jnp.uint8:
            raise InputError(
                f"Expected packed inputs (uint8) of {self}; got {rows.dtype}. Packed inputs have no derivative."
            )
        leaves, start = [], 0
        for shape, dtype in self.arrays:
            stop = start + math.prod(shape) * dtype.itemsize
            leaves.append(_of_bytes(rows[:, start:stop], shape, dtype))
            start = stop
        return jax.tree.unflatten(self.treedef, leaves)


@dataclasses.dataclass(frozen=True)
class Unpacking(Wrapper):
    """`f` as a function of packed inputs. Two are equal if their fields are."""

    saved_as: ClassVar[str] = "inputs of several arrays"

    f: ApplyFunction
    layout: Layout

    def __call__(self, params: Params, x: Array) -> Any:
        """Return f at the arrays that the rows hold."""
        return self.f(params, self.layout.unpack(x))


def are_several(x: Any) -> bool:
    """Whether inputs need packing: dictionaries, tuples of arrays, any pytree but a list; complex arrays."""
    if isinstance(x, jax.Array | np.ndarray):
        return jnp.issubdtype(x.dtype, jnp.complexfloating)
    if x is None or _is_sparse(x):
        return False
    if isinstance(x, tuple) and not hasattr(x, "_fields"):
        return any(_is_array(part) or are_several(part) for part in x)
    if isinstance(x, Mapping):
        return True
    return not isinstance(x, list) and not jax.tree_util.all_leaves([x])


def _is_sparse(x: Any) -> bool:
    """Whether this is a sparse JAX array. Loading their module is slow, and without it there is no such array."""
    module = sys.modules.get("jax.experimental.sparse")
    return module is not None and isinstance(x, module.JAXSparse)


def packed(f: ApplyFunction, x: Any, name: str) -> tuple[ApplyFunction, Any]:
    """Return the function of packed inputs, and the packed inputs. One real array and its f are returned unchanged.

    Raises `InputError` unless all arrays hold numbers without NaN, and have the same number of examples on their first
    axes.
    """
    if not are_several(x):
        return f, x
    layout, rows = packed_rows(x, name)
    return Unpacking(f, layout), rows


def packed_rows(x: Any, name: str) -> tuple[Layout, Array]:
    """Return the layout and the packed rows of inputs of several arrays. Raises what `packed` raises."""
    arrays = _checked_arrays(x, name)
    layout = Layout(arrays)
    return layout, layout.pack(arrays)


def of_packed(f: Function, layout: Layout) -> Function:
    """Return f as a function of packed inputs, or f itself if it is one. Raises `InputError` if its layout differs."""
    if not isinstance(f.f, Unpacking):
        return type(f).of(Unpacking(f.f, layout))
    if f.f.layout != layout:
        raise InputError(f"Expected inputs like the earlier ones, {f.f.layout}; got {layout}.")
    return f


def unpacked(f: Any, x: Any) -> Any:
    """The inputs as the user's function takes them: unpacked if `f` is a function of packed inputs."""
    inner = getattr(f, "f", None)
    return inner.layout.unpack(x) if isinstance(inner, Unpacking) else x


def num_examples(x: Any) -> int:
    """The number of examples in the inputs, which may be one array or several."""
    return len(jax.tree.leaves(x)[0]) if are_several(x) else len(x)


def _checked_arrays(x: Any, name: str) -> Any:
    """Return the pytree with JAX arrays as leaves. Raises `InputError` unless every leaf has an axis of n examples."""
    refuse_own(x, name)
    named = {f"{name}{jax.tree_util.keystr(path)}": leaf for path, leaf in jax.tree_util.tree_leaves_with_path(x)}
    if not named:
        raise InputError(f"Expected at least one array in {name}; got an empty pytree.")
    arrays = [leaf if _is_complex(leaf) else require_array(leaf, place) for place, leaf in named.items()]
    for array, place in zip(arrays, named, strict=True):
        if not array.ndim:
            raise InputError(
                f"Expected arrays with the examples on their first axis in {name}; got a single number in {place}. "
                "Close over what all examples share: lambda params, x: f(params, x, extra)."
            )
        for part in (jnp.real(array), jnp.imag(array)) if _is_complex(array) else (array,):
            require_finite(part, place)
    counts = {place: len(array) for place, array in zip(named, arrays, strict=True)}
    if len(set(counts.values())) > 1:
        found = ", ".join(f"{count} in {place}" for place, count in counts.items())
        raise InputError(
            f"Expected the same number of examples in all arrays of {name}; got {found}. Pad each example to one "
            "shape; close over what all examples share."
        )
    if not arrays[0].size and not any(array.size for array in arrays):
        raise InputError(f"Expected at least one input in {name}; got none.")
    return jax.tree.unflatten(jax.tree.structure(x), arrays)


def _is_complex(leaf: Any) -> bool:
    return _is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.complexfloating)


@jax.custom_jvp
def _packed_bytes(arrays: list[Array]) -> Array:
    return jnp.concatenate([_bytes_of(array) for array in arrays], 1)


@_packed_bytes.defjvp
def _no_derivative(_: Any, __: Any) -> Any:
    raise InputError(
        "Expected a derivative by parameters, or by inputs that are one real array; got one by inputs of several "
        "arrays, or by complex inputs. Make f a function of the one array that you differentiate by."
    )


def _bytes_of(array: Array) -> Array:
    if _is_complex(array):
        array = jnp.stack([jnp.real(array), jnp.imag(array)], -1)
    if array.dtype == bool:
        array = array.astype(jnp.uint8)
    parts = jax.lax.bitcast_convert_type(array, jnp.uint8)
    return parts.reshape(len(array), -1)


def _of_bytes(rows: Array, shape: tuple[int, ...], dtype: np.dtype) -> Array:
    if dtype.kind == "b":
        return rows.reshape(len(rows), *shape).astype(bool)
    if jnp.issubdtype(dtype, jnp.complexfloating):
        parts = _of_bytes(rows, (*shape, 2), np.empty(0, dtype).real.dtype)
        return jax.lax.complex(parts[..., 0], parts[..., 1])
    size = (dtype.itemsize,) if dtype.itemsize > 1 else ()
    return jax.lax.bitcast_convert_type(rows.reshape(len(rows), *shape, *size), dtype)


def _is_array(part: Any) -> bool:
    return isinstance(part, jax.Array | np.ndarray)
