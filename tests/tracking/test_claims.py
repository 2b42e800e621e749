"""Claims of papers about kernels in training, tested by `track` alone. Slow, but two cores finish it in minutes."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats

import ntkbias as nb
from ntkbias.scaling import power_law
from ntkbias.tracking import Probe, measures, open_history, path_spectrum, track, track_many

pytestmark = pytest.mark.slow

CIRCLE = nb.domains.Circle()
MNIST = Path(__file__).resolve().parents[3] / "shared" / "data" / "mnist"


def pytorch_mlp(*sizes):
    """`init(key)` and f of a ReLU network in the standard parameterization, with PyTorch's default initialization."""

    def init(key):
        layers = []
        for fan_in, fan_out, own in zip(sizes, sizes[1:], jax.random.split(key, len(sizes) - 1), strict=False):
            weights, bias = jax.random.split(own)
            bound = fan_in**-0.5
            layers.append(
                {
                    "w": jax.random.uniform(weights, (fan_in, fan_out), minval=-bound, maxval=bound),
                    "b": jax.random.uniform(bias, (fan_out,), minval=-bound, maxval=bound),
                }
            )
        return layers

    def f(params, x):
        for layer in params[:-1]:
            x = jax.nn.relu(x @ layer["w"] + layer["b"])
        return x @ params[-1]["w"] + params[-1]["b"]

    return init, f


def test_the_sharpness_rises_to_the_edge_of_stability():
    """Cohen et al. 2021 (arXiv 2103.00065): by full-batch descent on the squared error of digits, to 2 / rate.

    `benchmarks/curvature.py` has more rates and seeds.
    """
    data, rate = nb.datasets.digits(500), 0.3
    x = (data.x - data.x.mean(0)) / np.sqrt(np.mean((data.x - data.x.mean(0)) ** 2))
    options = {"w_std": 3**-0.5, "b_std": 1.0, "b_init": 0.0, "parameterization": "standard"}
    net = nb.nets.mlp(width=64, depth=2, num_outputs=10, activation="tanh", **options)
    params, taken = net.init(jax.random.key(0), x.shape[1:]), measures.chosen("sharpness", "sharpness_limit")
    run = {"optimizer": optax.sgd(rate), "num_steps": 1_600, "at": range(0, 1_601, 80), "probe": x[:20]}
    history = track(net.apply, params, (x, nb.datasets.one_hot(data.y)), measures=taken, **run)
    relative = history["sharpness"] / history["sharpness_limit"]
    assert relative[0] < 0.6
    assert np.all(np.diff(relative[:3]) > 0)
    assert abs(np.median(relative[history.steps >= 800]) - 1) < 0.1


def disk(key):
    """100 points of the square, +1 inside a disk of half its area (Baratin et al. 2020, arXiv 2008.00938)."""
    x = jax.random.uniform(key, (100, 2), minval=-1, maxval=1)
    return x, jnp.where(jnp.sum(x**2, 1) < 2 / jnp.pi, 1.0, -1.0)


def disk_runs(seed=0):
    """Eight networks to train together: f, their parameters, the data and the options of training."""
    init, f = pytorch_mlp(2, 60, 60, 60, 1)
    params = jax.vmap(init)(jax.random.split(jax.random.key(seed), 8))
    return f, params, disk(jax.random.key(100)), {"optimizer": optax.sgd(0.05), "loss": "logistic"}


def test_the_kernel_aligns_with_the_disk():
    """Baratin et al. 2020: the kernel's trace grows, it aligns with the labels, and its two ranks disagree."""
    f, params, data, options = disk_runs()
    test = disk(jax.random.key(200))
    taken = measures.chosen("alignment", "trace", "effective_rank", "centered_effective_rank")
    at = sorted({0, *(int(5 * 1.15**i) for i in range(46) if 5 * 1.15**i < 3_000)})
    history = track_many(f, params, data, num_steps=3_000, at=at, probe=test, measures=taken, **options)
    aligned = history["alignment"]
    growth = aligned[:, -1] / aligned[:, 0]
    assert growth.min() > 1
    assert np.median(growth) >= 1.5
    assert (history["trace"][:, -1] / history["trace"][:, 0]).min() >= 500
    # The two ranks disagree: while the centered one falls, the uncentered one rises by much more.
    change = [history[name][:, -1] / history[name][:, 0] for name in ("effective_rank", "centered_effective_rank")]
    assert np.all(change[0] > 2)
    assert np.all(change[1] < 1.3)


@pytest.fixture(scope="module")
def dips():
    """The decrease of the centered kernel's rank before the training accuracy exceeds 0.9, for three times 8 seeds."""
    return np.array([dips_of(seed) for seed in range(3)])


def dips_of(seed):
    f, params, data, options = disk_runs(seed)
    taken = measures.chosen("accuracy", "centered_effective_rank")
    early = track_many(f, params, data, num_steps=600, at=range(0, 601, 10), measures=taken, **options)
    found = []
    for ranks, accuracy in zip(early["centered_effective_rank"], early["accuracy"], strict=True):
        passed = int(np.argmax(accuracy > 0.9))
        assert accuracy[passed] > 0.9
        found.append(1 - ranks[: passed + 1].min() / ranks[0])
    return found


def test_the_rank_of_the_centered_kernel_dips(dips):
    assert np.all(np.median(dips, 1) >= 0.15)
    assert np.mean(dips >= 0.1) > 0.9


@pytest.mark.xfail(strict=True, reason="61 of 64 networks dip by 10 % or more, and three by 4.7, 9.6 and 9.7 %")
def test_the_rank_of_the_centered_kernel_dips_in_each_seed(dips):
    assert np.all(dips >= 0.1)


@pytest.mark.parametrize("seed", range(3))
def test_alignment_is_silent(seed):
    """Atanasov et al. 2021 (arXiv 2111.00034): K reaches its final alignment before the loss has dropped by 10 %.

    For two linear layers, whitened inputs and small weights the alignment is 2 / sqrt(D + 3). Then only the norm grows.
    """
    D, width, keys = 10, 100, jax.random.split(jax.random.key(seed), 4)
    u, _, _ = jnp.linalg.svd(jax.random.normal(keys[0], (200, D)), full_matrices=False)
    x, beta = u * 200**0.5, jax.random.normal(keys[1], (D,))
    scale = 1e-3 / width**0.5
    params = {
        "w": scale * jax.random.normal(keys[2], (D, width)),
        "v": scale * jax.random.normal(keys[3], (width, 1)),
    }
    data = x, x @ beta / jnp.linalg.norm(beta)
    taken = measures.chosen("loss", "uncentered_alignment", "trace")
    options = {"optimizer": optax.sgd(0.05), "num_steps": 400, "at": range(0, 401, 10), "measures": taken}
    history = track(lambda params, x: x @ params["w"] @ params["v"], params, data, **options)
    before = int(np.argmax(history["loss"] < 0.9 * history["loss"][0])) - 1
    expected = 2 / (D + 3) ** 0.5
    assert history["uncentered_alignment"][0] < 0.9 * expected
    np.testing.assert_allclose(history["uncentered_alignment"][before], expected, rtol=1e-3)
    np.testing.assert_allclose(history["uncentered_alignment"][-1], expected, rtol=1e-4)
    assert history["trace"][-1] > 10 * history["trace"][before]


def test_wide_networks_are_lazy():
    """Jacot 2018, Lee 2019: the drift falls as width^-1/2 to width^-1, and the network follows the frozen kernel."""
    x, _ = CIRCLE.quadrature(16)
    data, widths = (x, jnp.sign(x[:, 0] + 0.1)), np.array([64, 128, 256, 512, 1024])
    drifts, errors = [], []
    for width in widths.tolist():
        net = nb.nets.mlp(width=width, depth=2, b_std=0.1)
        params = jax.vmap(lambda key, net=net: net.init(key, (2,)))(jax.random.split(jax.random.key(width), 6))
        taken = measures.chosen("kernel_drift", "frozen_error")
        options = {"optimizer": optax.sgd(0.2), "num_steps": 300, "at": [0, 300], "measures": taken}
        history = track_many(net.apply, params, data, **options)
        drifts.append(history["kernel_drift"][:, -1])
        errors.append(history["frozen_error"][:, -1].mean())
    draws = np.random.default_rng(0)
    resampled = [
        power_law(widths, np.array([draws.choice(each, len(each)).mean() for each in drifts])).exponent
        for _ in range(200)
    ]
    low, high = np.percentile(resampled, [2.5, 97.5])
    assert -1.05 < low
    assert high < -0.5
    assert errors[-1] < 0.02
    assert power_law(widths, np.array(errors)).exponent < -0.4


def test_scaled_outputs_are_lazy():
    """Chizat et al. 2019 (arXiv 1812.07956): for alpha f - alpha f0 at rate / alpha^2, the drift falls as 1 / alpha.

    The activation is smooth. The kernel of a ReLU network moves only when single neurons switch.
    """
    net, (x, _) = nb.nets.mlp(width=64, depth=1, b_std=0.1, activation="erf"), CIRCLE.quadrature(16)
    params, y = net.init(jax.random.key(0), (2,)), jnp.sign(x[:, 0] + 0.1)
    found = []
    for alpha in (1.0, 10.0, 100.0):

        def f(current, x, alpha=alpha):
            return alpha * (net.apply(current, x) - net.apply(params, x))

        options = {"optimizer": optax.sgd(0.2 / alpha**2), "num_steps": 300, "at": [0, 300]}
        history = track(f, params, (x, y), measures=measures.chosen("kernel_drift", "frozen_error"), **options)
        found.append((history["kernel_drift"][-1], history["frozen_error"][-1]))
    drifts, errors = np.array(found).T
    np.testing.assert_allclose(drifts[2] / drifts[1], 0.1, rtol=0.2)
    assert errors[2] < 1e-3
    assert errors[2] < errors[1] < errors[0]


@pytest.mark.parametrize(("activation", "fall", "last"), [("erf", 3, 1e-3), ("relu", 1.5, 3e-3)])
def test_the_path_kernel_explains_the_change_of_outputs(activation, fall, last):
    """f_T - f_0 = -(1/n) integral of K_t r_t, with an error that is quadratic in the spacing of snapshots.

    For ReLU the error is linear, because the kernel jumps in time when a neuron switches. The learning rate is so small
    that the steps follow gradient flow to some 1e-4.
    """
    x, _ = CIRCLE.quadrature(24)
    angle = CIRCLE.angle(x)
    y = jnp.cos(angle) + jnp.sin(3 * angle)
    net = nb.nets.mlp(width=64, depth=2, b_std=0.1, activation=activation)
    params = net.init(jax.random.key(0), (2,))
    taken = measures.chosen("path_kernel", "path_eigenvalues", "path_outputs", "path_error", "kernel_drift")
    errors = []
    for count in (5, 9, 17, 33):
        at = (4_000 * (np.linspace(0, 1, count) ** 2)).astype(int)
        options = {"optimizer": optax.sgd(2e-3), "num_steps": 4_000, "at": at, "measures": taken}
        history = track(net.apply, params, (x, y), probe=Probe(domain=CIRCLE), **options)
        errors.append(history["path_error"][-1])
    falls = np.array(errors[:-1]) / np.array(errors[1:])
    assert np.all(falls > fall)  # the error falls by a factor of four, or two for ReLU
    assert errors[-1] < last
    assert history["kernel_drift"][-1] > 0.03  # the kernel has changed
    ranking = nb.rank_by_frequency(path_spectrum(history), CIRCLE)
    assert sorted(ranking.frequencies[:3].tolist()) == [0, 1, 1]


def test_low_frequencies_are_learned_first():
    """Rahaman et al. 2019 (arXiv 1806.08734), with fewer frequencies: they exceed 0.8 in ascending order.

    The paper's own signal and network are in `benchmarks/spectral_bias.py`, which takes some 40 minutes on two cores.
    """
    init, network = pytorch_mlp(1, 128, 128, 128, 1)
    x, _ = CIRCLE.quadrature(64)
    frequencies = np.arange(1, 6)
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, 5)
    angle = np.asarray(CIRCLE.angle(x))

    def f(params, x):  # as in the paper, a function of z in [0, 1), which is the circle cut open
        return network(params, CIRCLE.angle(x)[:, None] / (2 * jnp.pi))

    params = jax.vmap(init)(jax.random.split(jax.random.key(0), 5))
    for amplitudes in (np.ones(5), np.linspace(0.1, 1, 5)):
        y = jnp.asarray(np.sin(np.outer(angle, frequencies) + phases) @ amplitudes, jnp.float32)
        taken = measures.chosen("output_spectrum")
        options = {"optimizer": optax.adam(1e-3), "num_steps": 1_200, "at": range(0, 1_201, 10), "measures": taken}
        history = track_many(f, params, (x, y), probe=Probe(domain=CIRCLE), **options)
        heights = np.sqrt(2 * history["output_spectrum"][:, :, frequencies]) / amplitudes
        first = np.where((heights > 0.8).any(1), (heights > 0.8).argmax(1), len(history))
        order = [scipy.stats.spearmanr(frequencies, row).statistic for row in first]
        assert min(order) >= (0.9 if amplitudes[0] == 1 else 0.999), first  # strictly ascending if the amplitudes grow


def test_a_probe_of_five_thousand_in_bounded_memory():
    if not MNIST.is_dir():
        pytest.skip("the files of MNIST are not there")
    script = f"""
        import resource, sys
        import jax, jax.numpy as jnp, optax
        import ntkbias as nb
        from ntkbias.tracking import track
        x, y = nb.datasets.mnist({str(MNIST)!r}, num_examples=5_000)
        net = nb.nets.mlp(width=64, depth=1, num_outputs=10)
        params = net.init(jax.random.key(0), x.shape[1:])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        history = track(net.apply, params, (x, y), optimizer=optax.sgd(0.1), num_steps=20, at=[0, 20],
                        loss="cross_entropy", batch_size=64, probe=(x, y))
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert history["eigenvalues"].shape == (2, 20) and "effective_rank" not in history
        assert history["alignment"].shape == (2,)
        print((after - before) / 2**20)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True)
    assert not done.returncode, done.stderr[-2_000:]
    assert (
        float(done.stdout) < 3
    )  # GiB: the matrices of three snapshots and a centered one take 100 MB each, and computations need more


KILLED = """
    import sys
    import jax, jax.numpy as jnp, optax
    import ntkbias as nb
    from ntkbias.tracking import track
    net = nb.nets.mlp(width=16, depth=1)
    x = jax.random.normal(jax.random.key(1), (40, 3))
    history = track(net.apply, net.init(jax.random.key(0), (3,)), (x, jnp.sign(x[:, 0])), optimizer=optax.adam(0.01),
                    num_steps=400, at=range(0, 401, 2), batch_size=8, checkpoint=sys.argv[1])
    nb.save(sys.argv[1] + "/end", history)
"""


def test_twenty_kills_leave_one_identical_history(tmp_path):
    """SIGKILL and SIGINT at random moments lose at most the current snapshot, and the final history is the same."""
    command = [sys.executable, "-c", textwrap.dedent(KILLED)]
    subprocess.run([*command, tmp_path / "whole"], check=True, capture_output=True)
    draws = np.random.default_rng(0)
    folder, seen = tmp_path / "killed", 0
    for attempt in range(20):
        process = subprocess.Popen([*command, folder], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline, wanted = time.monotonic() + 120, seen + int(draws.integers(1, 9))
        while process.poll() is None and time.monotonic() < deadline and count(folder) < wanted:
            time.sleep(0.005)
        time.sleep(draws.uniform(0, 0.02))
        process.send_signal(signal.SIGINT if attempt % 4 == 3 else signal.SIGKILL)
        process.wait()
        assert count(folder) >= seen
        seen = count(folder)
        assert len(open_history(folder)) == seen
    assert seen < 201  # it was killed before the end each time
    subprocess.run([*command, folder], check=True, capture_output=True)
    whole, killed = nb.load(tmp_path / "whole/end"), nb.load(folder / "end")
    for name in whole:
        np.testing.assert_array_equal(whole[name], killed[name], err_msg=name)


def count(folder):
    """The number of snapshots on disk."""
    return len(list((folder / "snapshots").glob("[0-9]*.npz"))) if (folder / "snapshots").is_dir() else 0
