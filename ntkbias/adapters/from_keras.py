"""Keras 3 models on Keras' JAX backend.

>>> import os
>>> os.environ["KERAS_BACKEND"] = "jax"  # set this before importing keras, which has one backend per process
>>> import jax, keras, ntkbias as nb
>>> model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, activation="tanh"), keras.layers.Dense(3)])
>>> f, params = nb.adapters.keras(model)
>>> nb.empirical_ntk(f, params, outputs="each")(jax.numpy.ones((4, 2))).shape
(3, 4, 4)
>>> len(params)  # the keys are paths of variables, such as "dense/kernel"
4
"""

import inspect
from typing import Any

import jax
from jaxtyping import Array

from ntkbias.adapters.adapted import Adapted, library, require_one_array, require_type
from ntkbias.errors import InputError
from ntkbias.types import Params

__all__ = ["keras"]


def keras(model: Any, **options: Any) -> tuple[Adapted, Params]:
    """The function `f(params, x)` of a Keras 3 model, and its trainable variables, `{path: array}`.

    `f` returns the outputs of `model.stateless_call(trainable, non_trainable, x, training=False, **options)`: dropout
    off, BatchNorm on its stored statistics. Variables that are not trainable (statistics, frozen layers, states of
    random numbers) are fixed at their current values. Functional, sequential and subclassed models work, and so does a
    single layer of any kind. A layer that is called twice has one set of parameters.

    After training, `f` takes the new parameters `{v.path: v.value for v in model.trainable_variables}`; statistics stay
    as they were when the model was adapted. If several variables have the same path, the later ones are numbered,
    `path:1`. Adapt the model again after you freeze a layer, because the set of trainable variables must not change.

    Keras computes in the type of its dtype policy, whatever the type of `x`. For float64 build the model under
    `keras.config.set_dtype_policy("float64")`, with JAX set to float64.

    Raises `ImportError` without Keras, `InputTypeError` if `model` is no Keras 3 model, and `InputError` if Keras has
    another backend or the model has no variables yet. `f` raises `InputError` if the outputs are not one array.
    """
    module = library("keras")
    backend = module.backend.backend()
    if backend != "jax":
        raise InputError(
            f"Expected Keras on its JAX backend; got {backend!r}. Set KERAS_BACKEND=jax in the environment before "
            "you import keras, then build the model and load its weights."
        )
    advice = "Models of tf.keras belong to Keras 2: rebuild them with keras 3."
    require_type(model, module.Layer, "model to be a keras.Model", advice)
    if not model.built:
        raise InputError(
            f"Expected a model that is built, so that its variables exist; got {type(model).__name__}, which is not "
            "built. Call it on a batch first, model(x), or call model.build(shape of a batch)."
        )
    trainable = [variable.value for variable in model.trainable_variables]
    if not trainable:
        raise InputError(
            f"Expected {type(model).__name__} to have trainable variables; got none. Set layer.trainable = True."
        )
    names = _names([variable.path for variable in model.trainable_variables])
    fixed = [variable.value for variable in model.non_trainable_variables]
    accepted = inspect.signature(model.call).parameters.values()
    if any(argument.name == "training" or argument.kind is argument.VAR_KEYWORD for argument in accepted):
        options = {"training": False, **options}  # other models leave it to their layers, which default to inference
    fixed_parts = _Held(model), tuple(names), fixed, options
    params = dict(zip(names, trainable, strict=True))
    return Adapted(_outputs, fixed_parts, model=model, made_by="adapters.keras(model)", params=params), params


@jax.tree_util.register_static
class _Held:
    """The model as a static part of the pytree's structure, compared by identity."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Held) and self.model is other.model

    def __hash__(self) -> int:
        return id(self.model)


def _outputs(fixed: Any, params: Params, x: Array) -> Array:
    held, names, rest, options = fixed
    there = len(held.model.trainable_variables)
    if there != len(names):
        raise InputError(
            f"Expected the model's {len(names)} trainable variables, as when it was adapted; got {there}. Adapt it "
            "again after you freeze or add layers: f, params = adapters.keras(model)."
        )
    outputs, _ = held.model.stateless_call([params[name] for name in names], rest, x, **options)
    return require_one_array(outputs)


def _names(paths: list[str]) -> list[str]:
    """The paths of variables, with a number if several variables have the same path."""
    numbers = [paths[:place].count(path) for place, path in enumerate(paths)]
    return [f"{path}:{number}" if number else path for path, number in zip(paths, numbers, strict=True)]
