"""Operators on several devices and processes: they give the products of one device, and communicate little."""

import os
import re
import socket
import subprocess
import sys
import textwrap

import numpy as np
import pytest

COMMON = """
import sys, jax, jax.numpy as jnp, numpy as np, ntkbias as nb
from ntkbias.kernels.operators import Jacobian, JacobianOperator, jacobian, layout

cheaper = JacobianOperator.uses_vjp
JacobianOperator.uses_matrix = lambda operator, k, halves: False  # products, also of few rows
net = nb.nets.mlp(16, 2, 3)
params = net.init(jax.random.key(0), (4,))
rng = np.random.default_rng(0)
x, v = (rng.normal(size=shape).astype(np.float32) for shape in ((37, 4), (111, 2)))
"""

ANSWERS = """
answers = []
for outputs, rows in (("all", 111), ("mean", 37)):
    kernel = nb.empirical_ntk(net.apply, params, outputs=outputs)
    for passes in (True, False):
        JacobianOperator.uses_vjp = lambda operator, k: passes
        answers += [kernel.operator(x) @ v[:rows], kernel.operator(x[:3]) @ v[: rows // 37 * 3]]
    operator = kernel.operator(x)
    on_parameters = operator.on_parameters()
    u = rng.normal(size=(on_parameters.shape[0], 2)).astype(np.float32)
    answers += [operator.diagonal(), on_parameters @ u, operator.unpack(on_parameters.lift(on_parameters.pack(u)))]
    answers += [operator.centered() @ v[:rows], operator.centered().diagonal()]
    answers += [operator.weighted(np.arange(1.0, 38.0) / 703) @ v[:rows]]
limit = nb.infinite_ntk(net).operator(x)
answers += [limit @ v[:37], limit.diagonal(), limit.centered() @ v[:37]]
answers += [(operator + limit) @ v[:37], (limit + -2.0 * operator) @ v[:37]]
JacobianOperator.uses_vjp, Jacobian._can_keep = cheaper, lambda jacobian: False
narrow = [jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), params[0]), *params[1:]]
answers += [nb.empirical_ntk(net.apply, narrow).operator(x) @ v[:37]]
"""


def start(script, *args, **environment):
    environment = {**os.environ, "PYTHONPATH": os.getcwd(), **environment}
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, args)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def finish(process):
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def flags(num_devices, *others):
    forced = [f"--xla_force_host_platform_device_count={num_devices}"] * (num_devices > 1)
    return " ".join([os.environ.get("XLA_FLAGS", ""), *forced, *others])


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The results of one device in one process."""
    path = tmp_path_factory.mktemp("one") / "answers.npz"
    finish(start(COMMON + ANSWERS + "assert len(jax.devices()) == 1; np.savez(sys.argv[1], *answers)", path))
    with np.load(path) as file:
        return list(file.values())


def assert_same(path, expected):
    with np.load(path) as file:
        for index, (got, answer) in enumerate(zip(file.values(), expected, strict=True)):
            # Sums over 37 examples in another order, in float32.
            np.testing.assert_allclose(got, answer, rtol=0, atol=2e-6 * np.abs(answer).max(), err_msg=f"number {index}")


@pytest.mark.slow
def test_four_devices(expected, tmp_path):
    ending = """
    assert len(jax.devices()) == 4
    assert operator.jacobian.layout.num_devices == 4
    assert set(operator.pack(v[:37]).devices()) == set(jax.devices())
    np.savez(sys.argv[1], *answers)
    """
    path = tmp_path / "answers.npz"
    finish(start(COMMON + ANSWERS + textwrap.dedent(ending), path, XLA_FLAGS=flags(4)))
    assert_same(path, expected)


@pytest.mark.slow
@pytest.mark.parametrize("num_devices", [1, 2])
def test_two_processes(num_devices, expected, tmp_path):
    """Each process has one or two devices of its own, and gets all results."""
    beginning = """
    import sys, jax
    port, index, path = sys.argv[1:]
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"localhost:{port}", num_processes=2, process_id=int(index))
    assert jax.process_count() == 2
    """
    ending = "np.savez(path, *answers)\n"
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    paths = [tmp_path / f"answers{index}.npz" for index in range(2)]
    script = textwrap.dedent(beginning) + COMMON + ANSWERS + ending
    processes = [start(script, port, index, path, XLA_FLAGS=flags(num_devices)) for index, path in enumerate(paths)]
    for process in processes:
        finish(process)
    for path in paths:
        assert_same(path, expected)


SENT = """
num_devices, folder = int(sys.argv[1]), sys.argv[2]
assert len(jax.devices()) == num_devices
x = rng.normal(size=(10 * num_devices, 4)).astype(np.float32)  # as many for each device
v = rng.normal(size=(30 * num_devices, 2)).astype(np.float32)
kernel = nb.empirical_ntk(net.apply, params, outputs="all")
gram = np.asarray(kernel(x)).reshape(len(v), len(v))
jacobian.BATCH = 6
type(kernel.gradients).pass_rows = lambda gradients, x: 3  # several batches, and one message
sums, reduced = [], layout._reduced

def counted(total, sharding):
    sums.append(sum(leaf.nbytes for leaf in jax.tree.leaves(total)) // num_devices)
    return reduced(total, sharding)

layout._reduced = counted
for passes in (True, False):
    JacobianOperator.uses_vjp = lambda operator, k: passes
    operator = kernel.operator(x)
    assert operator.jacobian.layout.num_batches > 1
    product = operator @ v
    np.testing.assert_allclose(product, gram @ v, rtol=0, atol=2e-6 * np.abs(gram @ v).max())
operator.on_parameters() @ np.ones((operator.num_parameters, 2))
# VJPs with one vector after the other, gradients, and J^T J: each sends one number per parameter per vector.
parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
assert operator.num_parameters == parameters
expected = [parameters * 4] * 2 + [parameters * 2 * 4] * 2
assert sums == expected * (num_devices > 1), sums
print(parameters)
"""
COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter|collective-broadcast"


@pytest.mark.parametrize("num_devices", [pytest.param(number, marks=pytest.mark.slow) for number in (1, 2, 4)])
def test_a_product_sends_one_number_per_parameter_per_vector(num_devices, tmp_path):
    """For any number of devices and batches: all programs that ran are searched for communication."""
    dump = flags(num_devices, f"--xla_dump_to={tmp_path}", "--xla_dump_hlo_as_text")
    process = start(COMMON + SENT, num_devices, tmp_path, XLA_FLAGS=dump)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output
    parameters = int(output.split()[-1])
    programs = list(tmp_path.glob("*after_optimizations.txt"))
    assert len(programs) > 10
    sent = [
        (re.sub(r"^module_\d+\.|\..*", "", file.name), *found)
        for file in programs
        for found in re.findall(rf"= (\S+) ({COLLECTIVES})(?:-start)?\(", file.read_text())
    ]
    # One program for a single vector by VJP, one for two vectors by gradients and by J^T J.
    messages = [("jit__reduced", f"f32[{parameters * count}]{{0}}", "all-reduce") for count in (1, 2)]
    assert sorted(sent) == (messages if num_devices > 1 else [])
