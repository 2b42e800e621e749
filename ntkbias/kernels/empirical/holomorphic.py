"""The Hermitian kernel J J^H of a network with complex outputs, which some fields use in place of the real kernel.

    K(x, x')[a, b] = sum_p J[a, p](x) conj(J[b, p](x')),      J is the derivative of f by its parameters

For real parameters, J is complex because f is. For complex parameters, J is the complex derivative, which exists if f
is holomorphic. In variational Monte Carlo this is the neural tangent kernel of the quantum geometric tensor. Training
on a real loss follows the real kernel of `empirical_ntk`, over real and imaginary parts. For a holomorphic f the two
kernels agree, and this one is its complex form.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels.empirical.holomorphic import holomorphic_ntk
>>> f = lambda params, x: x @ params
>>> K = holomorphic_ntk(f, jnp.ones((2, 1), jnp.complex64), jnp.array([[1.0, 1.0j]]))
>>> K.dtype.name, K.shape, float(K[0, 0, 0, 0].real)
('complex64', (1, 1, 1, 1), 2.0)
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex

from ntkbias.checks import require_array, require_known
from ntkbias.errors import InputError
from ntkbias.kernels.empirical.ntk import empirical_ntk
from ntkbias.packing import are_several
from ntkbias.parameters import is_complex
from ntkbias.types import ApplyFunction, Params

__all__ = ["holomorphic_ntk"]

FEW = 3  # examples at which the Cauchy-Riemann equations are checked


def holomorphic_ntk(
    f: ApplyFunction, params: Params, x1: Any, x2: Any = None, **options: Any
) -> Complex[Array, "n o m o"]:
    """The kernel J(x1) J(x2)^H, `(n, o, m, o)`, for complex outputs `(n, o)` of `f`. Without x2: of x1 with itself.

    `params` are all real or all complex. If they are complex, f has to be holomorphic in them; its Cauchy-Riemann
    equations are checked. Costs the real kernel of all 2 o outputs. `options` are those of `empirical_ntk` except
    `outputs`.

    Raises `InputError` on what `empirical_ntk` refuses, on real outputs, if some params are real and some complex, and
    if f is not holomorphic in complex params.

    >>> import jax.numpy as jnp, ntkbias as nb
    >>> f, params = (lambda params, x: x @ params), jnp.array([[1.0 + 2.0j]])
    >>> nb.kernels.holomorphic_ntk(f, params, jnp.array([[1.0j]])).reshape(-1).tolist()  # i times its conjugate
    [(1+0j)]
    """
    require_known((params, x1, x2), "holomorphic_ntk")
    x1 = x1 if are_several(x1) else require_array(x1, "x1")
    numbers = [leaf for leaf in jax.tree.leaves(params) if np.issubdtype(jnp.result_type(leaf), np.inexact)]
    kinds = {is_complex(leaf) for leaf in numbers}
    if len(kinds) > 1:
        raise InputError("Expected params that are all real or all complex; got both. Use empirical_ntk instead.")
    kernel = empirical_ntk(f, params, outputs="all", **options)
    blocks = np.asarray(kernel(x1, x2))
    one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[:1], x1)
    found = jax.eval_shape(f, params, one)
    if not jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise InputError(f"Expected f(params, x) to return complex numbers; got {found.dtype}. Use empirical_ntk.")
    o = blocks.shape[1] // 2
    real, imag = slice(None, o), slice(o, None)
    rr, ri, ir, ii = (blocks[:, a][:, :, :, b] for a in (real, imag) for b in (real, imag))
    if kinds == {True}:
        _require_holomorphic(f, params, jax.tree.map(lambda leaf: jnp.asarray(leaf)[:FEW], x1))
        return jnp.asarray(rr + 1j * ir)
    return jnp.asarray(rr + ii + 1j * (ir - ri))


def _require_holomorphic(f: ApplyFunction, params: Params, x: Any) -> None:
    """Raise an `InputError` unless the derivative along i t is i times that along t, for a random direction t.

    The kernel itself does not reveal this: the kernel of conj(f) has the same symmetries.
    """
    rng = np.random.default_rng(0)
    shapes = [(jnp.shape(leaf), jnp.result_type(leaf)) for leaf in jax.tree.leaves(params)]
    drawn = [jnp.asarray(rng.normal(size=(*s, 2)) @ [1, 1j], dtype) for s, dtype in shapes]
    along = jax.tree.unflatten(jax.tree.structure(params), drawn)
    of_params = lambda params: f(params, x)  # noqa: E731
    first = np.asarray(jax.jvp(of_params, (params,), (along,))[1])
    second = np.asarray(jax.jvp(of_params, (params,), (jax.tree.map(lambda leaf: 1j * leaf, along),))[1])
    largest = float(np.max(np.abs(first))) or 1.0
    change = float(np.max(np.abs(second - 1j * first))) / largest
    if not change <= 10 * float(np.finfo(first.dtype).eps) ** 0.5:
        raise InputError(
            f"Expected f(params, x) to be holomorphic in its complex parameters; got Cauchy-Riemann equations that "
            f"differ by {change:.2g} of the derivative. Use empirical_ntk, the kernel of real and imaginary parts."
        )
