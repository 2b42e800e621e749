"""The facts of a result as data, for `facts.json` in a run folder. The page and the table in a terminal show the same.

Each type of result lists its facts in its method `facts`, each with a value and a text.

>>> import ntkbias as nb
>>> from ntkbias.report.facts import facts_as_data
>>> circle = nb.domains.Circle()
>>> x, weights = circle.quadrature(32)
>>> found = nb.compare({"mlp": nb.infinite_ntk(nb.nets.mlp())}, x, circle, weights=weights)
>>> list(facts_as_data(found)["mlp"])[:3], [fact.text for fact in found["mlp"].facts()][:3]
(['trace', 'effective rank', 'stable rank'], ['0.750', '6.64', '2.77'])
"""

from typing import Any

import jax
import numpy as np

from ntkbias.comparison import Comparison
from ntkbias.tracking import History

__all__ = ["facts_as_data", "on_host"]


def on_host(value: Any) -> Any:
    """The value with NumPy arrays in place of JAX arrays, because JAX would compile each operation on them."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, value)


def facts_as_data(value: Comparison | History) -> dict[str, Any]:
    """The facts by label, ready for JSON: one dictionary for a history, one per kernel for a comparison."""
    if isinstance(value, History):
        return {fact.label: fact.value for fact in value.facts()}
    return {name: {fact.label: fact.value for fact in kernel.facts()} for name, kernel in value.items()}
