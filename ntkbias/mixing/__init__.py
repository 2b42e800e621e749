"""Whether f(params, x) treats each example alone: from its program where that decides it, else from trials."""

from ntkbias.mixing.independence import require_independent_examples

__all__ = ["require_independent_examples"]
