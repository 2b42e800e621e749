"""Exact spectra: the eigenvalues of a kernel's integral operator on a domain, without sampling.

>>> import ntkbias as nb
>>> print(exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=2)), nb.domains.Hypercube(3), max_degree=3))
ExactSpectrum: 4 rows
eigenvalue     +-  multiplicity   share  frequency  degree
  0.490741  5e-15             1  32.72%          0       0
  0.208405  2e-15             3  41.68%          1       1
  0.112945  1e-15             3  22.59%      1.414       2
 0.0452063  5e-16             1   3.01%      1.732       3
trace 1.5, of which ... beyond these rows
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from ntkbias.domains import Circle, Domain, Gaussian, Hypercube, Sphere, SphereProduct, Torus
from ntkbias.errors import InputError, InputTypeError
from ntkbias.exact.gaussian import gaussian_spectrum
from ntkbias.exact.hypercube import hypercube_spectrum
from ntkbias.exact.profile import checked_kernel
from ntkbias.exact.sphere import zonal_spectrum
from ntkbias.exact.sphere_product import product_spectrum
from ntkbias.exact.torus import torus_spectrum
from ntkbias.exact.value import ExactSpectrum
from ntkbias.kernels import Kernel

__all__ = ["exact_spectrum"]

METHODS: dict[type[Domain], Callable[[Kernel, Any, int], ExactSpectrum]] = {
    Circle: zonal_spectrum,
    Sphere: zonal_spectrum,
    Torus: torus_spectrum,
    Hypercube: hypercube_spectrum,
    Gaussian: gaussian_spectrum,
    SphereProduct: product_spectrum,
}


def exact_spectrum(kernel: Kernel, domain: Domain, max_degree: int) -> ExactSpectrum:
    """The eigenvalues of a kernel under the domain's probability measure, one row per degree, with their errors.

    The kernel has to share the domain's symmetry. Infinite-width kernels of dense networks do, as do those of
    convolutional networks on a `SphereProduct`, and any `DotProductKernel`. `max_degree` bounds

    - the degree k on `Circle`, `Sphere` and `Hypercube`, with the multiplicity of the harmonics (C(d, k) on the cube);
    - k_1^2 + ... + k_d^2 on a `Torus` of up to three angles, with one row per set of indices;
    - l + 2 j on a `Gaussian`, where l is the angular degree and j the radial index;
    - the sum of the leaves' degrees on a `SphereProduct`, with one row for all degrees that its symmetries exchange.

    Costs seconds, and evaluates the kernel on a few thousand pairs of inputs; a Gaussian or a torus of three angles
    takes a million. The kernel is evaluated in float64, whatever JAX is set to. On the hypercube, a kernel with a
    closed form is evaluated with as many digits as needed.

    Raises `InputError` for a kernel that changes under the domain's symmetries, such as that of a finite network, and
    for one with several outputs.

    >>> import ntkbias as nb
    >>> exact = nb.exact_spectrum(nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.1)), nb.domains.Circle(), max_degree=4)
    >>> [round(float(value), 3) for value in exact.eigenvalues]  # of degrees 0 to 4
    [0.166, 0.129, 0.038, 0.001, 0.003]
    """
    checked_kernel(kernel)
    method = next((METHODS[cls] for cls in type(domain).__mro__ if cls in METHODS), None)
    if method is None:
        raise InputTypeError(
            f"Expected a domain with exact spectra, one of {', '.join(cls.__name__ for cls in METHODS)}; got "
            f"{type(domain).__name__}. Use spectrum(kernel, x) on inputs."
        )
    if isinstance(max_degree, bool) or not isinstance(max_degree, int | np.integer) or max_degree < 0:
        raise InputError(f"Expected max_degree to be a whole number of zero or more; got {max_degree!r}.")
    return method(kernel, domain, int(max_degree))
