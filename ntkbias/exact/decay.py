"""The decay of eigenvalues, from the kernel's singularities (Bietti and Bach 2021, arXiv 2009.14397).

If a kernel is a smooth function of cos t, its profile f(t) has only even powers in its expansions at t = 0 and t = pi.
The least other power determines the decay of the coefficients. On a manifold of m dimensions (m = d - 1 on S^{d-1},
m = d on a torus of d angles),

    f(t) + f(pi - t) = even powers + c t^p + ...    =>    mu_k ~ frequency^-(m + p) for even k

and f(t) - f(pi - t) gives the decay for odd k. In both combinations the singularities of the two ends add or cancel.
The NTK of a ReLU network has p = 1, its NNGP has p = 3, and the NNGP of L hidden layers of step functions has
p = 2^(1 - L). An analytic kernel has no such power.

>>> import ntkbias as nb
>>> print(predicted_decay(nb.nets.mlp(depth=3), nb.domains.Sphere(5)))
even degrees -5.00, odd degrees -5.00
>>> print(predicted_decay(nb.nets.mlp(depth=1), nb.domains.Circle()))           # without bias, odd degrees are zero
even degrees -2.00, odd degrees -inf
"""

import itertools

import jax
import mpmath
import numpy as np
import scipy

from ntkbias.domains import Circle, Domain, Sphere, Torus
from ntkbias.errors import InputTypeError
from ntkbias.exact.digits import UnknownFormula, kernel_digits
from ntkbias.exact.profile import checked_invariance, checked_kernel, kernel_values, rotation
from ntkbias.exact.value import Decay
from ntkbias.kernels import Kernel, infinite_ntk
from ntkbias.layers import Layer

__all__ = ["predicted_decay"]

NUM_CHECKED = 8  # inputs on which the kernel's symmetry is tested
DIGITS = 60
HALVINGS = range(2, 21)  # the j of the angles 2^-j; below 1e-7 kernels round a cosine to 1
MAX_POWER = 12  # a smoother kernel counts as analytic
NEAR_EVEN = 0.05  # a power this close to an even number is taken as that number
RELATIVE_ROUNDING = 1e-12  # a smaller coefficient comes from the rounding of hyperparameters such as sqrt 2 in float64


def predicted_decay(net_or_kernel: Layer | Kernel, domain: Domain) -> Decay:
    """The exponents a of eigenvalue ~ frequency^a on the circle, a sphere or a torus, from the kernel's singularities.

    A network stands for its `infinite_ntk`. Even and odd degrees have separate exponents; on a torus the parity is that
    of the sum of indices. An exponent is -inf if the eigenvalues fall faster than any power or are zero.

    The kernel is evaluated at about twenty angles down to 1e-6. If it has a closed form, this is done with 60 digits.
    Otherwise it is done in float64, and the exponents are accurate to about 0.01.

    Raises `InputError` for a kernel that changes when both inputs are rotated, such as that of a finite network.

    >>> import ntkbias as nb
    >>> decay = nb.predicted_decay(nb.nets.mlp(depth=2, b_std=0.1), nb.domains.Circle())
    >>> round(decay.even, 2), round(decay.odd, 2)
    (-2.0, -2.0)
    """
    kernel = infinite_ntk(net_or_kernel) if isinstance(net_or_kernel, Layer) else net_or_kernel
    checked_kernel(kernel)
    if isinstance(domain, Circle):
        dimension = 1
    elif isinstance(domain, Sphere):
        dimension = domain.dimension - 1
    elif isinstance(domain, Torus):
        dimension = domain.dimension
    else:
        raise InputTypeError(
            f"Expected the circle, a sphere or a torus, on which decay is a power; got {type(domain).__name__}. "
            "Use exact_spectrum for its eigenvalues."
        )
    _require_invariance(kernel, domain)
    near, far, digits = _ends(kernel, domain)
    with mpmath.workdps(DIGITS):
        powers = [_least_odd_power(near + sign * far, digits) for sign in (1, -1)]
    return Decay(*(-(dimension + power) for power in powers))


def _require_invariance(kernel: Kernel, domain: Circle | Sphere | Torus) -> None:
    """Raise an `InputError` if the kernel changes when both inputs are rotated."""
    points = np.asarray(domain.sample(NUM_CHECKED, key=jax.random.key(0)), float)
    if isinstance(domain, Torus):  # rotate each circle separately
        turn = scipy.linalg.block_diag(*(rotation(2, seed) for seed in range(domain.dimension)))
    else:
        turn = rotation(points.shape[1])
    values, moved = (kernel_values(kernel, x[:1], x)[0] for x in (points, points @ turn))
    checked_invariance(values, moved, np.full(NUM_CHECKED, 1 / NUM_CHECKED), "rotated")


def _ends(kernel: Kernel, domain: Circle | Sphere | Torus) -> tuple[np.ndarray, np.ndarray, int]:
    """f(t) and f(pi - t) at t = 0 and at t = 2^-j, and the number of digits that are right."""
    with mpmath.workdps(DIGITS):
        angles = [mpmath.mpf(0), *(mpmath.ldexp(1, -j) for j in HALVINGS)]
        waves = np.array([[mpmath.cos(t), mpmath.sin(t)] for t in angles], object) * domain.radius
    if isinstance(domain, Torus):
        waves = np.tile(waves, domain.dimension)  # all angles are equal
    elif isinstance(domain, Sphere):
        rest = np.full((len(waves), domain.dimension - 2), mpmath.mpf(0))
        waves = np.concatenate([waves, rest], 1)
    try:
        values = [kernel_digits(kernel, sign * waves[:1], waves, DIGITS)[0] for sign in (1, -1)]
        return *values, DIGITS - 10
    except UnknownFormula:
        points = waves.astype(float)
        values = [kernel_values(kernel, sign * points[:1], points)[0].astype(object) for sign in (1, -1)]
        return *values, 15


def _least_odd_power(values: np.ndarray, digits: int) -> float:
    """The least power of t in an expansion that is not an even number, given its values at 0 and at 2^-j.

    The leading power is an extrapolated slope at the smallest angles at which rounding does not matter. If it is an
    even number p, v(t) - 2^p v(t / 2) removes that term, and the next power leads.
    """
    scale = max(map(abs, values))
    if scale == 0:
        return np.inf
    left, noise = (values[1:] - values[0]) / scale, mpmath.mpf(10) ** -digits
    while True:
        clear = np.array([abs(value) > 1e6 * noise for value in left])
        last = len(left) if clear.all() else int(np.argmin(clear))
        if last < 4:
            return np.inf
        window = left[last - 4 : last]
        power = _extrapolated([float(mpmath.log(abs(a / b), 2)) for a, b in itertools.pairwise(window)])
        angle = mpmath.ldexp(1, -(HALVINGS.start + last - 1))
        rounding = abs(window[-1]) / angle**power < RELATIVE_ROUNDING
        even = 2 * round(power / 2)
        if power > MAX_POWER:
            return np.inf
        if not rounding and (even < 2 or abs(power - even) > NEAR_EVEN):
            return power
        factor = mpmath.mpf(2) ** (power if rounding else even)
        left, noise = left[:-1] - factor * left[1:], noise * (1 + factor)


def _extrapolated(slopes: list[float]) -> float:
    """The limit of three slopes that converge geometrically (Aitken)."""
    first, second, third = slopes
    bend = (third - second) - (second - first)
    return (
        third
        if abs(bend) < 1e-9 or abs(third - second) >= abs(second - first)
        else third - (third - second) ** 2 / bend
    )
