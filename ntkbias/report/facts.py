"""The facts of a result as data: what the page and the table in a terminal say, in `facts.json` of a run folder.

Each type of result says its facts itself, by `facts`, with the text that stands for each.

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
    """The value with NumPy's arrays in place of JAX's, of which each operation compiles at first."""
    return jax.tree.map(lambda leaf: np.asarray(leaf) if isinstance(leaf, jax.Array) else leaf, value)


def facts_as_data(value: Comparison | History) -> dict[str, Any]:
    """The facts of a comparison, by kernel, or of a history, by their labels, ready for JSON."""
    if isinstance(value, History):
        return {fact.label: fact.value for fact in value.facts()}
    return {name: {fact.label: fact.value for fact in kernel.facts()} for name, kernel in value.items()}
