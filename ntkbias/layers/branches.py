"""Layers with several branches, which start from one input and join again.

When branches join, their covariances add, multiply, or are averaged over the channels:

    Sum           nngp = sum_b nngp_b             ntk = sum_b ntk_b
    Product       nngp = prod_b nngp_b            ntk = sum_b ntk_b prod_{others} nngp
    Concatenate   nngp = sum_b (c_b / c) nngp_b   ntk = sum_b (c_b / c) ntk_b         for c_b of c channels

A sum needs uncorrelated branches, a product independent ones. Fresh random weights in all branches but one ensure this.
The channels of a concatenation meet only in the next linear layer, so its branches may be correlated.

>>> import jax
>>> from ntkbias.layers import Concatenate, Dense, Identity, Relu, Residual, Sequential
>>> block = Residual(Sequential(Dense(8), Relu(), Dense(4)))
>>> net = Sequential(Dense(4), block, Concatenate(Identity(), Relu()), Dense(1))
>>> net.output_shape((2,))
(1,)
"""

import abc
import dataclasses
import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ntkbias.checks import require_key
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers.covariance import Covariance, Needs
from ntkbias.layers.identity import Identity, scaled
from ntkbias.layers.layer import Layer, layers_of
from ntkbias.layers.wrappers import Frozen, Sequential
from ntkbias.types import Params

__all__ = ["Concatenate", "Product", "Residual", "Sum"]


class _Branches(Layer):
    """Branches that start from one input and join again, as arguments, `Sum(a, b)`, or as a list or tuple of them.

    The parameters are a list with one entry a branch.
    """

    branches: tuple[Layer, ...]

    def __init__(self, *args: Layer | Iterable[Layer], branches: Iterable[Layer] | None = None):
        self.branches = layers_of(type(self).__name__, "branches", args, branches)

    def __check_init__(self):
        name = type(self).__name__
        if not self.branches:
            raise InputError(f"Expected at least one branch in {name}; got none. Identity() passes the input on.")
        for branch in self.branches:
            if not isinstance(branch, Layer):
                raise InputTypeError(f"Expected the branches of {name} to be layers; got {branch!r}.")
        self._require_joinable()

    def _require_joinable(self) -> None:
        """Raise an `InputError` unless the branches' covariances can be joined. By default they can."""

    @abc.abstractmethod
    def _join_outputs(self, outputs: list[Array]) -> Array:
        """The output of the layer, given those of its branches."""

    @abc.abstractmethod
    def _join_covariances(self, covariances: list[Covariance]) -> Covariance:
        """The covariance of the layer, given those of its branches, which carry the same pairs of positions."""

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        shapes = [branch.output_shape(input_shape) for branch in self.branches]
        if len(set(shapes)) > 1:
            raise InputError(
                f"Expected the branches of {type(self).__name__} to give one shape; got "
                f"{', '.join(map(str, shapes))}. Give each the same width and strides."
            )
        return shapes[0]

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        keys = jax.random.split(require_key(key), len(self.branches))
        return [branch.init(key, input_shape) for branch, key in zip(self.branches, keys, strict=True)]

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        return [branch.adam_rates(input_shape) for branch in self.branches]

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        self.output_shape(x.shape[1:])
        pairs = zip(self.branches, params, strict=True)
        return self._join_outputs([branch.apply(branch_params, x) for branch, branch_params in pairs])

    def propagate(self, covariance: Covariance) -> Covariance:
        self.output_shape(covariance.shape)
        return self._join_covariances(_at_common_pairs([branch.propagate(covariance) for branch in self.branches]))

    def decorrelates(self, before: bool) -> bool:
        return all(branch.decorrelates(before) for branch in self.branches)

    def needs(self, after: Needs) -> Needs:
        return functools.reduce(operator.or_, (branch.needs(after) for branch in self.branches))


class Sum(_Branches):
    """The sum of several branches. At infinite width their covariances add, as in `Residual`.

    This requires uncorrelated branches: all but one have to end with a linear layer (Dense or Conv), not with an
    activation.

    >>> import jax
    >>> from ntkbias.layers import Dense, Sum
    >>> layer = Sum(Dense(3), Dense(3))
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 3)
    """

    def _require_joinable(self) -> None:
        correlated = [branch for branch in self.branches if not branch.decorrelates(False)]
        if len(correlated) > 1:
            raise InputError(
                f"Expected all branches of Sum but one to end with a linear layer; got {len(correlated)} that do not. "
                "Covariances of correlated branches do not add. End them with Dense or Conv."
            )

    def _join_outputs(self, outputs: list[Array]) -> Array:
        return sum(outputs[1:], outputs[0])

    def _join_covariances(self, covariances: list[Covariance]) -> Covariance:
        return functools.reduce(operator.add, covariances)


class Product(_Branches):
    """The entrywise product of several branches, as in a gated layer. At infinite width their nngp multiply.

    This requires independent branches: all but one have to contain a linear layer, which activations may follow. At
    finite width branches depend on each other through earlier layers, by O(1 / width). The product is not Gaussian, so
    no activation can follow it directly: put a linear layer in between.

    >>> import jax
    >>> from ntkbias.layers import Dense, Product
    >>> layer = Product(Dense(3), Dense(3))
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 3)
    """

    def _require_joinable(self) -> None:
        dependent = [branch for branch in self.branches if not _independent(branch)]
        if len(dependent) > 1:
            raise InputError(
                f"Expected all branches of Product but one to contain a linear layer; got {len(dependent)} that do "
                "not. Covariances of dependent branches do not multiply. Put Dense or Conv into them."
            )

    def _join_outputs(self, outputs: list[Array]) -> Array:
        return functools.reduce(operator.mul, outputs)

    def _join_covariances(self, covariances: list[Covariance]) -> Covariance:
        return functools.reduce(_product, covariances)

    def decorrelates(self, before: bool) -> bool:
        """Whether any branch does: one independent factor of mean zero gives the product mean zero."""
        return any(branch.decorrelates(before) for branch in self.branches)


class Concatenate(_Branches):
    """The channels of several branches side by side: `(n, *positions, c_1 + c_2 + ...)`.

    At infinite width the covariance is the mean over the branches, weighted by their numbers of channels, so the ratios
    of the widths matter. Branches may be correlated, and an Identity branch passes on raw inputs. Channels of different
    branches have different variances, so no activation can follow directly: put it into the branches, or put a linear
    layer in between.

    >>> import jax
    >>> from ntkbias.layers import Concatenate, Dense
    >>> layer = Concatenate(Dense(3), Dense(2))
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 5)
    """

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        shapes = [branch.output_shape(input_shape) for branch in self.branches]
        if len({shape[:-1] for shape in shapes}) > 1:
            raise InputError(
                "Expected the branches of Concatenate to give outputs that differ only in their channels; got shapes "
                f"{', '.join(map(str, shapes))}. Give each the same strides."
            )
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def _join_outputs(self, outputs: list[Array]) -> Array:
        return jnp.concatenate(outputs, -1)

    def _join_covariances(self, covariances: list[Covariance]) -> Covariance:
        total = sum(each.shape[-1] for each in covariances)
        shares = [scaled(each, each.shape[-1] / total) for each in covariances]
        return dataclasses.replace(
            functools.reduce(operator.add, shares),
            shape=(*covariances[0].positions, total),
            gaussian=len(covariances) == 1 and covariances[0].gaussian,
        )


class Residual(Layer):
    """The sum of a branch and a shortcut (default: the identity), as in a residual network.

    At infinite width their covariances add. This requires that the two are uncorrelated: one of them has to end with a
    linear layer (Dense or Conv), not with an activation. `Sum` takes more branches.

    >>> import jax
    >>> from ntkbias.layers import Dense, Relu, Residual, Sequential
    >>> layer = Residual(Sequential(Relu(), Dense(4)))
    >>> params = layer.init(jax.random.key(0), (4,))
    >>> layer.apply(params, jax.numpy.ones((2, 4))).shape
    (2, 4)
    """

    branch: Layer
    shortcut: Layer = Identity()

    def __check_init__(self):
        for layer in (self.branch, self.shortcut):
            if not isinstance(layer, Layer):
                raise InputTypeError(f"Expected branch and shortcut of Residual to be layers; got {layer!r}.")
        if not (self.branch.decorrelates(False) or self.shortcut.decorrelates(False)):
            raise InputError(
                "Expected branch or shortcut of Residual to end with a linear layer; got neither. Covariances of "
                "correlated branches do not add. End the branch with Dense or Conv."
            )

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        branch, shortcut = self.branch.output_shape(input_shape), self.shortcut.output_shape(input_shape)
        if branch != shortcut:
            raise InputError(
                f"Expected branch and shortcut of Residual to give one shape; got {branch} and {shortcut}. "
                "Give a shortcut with the branch's width and strides, e.g. a 1 x 1 Conv."
            )
        return branch

    def init(self, key: PRNGKeyArray, input_shape: tuple[int, ...]) -> Params:
        self.output_shape(input_shape)
        branch_key, shortcut_key = jax.random.split(require_key(key))
        return {
            "branch": self.branch.init(branch_key, input_shape),
            "shortcut": self.shortcut.init(shortcut_key, input_shape),
        }

    def adam_rates(self, input_shape: tuple[int, ...]) -> Params:
        return {name: getattr(self, name).adam_rates(input_shape) for name in ("branch", "shortcut")}

    def apply(self, params: Params, x: Float[Array, "n ..."]) -> Float[Array, "n ..."]:
        return self.branch.apply(params["branch"], x) + self.shortcut.apply(params["shortcut"], x)

    def propagate(self, covariance: Covariance) -> Covariance:
        self.output_shape(covariance.shape)
        branch, shortcut = _at_common_pairs([self.branch.propagate(covariance), self.shortcut.propagate(covariance)])
        return branch + shortcut

    def decorrelates(self, before: bool) -> bool:
        return self.branch.decorrelates(before) and self.shortcut.decorrelates(before)

    def needs(self, after: Needs) -> Needs:
        return self.branch.needs(after) | self.shortcut.needs(after)


def _at_common_pairs(covariances: list[Covariance]) -> list[Covariance]:
    """The covariances at the pairs of positions that all of them carry; one branch may have asked for more."""
    least = Needs(min(each.cross for each in covariances), min(each.own for each in covariances))
    return [each.restricted(least) for each in covariances]


def _product(first: Covariance, second: Covariance) -> Covariance:
    """The covariance of the product of two independent layers' outputs, by the product rule."""
    terms = [ntk * nngp for ntk, nngp in ((first.ntk, second.nngp), (second.ntk, first.nngp)) if ntk is not None]

    def times(a: Array | None, b: Array | None) -> Array | None:
        return None if a is None or b is None else a * b

    return dataclasses.replace(
        first,
        nngp=first.nngp * second.nngp,
        ntk=sum(terms[1:], terms[0]) if terms else None,
        self1=times(first.self1, second.self1),
        self2=times(first.self2, second.self2),
        gaussian=False,
    )


def _independent(layer: Layer) -> bool:
    """Whether, at infinite width, the outputs are independent of the network's earlier values, whatever their mean."""
    if isinstance(layer, Sequential):
        return any(_independent(each) for each in layer.layers)
    if isinstance(layer, Frozen):
        return _independent(layer.layer)
    if isinstance(layer, _Branches):
        return all(_independent(each) for each in layer.branches)
    if isinstance(layer, Residual):
        return _independent(layer.branch) and _independent(layer.shortcut)
    return layer.decorrelates(False)
