"""A table of how the empirical NTK contracts each parameter of a function, and of what that costs.

>>> import jax.numpy as jnp
>>> from ntkbias.kernels import explain_ntk
>>> f = lambda params, x: jnp.tanh(x @ params["hidden"]) @ params["out"]
>>> params = {"hidden": jnp.ones((3, 5)), "out": jnp.ones((5, 4))}
>>> print(explain_ntk(f, params, jnp.ones((100, 3))))
parameter   shape   contracted as  bytes per example  share
['hidden']  (3, 5)  outer product                 92   82 %
['out']     (5, 4)  outer product                 36   18 %
"""

import jax
import jax.numpy as jnp

from ntkbias.checks import require_array
from ntkbias.kernels.gradients import Gradients
from ntkbias.kernels.reading import factors
from ntkbias.packing import are_several, packed_rows
from ntkbias.parameters import Which
from ntkbias.types import ApplyFunction, Inputs, Outputs, Params

__all__ = ["explain_ntk"]


def explain_ntk(
    f: ApplyFunction, params: Params, x: Inputs, *, outputs: Outputs = "mean", wrt: Which | None = None
) -> str:
    """A table of how `empirical_ntk` contracts each parameter of `f`, and of what that costs, as a string.

    Only a check of `f` on three examples is computed. `bytes per example` is the memory of the parameter's factors, or
    of its gradient if that is formed. `share` is the parameter's part of the multiplications for the kernel of `x` with
    itself, without the passes through `f`. Raises what `empirical_ntk` raises.

    >>> import jax, ntkbias as nb
    >>> f, params = (lambda params, x: x @ params), jax.numpy.ones((2, 1))
    >>> print(nb.kernels.explain_ntk(f, params, jax.numpy.ones((4, 2))).splitlines()[1])
               (2, 1)  outer product                 12  100 %
    """
    gradients = Gradients.of(f, params, outputs, wrt=wrt)
    inputs = x
    if are_several(x):
        layout, inputs = packed_rows(x, "x")
        gradients = gradients.packed(layout)
    inputs = require_array(inputs, "x")
    gradients.check(inputs, "x")
    found = jax.eval_shape(lambda x: factors(gradients.f, gradients.params, x, outputs), inputs)
    kept = jax.eval_shape(gradients.features, inputs)
    operations = {path: factor.operations(len(inputs), outputs) for path, factor in found.items()}
    rows = [("parameter", "shape", "contracted as", "bytes per example", "share")]
    for key_path, leaf in jax.tree_util.tree_leaves_with_path(gradients.params):
        path, shape = jax.tree_util.keystr(key_path), str(jnp.shape(leaf))
        if path not in kept and path in found:
            continue
        if path not in found:
            rows.append((path, shape, "not used", "0", "0 %"))
            continue
        share = 100 * operations[path] / sum(operations[path] for path in kept)
        how = found[path].describe(len(inputs), outputs)
        rows.append((path, shape, how, f"{kept[path].row_bytes():,}", f"{share:.0f} %"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: tuple[str, ...], widths: list[int]) -> str:
    """One line of the table: words are left-aligned, numbers right-aligned."""
    words = [cell.ljust(width) for cell, width in zip(row[:3], widths[:3], strict=True)]
    return "  ".join([*words, *(cell.rjust(width) for cell, width in zip(row[3:], widths[3:], strict=True))])
