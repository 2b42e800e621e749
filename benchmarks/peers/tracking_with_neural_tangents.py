"""The loop that users of neural-tangents write: train, and compute the kernel of the probe at some steps.

    python tracking_with_neural_tangents.py PROBLEM.npz STEP STEP ...        prints one line of JSON

It runs in an environment made for neural-tangents, or on current JAX through the adapter of ntkbias.
"""

import json
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
from tracking_case import batch_at
from tracking_in_jax import f, step

try:
    import neural_tangents as nt
except (ImportError, AttributeError):  # on current JAX
    from ntkbias.adapters.neural_tangents import nt

PIECE = 100  # examples per side: the Jacobian of all of them at once takes gigabytes


def main() -> None:
    """Train, and compute the kernels."""
    arrays = dict(np.load(sys.argv[1]))
    at = [int(word) for word in sys.argv[2:]]
    params = {name: jnp.asarray(arrays[name]) for name in arrays if name not in ("x", "y", "probe")}
    x, y, probe = (jnp.asarray(arrays[name]) for name in ("x", "y", "probe"))
    kernel_fn = nt.batch(
        nt.empirical_ntk_fn(
            lambda params, x: f(params, x),
            trace_axes=(-1,),
            vmap_axes=0,
            implementation=nt.NtkImplementation.STRUCTURED_DERIVATIVES,
        ),
        batch_size=PIECE,
        device_count=0,
    )
    began, kernels = time.perf_counter(), 0.0
    for number in range(at[-1] + 1):
        if number in at:
            start = time.perf_counter()
            jax.block_until_ready(params)
            trace = float(jnp.trace(jax.block_until_ready(kernel_fn(probe, None, params))))
            kernels += time.perf_counter() - start
        if number < at[-1]:
            params = step(params, x, y, jnp.asarray(batch_at(number, len(x))))
    jax.block_until_ready(params)
    print(json.dumps({"seconds": time.perf_counter() - began, "kernels": kernels, "trace": trace / len(probe)}))


if __name__ == "__main__":
    main()
