"""`top_modes` over several devices and processes gives the answer of one device, even after a process was killed."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

pytestmark = pytest.mark.slow

PROBLEM = """
import sys, jax, jax.numpy as jnp, numpy as np, ntkbias as nb
from ntkbias.eigen import krylov, subspace
krylov.DENSE, subspace.BLOCKS, krylov.SAVE_SECONDS = 0, 4, 0.0
net = nb.nets.mlp(12, 2, 3)
params = net.init(jax.random.key(0), (4,))
x = np.random.default_rng(0).normal(size=(150, 4)).astype(np.float32)
"""
SEARCH = """
path, checkpoint = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 and sys.argv[2] != "none" else None
answers = []
for outputs in ("all", "mean"):  # by J^T J, and by J J^T
    operator = nb.empirical_ntk(net.apply, params, outputs=outputs).operator(x)
    modes = nb.top_modes(operator, 12, key=jax.random.key(1), block_size=8, checkpoint=checkpoint, max_products=500)
    if checkpoint is not None:
        checkpoint += "-mean"
    answers += [modes.eigenvalues, modes.residuals, modes.trace, modes.eigenfunctions]
    assert bool(modes.converged.all())
np.savez(path, *answers)
"""
TWO = """
import sys, jax
port, index = sys.argv.pop(1), sys.argv.pop(1)
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
assert jax.process_count() == 2
"""
SLOW = """
import time
from ntkbias.kernels.operators import JacobianOperator
quick = JacobianOperator.pulled_and_pushed
def slow(operator, tangents):
    time.sleep(0.5)
    return quick(operator, tangents)
JacobianOperator.pulled_and_pushed = slow
"""


def start(script, *args, devices=1):
    flags = os.environ.get("XLA_FLAGS", "")
    if devices > 1:
        flags += f" --xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), "XLA_FLAGS": flags}
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=400)
    assert process.returncode == 0, output


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    path = tmp_path_factory.mktemp("one") / "answers.npz"
    finish(start(PROBLEM + SEARCH, path))
    with np.load(path) as file:
        return list(file.values())


def assert_same(path, expected):
    with np.load(path) as file:
        got = list(file.values())
    for part in (0, 4):
        values, _, trace, functions = expected[part : part + 4]
        np.testing.assert_allclose(got[part], values, rtol=1e-5)
        np.testing.assert_allclose(got[part + 2], trace, rtol=1e-5)
        vectors, others = (array.reshape(-1, array.shape[-1]) for array in (functions, got[part + 3]))
        # Residuals do not separate eigenvalues that are close together, but the spaces before a wide gap agree.
        gap = 1 + int(np.argmax(values[:-1] / values[1:]))
        norms = np.linalg.norm(vectors, axis=0)[:gap], np.linalg.norm(others, axis=0)[:gap]
        cosines = np.linalg.svd((vectors[:, :gap] / norms[0]).T @ (others[:, :gap] / norms[1]), compute_uv=False)
        assert cosines.min() > 1 - 1e-6
        assert np.all(got[part + 1] <= 1e-4 * values)


def test_four_devices(expected, tmp_path):
    path = tmp_path / "answers.npz"
    finish(start(PROBLEM + "assert len(jax.devices()) == 4\n" + SEARCH, path, devices=4))
    assert_same(path, expected)


def test_two_processes(expected, tmp_path):
    port = free_port()
    paths = [tmp_path / f"answers{index}.npz" for index in range(2)]
    processes = [start(TWO + PROBLEM + SEARCH, port, index, path) for index, path in enumerate(paths)]
    for process in processes:
        finish(process)
    for path in paths:
        assert_same(path, expected)


def test_a_killed_process_leaves_a_run_that_resumes(expected, tmp_path):
    checkpoint = tmp_path / "search.npz"
    port = free_port()
    paths = [tmp_path / f"answers{index}.npz" for index in range(2)]
    processes = [
        start(TWO + PROBLEM + SLOW + SEARCH, port, index, path, checkpoint) for index, path in enumerate(paths)
    ]
    deadline = time.monotonic() + 200
    while not checkpoint.exists() and time.monotonic() < deadline:
        assert all(process.poll() is None for process in processes)
        time.sleep(0.05)
    assert checkpoint.exists()
    processes[1].send_signal(signal.SIGKILL)
    try:
        processes[0].wait(20)  # it may notice the loss, or wait for the other process forever
    except subprocess.TimeoutExpired:
        processes[0].kill()
    for process in processes:
        process.communicate()
    assert not paths[0].exists()
    port = free_port()
    processes = [start(TWO + PROBLEM + SEARCH, port, index, path, checkpoint) for index, path in enumerate(paths)]
    for process in processes:
        finish(process)
    for path in paths:
        assert_same(path, expected)
