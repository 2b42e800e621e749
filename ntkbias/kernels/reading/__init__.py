"""Read from the jaxpr of a gradient how f uses each parameter, so that no Jacobian has to be formed."""

from ntkbias.kernels.reading.programs import flat_jaxpr
from ntkbias.kernels.reading.structure import OutputRange, factor_bytes, factor_shapes, factors

__all__ = ["OutputRange", "factor_bytes", "factor_shapes", "factors", "flat_jaxpr"]
