"""Learnability of targets: definitions, explicit loops, few modes, and a prediction for training on MNIST."""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

import ntkbias as nb
from ntkbias.errors import InputError
from ntkbias.learning import Contrast, gradient_flow, learnability, learning_curve
from ntkbias.learning.in_modes import Beyond

N, OUT = 24, 3
X = jax.random.normal(jax.random.key(0), (N, 4))
KERNEL = nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.1))
MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist"
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def K():
    x = np.asarray(X, float)
    return 0.1 + np.exp(-np.sum((x[:, None] - x) ** 2, -1) / 8)  # a matrix that needs no compilation


def test_numbers_are_their_definitions(x64, K):
    y = RNG.normal(size=N)
    found = learnability(K, {"target": y}, centered=False, ridge=0.02)
    np.testing.assert_allclose(
        found.rayleigh_quotient[0, 0], y @ K @ y / (N * (y @ y)), rtol=1e-9
    )  # by |y|^2, not by |y|
    flow = gradient_flow(K, y, found.learning_time[0] * np.log(2))
    np.testing.assert_allclose(flow.outputs[0] @ y / (y @ y), 0.5, rtol=1e-8)
    sizes = np.array([np.floor(found.samples_needed[0, 0]), np.ceil(found.samples_needed[0, 0])]).astype(int)
    learned = learning_curve(K, y, sizes, ridge=0.02).learned
    assert learned[0] <= 0.5 <= learned[1]


def test_an_eigenfunction_is_learned_in_its_time(x64, K):
    spectrum = nb.eigen.eigh(K)
    names = [str(i) for i in range(0, N, 5)]
    functions = {name: spectrum.eigenfunctions[:, int(name)] for name in names[::-1]}
    found = learnability(K, functions, centered=False)
    order = [found.targets.index(name) for name in names]
    np.testing.assert_allclose(found.learning_time[0, order], 1 / spectrum.eigenvalues[::5], rtol=1e-8)
    np.testing.assert_allclose(found.rayleigh_quotient[0, order], spectrum.eigenvalues[::5], rtol=1e-8)
    kappa = spectrum.eigenvalues[::5]
    samples = [jnp.sum(spectrum.eigenvalues / (spectrum.eigenvalues + value)) for value in kappa]
    np.testing.assert_allclose(found.samples_needed[0, order], samples, rtol=1e-6)
    assert found.ranking() == tuple(names)


def test_scales_and_names_of_targets_change_nothing(x64, K):
    y = RNG.choice([-1, 1], N)
    one = learnability(K, {"y": y})
    for other in (
        learnability(K, y),
        learnability(K, {"y": 5.0 * y - 3}),
        learnability(K, {"y": np.where(y > 0, 8, 2)}),
    ):
        for field in ("rayleigh_quotient", "learning_time", "samples_needed", "learning_time_interval"):
            np.testing.assert_allclose(getattr(other, field), getattr(one, field), rtol=1e-9)
    twice = learnability(2 * K, {"y": y})
    np.testing.assert_allclose(twice.learning_time, one.learning_time / 2, rtol=1e-9)
    np.testing.assert_allclose(twice.samples_needed, one.samples_needed, rtol=1e-9)


def test_small_targets_do_not_count_as_zeros(x64, K):
    y = RNG.normal(size=N)
    small, one = (learnability(K.tolist(), y * scale) for scale in (1e-20, 1.0))
    np.testing.assert_allclose(small.learning_time, one.learning_time, rtol=1e-9)


def test_ways_to_name_a_kernel_agree(x64):
    targets = {"sign": lambda x: jnp.sign(x[:, 0]), "class": jnp.asarray(RNG.integers(0, 4, N))}
    x = np.asarray(X, float)
    K = np.asarray(KERNEL(x), float)
    operator, spectrum = KERNEL.operator(x), nb.eigen.eigh(K)
    given = learnability({"matrix": K, "kernel": KERNEL}, x, targets)
    assert given.kernels == ("matrix", "kernel")
    for found in (given.learning_time[1], learnability(operator, targets, modes=spectrum).learning_time[0]):
        np.testing.assert_allclose(found, given.learning_time[0], rtol=1e-5)
    np.testing.assert_allclose(
        learnability(operator, targets, modes=N).samples_needed[0], given.samples_needed[0], rtol=1e-4
    )


def test_with_few_modes_times_are_bounds_and_quotients_exact(x64, K):
    y = RNG.normal(size=(N, 4))
    targets = {str(i): column for i, column in enumerate(y.T)}
    whole = learnability(K, targets)
    for modes in (2, 10):
        few = learnability(nb.kernels.as_operator(K), targets, modes=modes)
        np.testing.assert_allclose(few.rayleigh_quotient, whole.rayleigh_quotient, rtol=1e-6)
        assert bool(jnp.all(few.learning_time <= whole.learning_time * 1.000001))
        assert bool(jnp.all((few.known_power > 0) & (few.known_power < 1)))
    one_product = learnability(nb.kernels.as_operator(K) * 1.0, targets)
    assert bool(jnp.all(one_product.learning_time * one_product.rayleigh_quotient >= 1 - 1e-9))  # Jensen's inequality
    assert bool(jnp.all(one_product.learning_time <= whole.learning_time * 1.000001))
    np.testing.assert_allclose(one_product.rayleigh_quotient, whole.rayleigh_quotient, rtol=1e-5)
    np.testing.assert_allclose(one_product.known_power, 0)
    assert one_product.are_bounds.tolist() == [True]
    assert whole.are_bounds.tolist() == [False]


@pytest.mark.parametrize("seed", range(6))
def test_intervals_with_few_modes_contain_the_numbers_of_all_modes(seed, x64):
    """Every bound contains the number from all modes and the reported value, even for labels that hardly generalize."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(60, 3))
    K = np.exp(-np.linalg.norm(x[:, None] - x, axis=-1) / 2)
    targets = {
        "random": rng.choice([-1, 1], 60),
        "classes": rng.integers(0, 3, 60),
        "linear": np.sign(x[:, 0] + 0.1).astype(int),
        "product": np.sign(x[:, 0] * x[:, 1]).astype(int),
    }
    whole = learnability(K, targets, ridge=0.01)
    finite = []
    for modes in (None, 2, 6, 20, 59):
        few = learnability(nb.kernels.as_operator(K) * 1.0, targets, modes=modes, ridge=0.01)
        for name in ("rayleigh_quotient", "learning_time", "samples_needed"):
            low, high = np.moveaxis(np.asarray(getattr(few, f"{name}_interval")), -1, 0)
            true, shown = np.asarray(getattr(whole, name)), np.asarray(getattr(few, name))
            assert np.all((low <= true) & (true <= high)), (modes, name)
            assert np.all((low <= shown * (1 + 1e-9)) & (shown <= high * (1 + 1e-9))), (modes, name)
        finite.append(np.isfinite(few.learning_time_interval).all())
    assert finite[-1]  # with more known modes, bounds tend to the intervals of all modes
    for name in ("rayleigh_quotient_interval", "learning_time_interval", "samples_needed_interval"):
        np.testing.assert_allclose(getattr(few, name), getattr(whole, name), rtol=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_the_extremes_bound_every_spectrum_of_their_moments(seed):
    """The two rules with the first two moments of random rates bound the means over these rates."""
    rng = np.random.default_rng(seed)
    for count in (1, 2, 5, 40):
        rates, shares = rng.uniform(0, 1, count) ** 3, rng.dirichlet(np.ones(count))
        quick, slow = Beyond.of(shares @ rates, shares @ rates**2, 1.0)
        for rule in (quick, slow):
            moments = [rule.mean(lambda r, power=power: r**power) for power in range(3)]
            np.testing.assert_allclose(moments, [1, shares @ rates, shares @ rates**2], rtol=1e-9)
        for scale in (0.1, 1.0, 10.0, 1e3):
            for gain in (lambda r: -np.expm1(-scale * r), lambda r: r * scale / (1 + r * scale)):  # noqa: B023
                true = shares @ gain(rates)
                assert slow.mean(gain) <= true * (1 + 1e-9)
                assert true <= quick.mean(gain) * (1 + 1e-9)


def test_an_operator_costs_one_block_product(monkeypatch):
    operator = nb.kernels.as_operator(np.eye(N, dtype=np.float32)) * 1.0
    blocks = []
    product = type(operator).product
    monkeypatch.setattr(type(operator), "product", lambda self, v: blocks.append(v.shape) or product(self, v))
    learnability(operator, {"a": RNG.normal(size=N), "b": RNG.integers(0, 3, N)})
    assert blocks == [(N, 4)]


@pytest.mark.slow
def test_outputs_and_their_contrasts(x64):
    net = nb.nets.mlp(8, 1, OUT)
    params = jax.tree.map(lambda leaf: leaf.astype(float), net.init(jax.random.key(1), (4,)))
    kernel = nb.empirical_ntk(net.apply, params, outputs="all")
    x = X.astype(float)
    signs, labels = RNG.choice([-1.0, 1.0], N), RNG.integers(0, OUT, N)
    found = learnability(kernel, x, {"contrast": Contrast(0, 2, signs), "classes": labels}, centered=False)
    matrix = np.asarray(kernel(x)).reshape(N * OUT, N * OUT)
    targets = np.stack([signs, 0 * signs, -signs], 1), np.eye(OUT)[labels]
    for place, target in enumerate(targets):
        y = target.ravel()
        np.testing.assert_allclose(found.rayleigh_quotient[0, place], y @ matrix @ y / (N * (y @ y)), rtol=1e-8)
        flow = gradient_flow(matrix.reshape(N, OUT, N, OUT), target, found.learning_time[0, [place]] * np.log(2))
        np.testing.assert_allclose(jnp.sum(flow.outputs[0] * target) / np.sum(target**2), 0.5, rtol=1e-7)
    everywhere = learnability(kernel, x, Contrast(0, 2), centered=False)
    assert float(everywhere.learning_time[0, 0]) < float(found.learning_time[0, 0])  # a constant is learned first


@pytest.mark.slow
def test_independent_outputs_need_the_samples_of_one(x64, K):
    """K acts on each output separately: the modes are vector-valued, but the numbers are the same."""
    y = RNG.choice([-1.0, 1.0], N)
    whole = np.einsum("nm,op->nomp", K, np.eye(2))
    both, one = learnability(whole, Contrast(0, 1, y), ridge=0.3), learnability(K, y, ridge=0.3)
    for field in (
        "rayleigh_quotient",
        "learning_time",
        "samples_needed",
        "samples_needed_interval",
        "rayleigh_quotient_interval",
    ):
        np.testing.assert_allclose(getattr(both, field), getattr(one, field), rtol=1e-7)


@pytest.mark.parametrize("classes", [2, 4])
def test_label_times_are_when_labels_are_right(x64, K, classes):
    labels = RNG.integers(0, classes, N)
    found = learnability(K, {"labels": labels, "values": RNG.normal(size=N)}, centered=False)
    columns = np.where(labels == 1, 1.0, -1.0)[:, None] if classes == 2 else np.eye(classes)[labels]
    time = found.label_time[0, 0]

    def right(time):
        outputs = np.asarray(gradient_flow(K, columns, jnp.asarray([time])).outputs[0])
        guessed = (outputs[:, 0] > 0) * 1 if classes == 2 else outputs.argmax(1)
        return np.mean(guessed == labels)

    assert right(time * 1.0001) >= 0.9
    assert all(right(time * factor) < 0.9 for factor in (0.98, 0.5, 0.1))
    assert bool(jnp.isnan(found.label_time[0, 1]))
    assert found.ranking(by="label_time")[0] == "labels"


def test_labels_that_are_right_at_once_have_label_time_zero(x64):
    """Balanced labels that are eigenfunctions have the right sign as soon as outputs move, even if they move slowly."""
    place = np.arange(N)
    fast, slow = np.where(place < N / 2, 1.0, -1.0), (-1.0) ** place
    K = np.eye(N) + 5 * np.outer(fast, fast) + np.outer(slow, slow)
    found = learnability(K, {"slow": slow, "fast": fast, "values": RNG.normal(size=N)})
    assert found.label_time[0, :2].tolist() == [0.0, 0.0]
    assert found.ranking(by="label_time") == ("fast", "slow", "values")  # ties by learning time
    times = learnability(np.eye(N), {"rare": (place < 2).astype(int), "third": (place < N / 3).astype(int)}).label_time
    assert float(times[0, 0]) == 0.0  # the mean, which counts as known, is right for 22 of 24
    np.testing.assert_allclose(times[0, 1], N * np.log(4 / 3), rtol=0.02)  # 4/3 (1 - exp(-t / N)) is 1/3


def test_constants_are_subtracted(x64, K):
    rare = (np.arange(N) < 3).astype(int)
    taken, left = (learnability(K, rare, centered=centered) for centered in (True, False))
    assert float(left.rayleigh_quotient[0, 0]) > 2 * float(taken.rayleigh_quotient[0, 0])
    values = np.where(rare, 1.0, -1.0)
    np.testing.assert_allclose(
        taken.rayleigh_quotient, learnability(K, values - values.mean(), centered=False).rayleigh_quotient
    )


def of_weights(K, y, weights, ridge):
    """Logarithms of Rayleigh quotient, learning time and samples needed under weights, from the definitions."""
    roots = np.sqrt(weights)
    rates, vectors = np.linalg.eigh(roots[:, None] * K * roots)
    power = (vectors.T @ (roots * y)) ** 2 / np.sum(weights * y**2)

    def log_root(function):
        return scipy.optimize.brentq(function, -30, 30, xtol=1e-14)

    time = log_root(lambda log: power @ np.exp(-rates * np.exp(log)) - 0.5)
    kappa = np.exp(log_root(lambda log: power @ (rates / (rates + np.exp(log))) - 0.5))
    return np.array([np.log(power @ rates), time, np.log(np.sum(rates / (rates + kappa)) + ridge / kappa)])


def test_intervals_are_the_linearized_bootstrap(x64, K):
    y = RNG.normal(size=N)
    step, uniform = 1e-5, np.full(N, 1 / N)
    change = []
    for one in np.eye(N):
        sides = [of_weights(K, y, uniform + sign * step * (one - uniform), 0.1) for sign in (1, -1)]
        change.append((sides[0] - sides[1]) / (2 * step))
    expected = np.linalg.norm(change, axis=0) / N
    found = learnability(K, y, centered=False, ridge=0.1)
    spans = found.rayleigh_quotient_interval, found.learning_time_interval, found.samples_needed_interval
    widths = [float(np.log(span[0, 0, 1] / span[0, 0, 0]) / (2 * 1.96)) for span in spans]
    np.testing.assert_allclose(widths, expected, rtol=5e-3)  # the error of the integral over time on its grid


@pytest.mark.slow
def test_intervals_cover_other_samples(x64):
    """Twenty samples of 200 examples: the logarithms scatter as the intervals say, or up to half as much.

    A standard deviation of twenty is known to 16 %. The jackknife counts the noise of its own influences, too.
    """
    targets = {
        "linear": lambda x: jnp.sign(x[:, 0] + 0.3 * x[:, 1]),
        "product": lambda x: jnp.sign(x[:, 0] * x[:, 1]),
        "wave": lambda x: jnp.sin(6 * x[:, 0]),
    }
    logs, widths = [], []
    for seed in range(20):
        x = jax.random.normal(jax.random.key(seed), (200, 4), float)
        found = learnability(KERNEL, x, targets)
        values = found.rayleigh_quotient, found.learning_time, found.samples_needed
        spans = found.rayleigh_quotient_interval, found.learning_time_interval, found.samples_needed_interval
        logs.append(np.log([value[0] for value in values]))
        widths.append([np.log(span[0, :, 1] / span[0, :, 0]) / (2 * 1.96) for span in spans])
    ratios = np.mean(widths, 0) / np.std(logs, 0, ddof=1)
    print("stated over measured standard deviations (alignment, time, samples):", ratios.round(2).tolist())
    assert np.all((ratios > 0.65) & (ratios < 2))


@pytest.mark.slow
def test_it_predicts_the_order_in_which_a_network_learns_mnist():
    """Ten labelings and three seeds, as in the experiment of benchmarks/learnability.py."""
    if not MNIST.is_dir():
        pytest.skip(f"Expected files of MNIST in {MNIST}; there are none.")
    sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
    import learnability as benchmark

    images, digits = nb.datasets.mnist(MNIST, num_examples=2_000)
    made = benchmark.labelings(images.reshape(2_000, -1), digits, 100, nb.infinite_ntk(nb.nets.mlp(depth=1)), 0)
    assert sum(made["parity"][1] != made["parity, a fifth flipped"][1]) == 20  # no label is flipped twice
    found = [benchmark.compared(MNIST, 400, 256, 1_000, seed) for seed in range(3)]
    correlations = {name: [benchmark.spearman(rows, name) for rows in found] for name in benchmark.PREDICTIONS}
    print(correlations)
    assert min(correlations["label time"]) > 0.9
    assert np.median(correlations["learning time"]) > 0.8


def test_a_result_is_saved_and_printed(tmp_path, K):
    found = learnability({"first": K, "second": 2 * K}, {"a": RNG.normal(size=N), "bb": np.asarray(X[:, 0])})
    nb.save(tmp_path / "found", found)
    assert str(nb.load(tmp_path / "found")) == str(found)
    title, heads, *lines, note = str(found).splitlines()
    assert title == "Learnability: 2 targets, 2 kernels"
    assert heads.split() == [
        "kernel",
        "target",
        "Rayleigh",
        "quotient",
        "learning",
        "time",
        "samples",
        "needed",
        "label",
        "time",
    ]
    assert [line.split()[:2] for line in lines] == [["first", "bb"], ["first", "a"], ["second", "bb"], ["second", "a"]]
    assert note == "In brackets, intervals of 95 % over samples of as many examples."
    few = str(learnability(K, {"a": RNG.normal(size=N), "bb": RNG.choice([-1, 1], N)}, modes=3))
    assert few.splitlines()[1].split()[0] == "target"
    assert "~" in few
    assert "or more of these targets lies in known modes." in " ".join(few.split())


@pytest.mark.usefixtures("unchecked")
def test_errors_say_what_to_do(K):
    y = np.ones(N)
    whole = np.einsum("nm,op->nomp", K, np.eye(2))
    cases = [
        (
            lambda: learnability(KERNEL, y),
            "Expected learnability(kernels, x, targets); got no targets. The inputs x come second",
        ),
        (lambda: learnability(K, y), "Expected a target that is not zero everywhere after its mean is subtracted"),
        (
            lambda: learnability(K, 0 * y, centered=False),
            "Expected a target that is not zero everywhere; got zeros for 'target'",
        ),
        (lambda: learnability(K, {}), "Expected a dict of one or more targets by name; got an empty"),
        (lambda: learnability(K, {1: y}), "Expected names of targets to be strings; got 1"),
        (lambda: learnability(K, {"a": y[:3]}), "Expected the target 'a' of shape (24,), one value per input"),
        (lambda: learnability(K, {"a": y * np.nan}), "Expected finite numbers in the target 'a'"),
        (
            lambda: learnability(K, {"a": jnp.sin}),
            "Expected the inputs, x=, for a target that is a function of them",
        ),
        (lambda: learnability(K, {"a": Contrast(0, 1)}), "Expected a kernel with outputs='all' for a contrast"),
        (lambda: learnability(whole, Contrast(0, 0)), "Expected a contrast of two different outputs among 0 to 1"),
        (lambda: learnability(whole, -np.arange(N)), "Expected labels from 0 to 1, one per output; got -23 to 0"),
        (
            lambda: learnability({}, y),
            "Expected kernels to be a kernel, or a dict of one or more by name; got an empty",
        ),
        (lambda: learnability({1: K}, y), "Expected names of kernels to be strings; got 1"),
        (lambda: learnability({"a": K, "b": K[:3, :3]}, y), "on the same inputs; got 24 of 'a', 3 of 'b'"),
        (lambda: jax.jit(learnability)(K, y), "Expected arrays with values in learnability; got traced ones"),
        (lambda: learnability(nb.eigen.eigh(K), y), "Expected a kernel, an operator or a matrix; got a Spectrum"),
        (lambda: learnability(K, y, x=X[:3]), "Expected x to hold the 24 inputs of the kernel; got 3"),
        (
            lambda: learnability(K, X[:, 0], modes=nb.eigen.eigh(K[:3, :3])),
            "Expected modes= on the 24 rows of the kernel",
        ),
        (
            lambda: learnability({"a": K, "b": K}, X[:, 0], modes=nb.eigen.eigh(K)),
            "Expected modes= to be a dict of one spectrum per kernel",
        ),
        (lambda: learnability(K, X[:, 0]).ranking("other"), "Expected the name of a kernel; got 'other'"),
        (lambda: learnability(K, X[:, 0]).ranking(by="speed"), "Expected by to be one of learning_time, label_time"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
