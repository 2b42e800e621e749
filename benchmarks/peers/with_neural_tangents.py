"""neural-tangents: its three implementations, on all inputs at once and, for many inputs, with `nt.batch`.

`nt.batch` accepts only whole batches. For other numbers of inputs, copies of the first input fill the last batch, and
their rows are removed from the result, as a user would do.
"""

import importlib.metadata

import jax
import jax.numpy as jnp
import numpy as np
from cases import Case, load, num_parameters
from networks import function
from worker import Part, Work, serve

try:
    import neural_tangents as nt
except (ImportError, AttributeError):  # on current JAX
    from ntkbias.adapters.neural_tangents import nt

IMPLEMENTATIONS = {
    "structured derivatives": nt.NtkImplementation.STRUCTURED_DERIVATIVES,
    "Jacobian contraction": nt.NtkImplementation.JACOBIAN_CONTRACTION,
    "NTK-vector products": nt.NtkImplementation.NTK_VECTOR_PRODUCTS,
}
LARGEST_JACOBIAN = 2**32  # bytes: a method with a larger Jacobian runs only in batches
BATCH = (48, 128)  # the smallest and the largest batch


def methods(case: Case) -> list[str]:
    found = []
    for name in IMPLEMENTATIONS:
        if name == "NTK-vector products" and not case.few:
            continue
        size = 4 * case.examples * case.num_outputs * num_parameters(case)
        if name == "structured derivatives" or size <= LARGEST_JACOBIAN:
            found.append(name)
        if case.examples > BATCH[1] or size > LARGEST_JACOBIAN:
            found.append(f"{name}, batches")
    return found


def batch_size(case: Case) -> int:
    """The batch size that needs the fewest copies; if several do, the largest."""
    if case.columns <= BATCH[1]:
        return max(1, case.columns // 4)

    def filling(size: int) -> int:
        return -case.n % size + -case.columns % size

    return min(range(*BATCH), key=lambda size: (filling(size + 1), -size)) + 1


def filled(x: jax.Array, size: int) -> jax.Array:
    return jnp.concatenate([x, jnp.repeat(x[:1], -len(x) % size, axis=0)])


def make(case: Case, path: str, method: str) -> Work:
    params, x1, x2 = load(path)
    params, x1 = jax.tree_util.tree_map(jnp.asarray, params), jnp.asarray(x1)
    x2 = None if x2 is None else jnp.asarray(x2)
    implementation, _, batched = method.partition(", ")
    kernel = nt.empirical_ntk_fn(
        function(case.network),
        trace_axes=() if case.outputs == "all" else (-1,),
        vmap_axes=0,
        implementation=IMPLEMENTATIONS[implementation],
    )
    if batched:
        size = batch_size(case)
        kernel = nt.batch(kernel, batch_size=size, device_count=0)
        x1, x2 = filled(x1, size), None if x2 is None else filled(x2, size)
    else:
        kernel = jax.jit(kernel)

    def array(result: jax.Array) -> np.ndarray:
        kept = np.asarray(result)[: case.n, : case.columns]
        return kept.transpose(0, 2, 1, 3) if case.outputs == "all" else kept

    return Work({method: Part(lambda: jax.block_until_ready(kernel(x1, x2, params)))}, array)


if __name__ == "__main__":
    packages = ("neural-tangents", "jax", "numpy")
    serve({package: importlib.metadata.version(package) for package in packages}, methods, make)
