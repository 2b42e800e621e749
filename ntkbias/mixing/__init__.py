"""Check that f(params, x) treats each example alone: by reading its jaxpr if that suffices, otherwise by trials."""

from ntkbias.mixing.independence import require_independent_examples

__all__ = ["require_independent_examples"]
