"""LoRA: low-rank factors that are trained in place of a network's matrices.

A matrix W `(d, c)` becomes W + a b with a `(d, rank)` random and b `(rank, c)` zero (Hu et al. 2021, arXiv 2106.09685,
who write B A for the transposed factors). At the start f does not change, the gradients by a are zero, and those by b
are a^T dF/dW. The kernel of the factors is thus that of W with a random projection of each gradient,

    K_LoRA(x, x') = <a^T dF(x)/dW, a^T dF(x')/dW>,     E K_LoRA = K      for entries of a of variance 1 / rank,

and approaches the kernel K of the adapted matrices as the rank grows (Malladi et al. 2023, arXiv 2210.05643).

>>> import jax, jax.numpy as jnp, ntkbias as nb
>>> net = nb.nets.mlp(width=64, depth=2)
>>> params, x = net.init(jax.random.key(0), (8,)), jax.random.normal(jax.random.key(1), (20, 8))
>>> adapted = nb.empirical_ntk(net.apply, params, wrt="[3]['w']")
>>> similarities = []
>>> for rank in (1, 32):
...     f, factors = nb.adapters.lora(net.apply, params, rank, key=jax.random.key(2), wrt="[3]['w']")
...     kernel = nb.empirical_ntk(f, factors, wrt="['factors']")      # as in track(f, factors, ..., wrt="['factors']")
...     similarities.append(float(nb.alignment(kernel, x, adapted)))
>>> 0 < similarities[0] < similarities[1] < 1
True
"""

import dataclasses
import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from ntkbias.checks import require_key, require_positive
from ntkbias.errors import InputError, InputTypeError
from ntkbias.parameters import Which, chosen_paths
from ntkbias.types import ApplyFunction, Params
from ntkbias.wrappers import Wrapper

__all__ = ["lora"]


def lora(
    f: ApplyFunction, params: Params, rank: int, *, key: PRNGKeyArray, wrt: Which | None = None
) -> tuple[ApplyFunction, Params]:
    """Return `f` as a function of LoRA factors beside its parameters, and these: `{"factors": ..., "frozen": params}`.

    `wrt` selects the matrices that are adapted, as in `empirical_ntk`; by default all parameters with two axes or more.
    The last axis of a parameter counts as its columns, and all others together as its rows, which suits `x @ w` and
    convolutions of this package. `params["factors"][path]` has "a" `(rows, rank)`, Gaussian of variance 1 / rank, drawn
    with `key`, and "b" `(rank, columns)`, zero. Pass wrt="['factors']" to kernels and to `track`: the frozen parameters
    are then not trained. They may be of any type. Hu et al. multiply a b by alpha / rank; here the factor is one.

    Costs as f does, and d c rank multiplications for each matrix. Raises `InputError` if no matrix is selected, and if
    the rank is larger than a matrix's number of rows.

    >>> import jax.numpy as jnp
    >>> f, params = lora(lambda w, x: x @ w, jnp.ones((3, 2)), 2, key=jax.random.key(0))
    >>> {name: factor.shape for name, factor in params["factors"][""].items()}
    {'a': (3, 2), 'b': (2, 2)}
    >>> f(params, jnp.eye(3)).tolist()
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]
    """
    if not callable(f):
        raise InputTypeError(f"Expected f to be a function f(params, x), e.g. net.apply; got {type(f).__name__}.")
    require_positive("rank", rank)
    require_key(key)
    named = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(params)}
    if wrt is None:
        paths = tuple(path for path, leaf in named.items() if _is_matrix(leaf))
        if not paths:
            raise InputError("Expected params to hold a matrix of floating-point numbers to adapt; got none.")
    else:
        paths = chosen_paths(params, wrt) or ()
    factors = {}
    for path, own in zip(paths, jax.random.split(key, len(paths)), strict=True):
        leaf = named[path]
        if not _is_matrix(leaf):
            raise InputError(
                f"Expected wrt= to select matrices of floating-point numbers; got params{path}, of shape "
                f"{np.shape(leaf)} and type {getattr(leaf, 'dtype', type(leaf).__name__)}. Name the matrix alone, as "
                f"wrt=\"{path}['w']\"."
            )
        *rows, columns = jnp.shape(leaf)
        if rank > math.prod(rows):
            raise InputError(
                f"Expected a rank of at most {math.prod(rows)}, the rows of params{path}; got {rank}. "
                "Lower it, or leave this matrix out by wrt=."
            )
        a = (jax.random.normal(own, (math.prod(rows), rank)) / rank**0.5).astype(jnp.result_type(leaf))
        factors[path] = {"a": a, "b": jnp.zeros((rank, columns), a.dtype)}
    return LowRank(f), {"factors": factors, "frozen": params}


def _is_matrix(leaf: Any) -> bool:
    kind = getattr(leaf, "dtype", None)
    return np.ndim(leaf) >= 2 and kind is not None and jnp.issubdtype(kind, jnp.floating)


@dataclasses.dataclass(frozen=True)
class LowRank(Wrapper):
    """f at the frozen parameters plus the products of their factors."""

    saved_as: ClassVar[str] = "adapters.lora"

    f: ApplyFunction

    def __call__(self, params: Params, x: Any) -> Array:
        if not (isinstance(params, dict) and set(params) == {"factors", "frozen"}):
            raise InputError(
                'Expected the parameters that lora returned, {"factors", "frozen"}; got '
                f"{type(params).__name__}. Write f, params = lora(f, params, ...)."
            )
        factors = params["factors"]

        def adapted(path: Any, leaf: Any) -> Any:
            own = factors.get(jax.tree_util.keystr(path))
            return leaf if own is None else leaf + (own["a"] @ own["b"]).reshape(jnp.shape(leaf))

        return self.f(jax.tree_util.tree_map_with_path(adapted, params["frozen"]), x)
