"""How the rows of an operator are spread over devices, and how to run a program on each device's part.

Each device has an equal share of the examples. Each product all-reduces one number per parameter per vector
(`sum_over_devices`), and sends nothing else.

>>> import numpy as np
>>> layout = Layout.of(num_examples=5, num_outputs=2, small=1, large=4)
>>> layout.unpack(layout.pack(np.ones((10, 3)))).shape
(10, 3)
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float

__all__ = ["Layout", "on_devices", "sum_over_devices"]

DEVICES = "devices"  # the axis of the mesh


@dataclasses.dataclass(frozen=True)
class Layout:
    """How vectors over the examples are spread over devices: `(devices, examples per device, o, k)`, padded with zeros.

    `small` is the number of examples in a batch by gradients, `large` that in a batch by VJP or JVP. `small` divides
    `large`, and `large` divides the padded number of examples per device.
    """

    num_examples: int
    num_outputs: int
    small: int
    large: int
    num_batches: int  # large ones per device
    mesh: Mesh | None

    @classmethod
    def of(cls, num_examples: int, num_outputs: int, small: int, large: int) -> "Layout":
        """The layout over all devices, with batches of at most these numbers of examples."""
        devices = jax.devices()
        share = -(-num_examples // len(devices))
        small = -(-share // -(-share // min(small, share)))
        multiple = max(1, min(large // small, -(-share // small)))
        num_batches = -(-share // (small * multiple))
        multiple = -(-share // (num_batches * small))
        mesh = Mesh(np.array(devices), (DEVICES,)) if len(devices) > 1 else None
        return cls(num_examples, num_outputs, small, small * multiple, num_batches, mesh)

    @property
    def num_devices(self) -> int:
        """The number of devices that hold examples."""
        return 1 if self.mesh is None else self.mesh.size

    @property
    def share(self) -> int:
        """The number of examples per device, including padding."""
        return self.large * self.num_batches

    def spread(self, shape: tuple[int, ...], piece: Callable[[int], np.ndarray]) -> Array:
        """An array `(devices, ...)` whose parts are `piece(device)`, each called only in the process that holds it."""
        if self.mesh is None:
            return jnp.asarray(piece(0)[None])

        def own(index: Any) -> np.ndarray:
            return piece(index[0].start or 0)[None]

        return jax.make_array_from_callback(shape, NamedSharding(self.mesh, PartitionSpec(DEVICES)), own)

    def replicated(self, values: Any) -> Any:
        """The arrays of a pytree, copied to every device."""
        if self.mesh is None:
            return values
        sharding = NamedSharding(self.mesh, PartitionSpec())

        def put(leaf: Any) -> Any:
            if not eqx.is_array_like(leaf):
                return leaf
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(put, values)

    def pack(self, rows: np.ndarray) -> Float[Array, "devices share o k"]:
        """Vectors `(rows, k)` in this layout."""
        shaped = np.asarray(rows).reshape(self.num_examples, self.num_outputs, -1)

        def piece(device: int) -> np.ndarray:
            own = shaped[device * self.share : (device + 1) * self.share]
            return np.concatenate([own, np.zeros((self.share - len(own), *own.shape[1:]), own.dtype)])

        return self.spread((self.num_devices, self.share, *shaped.shape[1:]), piece)

    def unpack(self, vectors: Array) -> np.ndarray:
        """Vectors of this layout as `(rows, k)`, on every host."""
        if self.mesh is not None and not vectors.is_fully_addressable:
            vectors = jax.jit(lambda v: v, out_shardings=NamedSharding(self.mesh, PartitionSpec()))(vectors)
        host = np.asarray(vectors)
        return host.reshape(-1, *host.shape[2:])[: self.num_examples].reshape(-1, host.shape[-1])

    def batches(self, x: Any, size: int) -> Iterator[tuple[Array, np.ndarray]]:
        """Yield the inputs in batches `(devices, size, ...)`, padded with the first input, and where each begins."""
        dtype = jax.dtypes.canonicalize_dtype(x.dtype)
        for start in range(0, self.share, size):

            def piece(device: int, start: int = start) -> np.ndarray:
                begin = device * self.share + start
                own = np.asarray(x[begin : begin + size], dtype)
                if len(own) == size:
                    return own
                return np.concatenate([own, np.repeat(np.asarray(x[:1], dtype), size - len(own), axis=0)])

            yield self.spread((self.num_devices, size, *x.shape[1:]), piece), np.asarray(start, np.int32)


def on_devices(function: Callable, mesh: Mesh | None, *specs: bool) -> Callable:
    """Apply the function to each device's part, without the axis of devices. `specs` says which arguments have it."""

    def of_part(*values: Any) -> Any:
        values = tuple(
            jax.tree.map(lambda leaf: leaf[0], value) if own else value
            for value, own in zip(values, specs, strict=True)
        )
        return jax.tree.map(lambda leaf: leaf[None], function(*values))

    if mesh is None:
        return of_part
    parts = tuple(PartitionSpec(DEVICES) if own else PartitionSpec() for own in specs)
    return jax.shard_map(of_part, mesh=mesh, in_specs=parts, out_specs=PartitionSpec(DEVICES), check_vma=False)


def sum_over_devices(total: Any, mesh: Mesh | None) -> Any:
    """The sum over the axis of devices: the only communication of a product."""
    if mesh is None:
        return jax.tree.map(lambda leaf: leaf[0], total)
    return _reduced(total, NamedSharding(mesh, PartitionSpec()))


@partial(jax.jit, static_argnums=1)
def _reduced(total: Any, sharding: NamedSharding) -> Any:
    leaves, treedef = jax.tree.flatten(total)
    joined = jnp.concatenate([leaf.reshape(len(leaf), -1) for leaf in leaves], 1)
    summed = jax.lax.with_sharding_constraint(jnp.sum(joined, 0), sharding)
    parts = jnp.split(summed, np.cumsum([leaf[0].size for leaf in leaves])[:-1])
    return jax.tree.unflatten(treedef, [part.reshape(leaf.shape[1:]) for part, leaf in zip(parts, leaves, strict=True)])
