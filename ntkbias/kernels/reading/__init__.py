"""How f uses its parameters, read from the program of its gradient, so that the Jacobian is never formed."""

from ntkbias.kernels.reading.programs import flat_jaxpr
from ntkbias.kernels.reading.structure import Some, factor_bytes, factor_shapes, factors

__all__ = ["Some", "factor_bytes", "factor_shapes", "factors", "flat_jaxpr"]
