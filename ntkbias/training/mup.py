"""The learning rates of the maximal update parameterization, as an optax transformation with one factor per parameter.

muP fixes by which powers of the width the learning rates of the parameters differ, so that every layer's features move
by an amount that does not depend on the width (Yang and Hu 2021, arXiv 2011.14522, for gradient descent; Yang et al.
2022, arXiv 2203.03466, Table 3, for Adam too). For weights W of fan-in d and fan-out c, as they enter the network, the
rates are

                          inputs' weights, biases      hidden weights      readout
    gradient descent      c                            1                   1 / d
    Adam                  1                            1 / d               1 / d

The multipliers of layers with parameterization="mup" contain the first row: gradient descent takes one rate for all
parameters, and its kernel is the plain NTK. Adam's steps do not grow with the gradient, so that its second row remains.

>>> import jax, jax.numpy as jnp, ntkbias as nb, optax
>>> net = nb.nets.mlp(width=64, depth=2, parameterization="mup")
>>> params, data = net.init(jax.random.key(0), (3,)), (jnp.eye(3), jnp.ones((3, 1)))
>>> adam = optax.chain(optax.adam(0.1), nb.training.scale_by_mup(net, (3,), "adam"))
>>> losses = [jnp.mean((net.apply(p, data[0]) - 1) ** 2) for _, p in nb.train(net.apply, params, data, optimizer=adam,
...                                                                        num_steps=5, at=[0, 5])]
>>> bool(losses[1] < losses[0])
True
"""

from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from ntkbias.checks import require_choice
from ntkbias.errors import InputError, InputTypeError
from ntkbias.layers import Layer
from ntkbias.layers.wrappers import linear_layers

__all__ = ["Rule", "scale_by_mup"]

Rule = Literal["sgd", "adam"]


def scale_by_mup(net: Layer, input_shape: tuple[int, ...], rule: Rule) -> optax.GradientTransformation:
    """The transformation that multiplies each parameter's update by its factor of the learning rate under muP.

    `net` is a network of layers with parameterization="mup", and `input_shape` the shape of one input, as in `init`.
    Chain it after the optimizer, as in the example: `rule="sgd"` for gradient descent, with momentum or not, and
    "adam" for Adam and others whose steps have the size of the learning rate, whatever the gradient. One rate then
    serves all widths.

    With "sgd" all factors are one: the layers' multipliers contain them, and times and rates of training stay as they
    are. With "adam" a weight that enters the network as m W has the factor w_std / (d m), so that m W moves by about
    w_std / d times the learning rate, in the first layer too, whose d does not grow. Adam's `eps` has to be small
    beside the gradients, whose entries fall as 1 / width. Factors do not apply to weight decay that is part of the
    optimizer's update, except that they multiply it. Costs one product per parameter and step.

    Raises `InputError` unless all linear layers of `net` have parameterization="mup", and one or more of them
    readout=True.

    >>> import ntkbias as nb
    >>> net = nb.nets.mlp(width=100, depth=2, parameterization="mup")
    >>> rates = scale_by_mup(net, (4,), "adam")
    >>> params = net.init(jax.random.key(0), (4,))
    >>> updates, _ = rates.update(jax.tree.map(jax.numpy.ones_like, params), rates.init(params))
    >>> [round(float(leaf.max()), 4) for leaf in jax.tree.leaves(updates)]  # 1 / sqrt(4 * 100), 1 / 100, 1 / sqrt(100)
    [0.05, 0.01, 0.1]
    """
    if not isinstance(net, Layer):
        raise InputTypeError(
            f"Expected a network made of ntkbias layers, e.g. nets.mlp(), and not net.apply; got {type(net).__name__}."
        )
    require_choice("rule", rule, Rule)
    linear = linear_layers(net)
    others = sorted({layer.parameterization for layer in linear} - {"mup"})
    if others or not linear:
        raise InputError(
            'Expected a network whose linear layers all have parameterization="mup"; got '
            f"{', '.join(map(repr, others)) or 'no linear layer'}."
        )
    if not any(getattr(layer, "readout", False) for layer in linear):
        raise InputError(
            "Expected a network with a readout; got none, and its outputs would grow with the width. Give its last "
            "linear layer readout=True."
        )
    rates = net.adam_rates(input_shape)
    if rule == "sgd":
        return optax.identity()
    return _multiplied(rates, jax.eval_shape(lambda key: net.init(key, input_shape), jax.random.key(0)))


def _multiplied(rates: Any, like: Any) -> optax.GradientTransformation:
    """Multiply updates, whose shapes are those of `like`, by a pytree of numbers."""

    def form(tree: Any) -> str:
        return f"{jax.tree.structure(tree)} of shapes {[jnp.shape(leaf) for leaf in jax.tree.leaves(tree)]}"

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        if form(updates) != form(like):
            raise InputError(
                "Expected parameters of the network and the input_shape given to scale_by_mup, "
                f"{form(like)}; got {form(updates)}."
            )
        return jax.tree.map(lambda rate, leaf: rate * leaf, rates, updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)
