"""`ntkbias info`: versions, device and memory; what the data and the network are, and what a spectrum would cost."""

import time
from typing import Any

import jax
import jax.numpy as jnp

from ntkbias.cli.inputs import Inputs, inputs, settings
from ntkbias.cli.networks import Network, initialized, num_parameters, one_network, things
from ntkbias.cli.options import InfoOptions
from ntkbias.cli.outcome import Outcome, plain
from ntkbias.cli.targets import named
from ntkbias.eigen.dense import CHEAP
from ntkbias.kernels import Kernel
from ntkbias.memory import SHARE, default_memory_budget
from ntkbias.tables import counted, number

__all__ = ["run"]

TIMED = 64  # inputs of the kernel matrix whose time is measured


def run(options: InfoOptions) -> Outcome:
    """Describe the machine, the data and the network that the options name."""
    described = settings(options, "info")
    data = inputs(options)
    network = one_network(options, data.x.shape[1:])
    about = {
        "versions": described["versions"],
        "device": described["device"],
        "precision": described["precision"],
        "memory": f"{default_memory_budget() / SHARE / 1e9:.1f} GB",
        "data": _about_data(options, data),
        "network": _about_network(options, network, data),
    }
    about["cost"] = _cost(things(options, [network], (options.limit,)), data)
    return Outcome(_text(about), None, data=plain({"command": "info", **about}))


def _about_data(options: InfoOptions, data: Inputs) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": options.data,
        "inputs": len(data.x),
        "input shape": list(data.x.shape[1:]),
        "domain": type(data.domain).__name__,
    }
    if data.y is not None:
        found["labels" if data.labeled else "targets"] = (
            counted(len(set(data.y.tolist())), "class", "classes") if data.labeled else list(data.y.shape[1:]) or 1
        )
    found["named functions"] = list(named(options, data, ()))
    return found


def _about_network(options: InfoOptions, network: Network, data: Inputs) -> dict[str, Any]:
    params = initialized(options, network)
    outputs = jax.eval_shape(network.f, params, data.x[:1])
    found = {"name": network.name, "parameters": num_parameters(params), "output shape": list(outputs.shape[1:])}
    if network.layer is not None:
        found["layer"] = network.layer.described()
    return found


def _cost(kernels: dict[str, Kernel], data: Inputs) -> dict[str, Any]:
    """The size of the kernel matrix, and an estimate of its time, from a small one and its growth with n squared."""
    (kernel,) = kernels.values()
    n, few = len(data.x), data.x[: min(TIMED, len(data.x))]
    kernel.check(data.x, "x")
    seconds = min(_seconds(kernel, few) for _ in range(3))
    size = n**2 * jnp.result_type(float).itemsize
    return {
        "kernel": next(iter(kernels)),
        "kernel matrix": f"{n:,} by {n:,}, {size / 1e6:,.1f} MB",
        "seconds of the kernel matrix, about": float(f"{seconds * (n / len(few)) ** 2:.2g}"),
        "modes": "all, by an eigendecomposition" if n <= CHEAP else "ask for some: a full decomposition is slow",
    }


def _seconds(kernel: Kernel, x: Any) -> float:
    started = time.perf_counter()
    jax.block_until_ready(kernel(x))
    return time.perf_counter() - started


def _text(about: dict[str, Any], indent: str = "") -> str:
    """Names and values, one per line, with what belongs together indented."""
    lines = []
    for name, value in about.items():
        if isinstance(value, dict):
            lines += [f"{indent}{name}", _text(value, indent + "  ")]
        elif isinstance(value, list):
            lines.append(f"{indent}{name}: {', '.join(map(str, value)) or 'one number'}")
        else:
            lines.append(f"{indent}{name}: {f'{value:,}' if isinstance(value, int) else _number(value)}")
    return "\n".join(lines)


def _number(value: Any) -> str:
    return number(value) if isinstance(value, float) else str(value)
