"""The networks that the options describe: by name, in sweeps over width, depth and activation, and of users.

>>> from ntkbias.cli.networks import networks
>>> from ntkbias.cli.options import CompareOptions
>>> [each.name for each in networks(CompareOptions(width=(64, 256)), ("mlp",), (8, 8, 1))]
['mlp, width 64', 'mlp, width 256']
"""

import importlib
import inspect
import itertools
import math
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
from jaxtyping import PRNGKeyArray

from ntkbias import nets
from ntkbias.cli.architectures import FAMILIES, Architecture, architecture
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import Kernel, empirical_ntk, infinite_ntk
from ntkbias.layers import Layer
from ntkbias.memory import default_memory_budget
from ntkbias.types import ApplyFunction, Params

__all__ = ["Network", "finite_kernel", "initialized", "networks", "num_parameters", "one_network", "things"]

OFFERED = ("input_shape", "num_outputs")  # what a user's function is called with, if it has such parameters


class Network(NamedTuple):
    """A network by name: a function of parameters and inputs, and how its parameters come about."""

    name: str
    f: ApplyFunction
    init: Callable[[PRNGKeyArray], Params] | None  # None: the parameters are given
    params: Params | None = None
    layer: Layer | None = None  # which alone has a limit
    limit_name: str = ""  # of the limit; the width is not part of it unless it matters there
    width: int | None = None


def networks(options: Any, names: Iterable[str], input_shape: tuple[int, ...], num_outputs: int = 1) -> list[Network]:
    """The networks of these names, one for each width, depth and activation of the options; then the user's own."""
    if not 0 <= options.b_std < float("inf"):
        raise InputError(f"Expected --b-std to be zero or more; got {options.b_std}.")
    found = {}
    for text in dict.fromkeys(names):
        for each in _sweep(options, architecture(text), input_shape, num_outputs):
            found[each.name] = each
    models = options.model if isinstance(options.model, tuple) else filter(None, (options.model,))
    for text in models:
        found[text] = _own(text, input_shape, num_outputs)
    return list(found.values())


def one_network(options: Any, input_shape: tuple[int, ...], num_outputs: int = 1) -> Network:
    """The network of a command that takes one: the user's own if there is one."""
    return networks(options, () if options.model else (options.net,), input_shape, num_outputs)[0]


def things(options: Any, found: Iterable[Network], limits: Iterable[str], num_runs: int = 1) -> dict[str, Any]:
    """What `compare` takes, by name: kernels, or for several runs networks or pairs (f, init)."""
    limits, found = tuple(dict.fromkeys(limits)), list(found)
    made: dict[str, Any] = {}
    last = {network.limit_name: network.name for network in found}  # the limit of several widths comes after all
    for network in found:
        for limit in limits:
            if limit == "finite":
                if num_runs > 1 and network.init is not None:
                    _require_memory(options, network, num_runs)
                    pair = network.f, network.init
                    made[f"{network.name}, finite"] = pair if network.layer is None else network.layer
                else:
                    made[f"{network.name}, finite"] = finite_kernel(options, network)
            elif network.layer is not None and last[network.limit_name] == network.name:
                made[f"{network.limit_name}, infinite"] = infinite_ntk(network.layer)
            elif network.layer is None and limits == ("infinite",):
                raise InputError(
                    f"Expected a Layer of ntkbias for the infinite limit; got a function from {network.name}. Use "
                    "finite."
                )
    return made


def finite_kernel(options: Any, network: Network) -> Kernel:
    """The NTK of a network with the parameters of --seed, or with its own."""
    return empirical_ntk(network.f, initialized(options, network))


def initialized(options: Any, network: Network, num_runs: int | None = None) -> Params:
    """Random parameters of one network or of several runs. Raises `InputError` if they do not fit in memory."""
    if network.init is None:
        if num_runs is not None:
            raise InputError(
                f"Expected --num-runs 1 for {network.name}, which has parameters of its own; got {num_runs}."
            )
        return network.params
    init = network.init
    _require_memory(options, network, num_runs or 1)
    key = jax.random.key(options.seed)
    return init(key) if num_runs is None else jax.vmap(init)(jax.random.split(key, num_runs))


def num_parameters(params: Any) -> int:
    """The number of parameters."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params) if hasattr(leaf, "shape"))


def _require_memory(options: Any, network: Network, num_runs: int) -> None:
    if network.width is not None and network.width >= 2**31:
        raise InputError(f"Expected --width below 2^31; got {network.width}.")
    assert network.init is not None
    shapes = jax.tree.leaves(jax.eval_shape(network.init, jax.random.key(options.seed)))
    num_bytes = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in shapes) * num_runs
    if num_bytes > 2 * default_memory_budget():  # half of the memory; without memory, the system ends the process
        raise InputError(
            f"Expected a network that fits in memory; got parameters of {num_bytes / 1e9:,.0f} GB. "
            "Choose a smaller --width, or for spectra --limit infinite."
        )


def _sweep(options: Any, wanted: Architecture, input_shape: tuple[int, ...], num_outputs: int) -> Iterable[Network]:
    """One network per combination of those widths, depths and activations that the name leaves open."""
    family = FAMILIES[wanted.family]
    if wanted.family != "mlp" and len(input_shape) != 3:
        raise InputError(
            f"Expected images (n, height, width, channels) for {wanted.family}; got inputs of shape "
            f"(n, {', '.join(map(str, input_shape))}). Use mlp."
        )
    axes: dict[str, tuple[Any, ...]] = {
        "width": options.width or (family.width,),
        "depth": (options.depth or (family.depth,)) if family.depth is not None else (None,),
        "activation": options.activation,
    }
    given = {"width": wanted.width, "depth": wanted.depth, "activation": wanted.activation}
    axes |= {name: (value,) for name, value in given.items() if value is not None}
    for values in itertools.product(*axes.values()):
        chosen = dict(zip(axes, values, strict=True))
        layer = _layer(options, wanted, chosen, num_outputs)
        layer.output_shape(input_shape)  # which raises if the network cannot take the inputs
        swept = {name: f"{name} {value}" for name, value in chosen.items() if len(axes[name]) > 1}
        full = ", ".join([wanted.text, *swept.values()])
        kept = [text for name, text in swept.items() if name != "width" or options.parameterization != "ntk"]
        yield Network(
            full,
            layer.apply,
            lambda key, layer=layer: layer.init(key, input_shape),  # type: ignore[misc]
            layer=layer,
            limit_name=", ".join([wanted.text, *kept]),
            width=chosen["width"],
        )


def _layer(options: Any, wanted: Architecture, chosen: dict[str, Any], num_outputs: int) -> Layer:
    shared: dict[str, Any] = {
        "width": chosen["width"],
        "num_outputs": num_outputs,
        "activation": chosen["activation"],
        "b_std": options.b_std or None,
        "parameterization": options.parameterization,
    }
    family, depth = wanted.family, chosen["depth"]
    readout: Any = wanted.readout or FAMILIES[family].readout
    if family == "mlp":
        return nets.mlp(depth=depth, **shared)
    if family == "cnn-pool":
        return nets.cnn(depth=depth, readout="pool", **shared)
    if family == "cnn":
        return nets.cnn(depth=depth, readout=readout, **shared)
    if family == "resnet":
        return nets.resnet(block_size=depth, readout=readout, **shared)
    if family == "transformer":
        return nets.transformer(depth=depth, readout=readout, **shared)
    return nets.myrtle(depth=int(family.removeprefix("myrtle")), **shared)


def _own(text: str, input_shape: tuple[int, ...], num_outputs: int) -> Network:
    """The network that a user's function `module:function` returns."""
    function = _imported(text)
    offered = dict(zip(OFFERED, (input_shape, num_outputs), strict=True))
    try:
        named = [name for name in OFFERED if name in inspect.signature(function).parameters]
    except (TypeError, ValueError):  # a function without a signature, as some of C have none
        named = []
    try:
        made = function(**{name: offered[name] for name in named})
    except Exception as error:  # whatever the user's function raises
        raise InputError(
            f"Expected --model {text} to return a network; got {type(error).__name__}: {error}. It is called with "
            f"{', '.join(f'{name}={offered[name]!r}' for name in named) or 'no arguments'}."
        ) from error
    if isinstance(made, Layer):
        made.output_shape(input_shape)
        return Network(text, made.apply, lambda key: made.init(key, input_shape), layer=made, limit_name=text)
    if isinstance(made, tuple) and len(made) == 2 and callable(made[0]):
        f, second = made
        if any(hasattr(leaf, "shape") for leaf in jax.tree.leaves(second)):
            return Network(text, f, None, second)
        if callable(second):
            return Network(text, f, second)
    raise InputTypeError(
        f"Expected {text} to return a Layer, (f, params) or (f, init) with params = init(key); got "
        f"{type(made).__name__}."
    )


def _imported(text: str) -> Callable[..., Any]:
    """The function `module:function`; modules in the working folder are found first."""
    module, _, name = text.partition(":")
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        found = getattr(importlib.import_module(module), name, None)
    except Exception as error:  # whatever the user's module raises
        raise InputError(
            f"Expected --model {text} to name a module that can be imported; got {type(error).__name__}: {error}."
        ) from error
    finally:
        sys.path.remove(here)
    if not callable(found):
        raise InputError(f"Expected a function {name} in the module {module} of --model; got {type(found).__name__}.")
    return found
