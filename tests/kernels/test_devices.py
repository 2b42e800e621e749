"""Kernels on several devices and in several processes, each in a new interpreter, equal those on one device."""

import os
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

COMMON = """
import jax, jax.numpy as jnp, numpy as np, ntkbias as nb
net = nb.nets.mlp(16, 2, 3)
x1, x2 = (jax.random.normal(jax.random.key(seed), (n, 4)) for seed, n in ((1, 37), (2, 22)))
params = net.init(jax.random.key(0), (4,))
kernels = [nb.empirical_ntk(net.apply, params, outputs=outputs) for outputs in ("mean", "each", "all")]
kernels += [nb.infinite_ntk(net), nb.empirical_nngp(net.apply, params) + 2.0 * nb.infinite_nngp(net)]
grams = [np.asarray(gram) for kernel in kernels for gram in (kernel(x1), kernel(x1, x2), kernel(x1[:1], x2[:1]))]
cross = nb.cross_ntk(net.apply, lambda params, x: jnp.sin(net.apply(params, x)), params, outputs="all")
block = nb.block_ntk({"f": net.apply, "g": cross.right.f}, params)
grams += [np.asarray(cross(x1, x2)), np.asarray(block({"f": x1, "g": x2}))]
"""


def start(script, *args, **environment):
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), **environment}
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The grams on one device, in one process."""
    path = tmp_path_factory.mktemp("one") / "grams.npz"
    finish(start(COMMON + "import sys; assert len(jax.devices()) == 1; np.savez(sys.argv[1], *grams)", path))
    with np.load(path) as file:
        return list(file.values())


def assert_same(path, expected):
    with np.load(path) as file:
        for got, gram in zip(file.values(), expected, strict=True):
            np.testing.assert_allclose(got, gram, rtol=0, atol=2e-6 * np.abs(gram).max())


@pytest.mark.slow
def test_four_devices(expected, tmp_path):
    script = """
    import sys
    from ntkbias.kernels.kernel import Kernel
    assert len(jax.devices()) == 4
    assert {d for gram in [kernels[0](x1)] for d in gram.devices()} == {jax.devices()[0]}
    used = set()
    for worker in kernels[0].device_programs():
        used |= {d for leaf in jax.tree.leaves(worker.features(x1)) for d in leaf.devices()}
    assert used == set(jax.devices())

    # Features that are computed in passes are allocated on the device of the passes.
    from ntkbias.kernels import evaluation as module
    from ntkbias.kernels.empirical import EmpiricalNTK
    room, pass_rows, rooms = module._zero_features, EmpiricalNTK.pass_rows, []
    def recorded(*args):
        whole = room(*args)
        rooms.append({d for leaf in jax.tree.leaves(whole) for d in leaf.devices()})
        return whole
    module._zero_features, EmpiricalNTK.pass_rows = recorded, lambda kernel, x: 5
    for worker in kernels[0].device_programs():
        worker.features(x1)
    assert rooms == [{d} for d in jax.devices()]
    module._zero_features, EmpiricalNTK.pass_rows = room, pass_rows
    assert jnp.allclose(jax.jit(lambda x: kernels[0](x))(x1), grams[0], atol=1e-5)  # inside a program: where that runs
    np.savez(sys.argv[1], *grams)
    """
    path = tmp_path / "grams.npz"
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=4"
    finish(start(COMMON + textwrap.dedent(script), path, XLA_FLAGS=flags))
    assert_same(path, expected)


@pytest.mark.slow
def test_two_processes(expected, tmp_path):
    script = """
    import sys, jax
    port, index, path = sys.argv[1:]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
    assert jax.process_count() == 2
    """
    ending = "np.savez(path, *grams)\n"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    paths = [tmp_path / f"grams{index}.npz" for index in range(2)]
    processes = [
        start(textwrap.dedent(script) + COMMON + ending, port, index, path) for index, path in enumerate(paths)
    ]
    for process in processes:
        finish(process)
    for path in paths:
        assert_same(path, expected)
