"""One order of arguments: every function takes a kernel and its inputs, or one value that knows them."""

import jax
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.errors import InputError

N = 12
X = jax.random.normal(jax.random.key(0), (N, 3))
Y = np.sign(np.asarray(X[:, 0]))
NET = nb.nets.mlp(8, 1, 1)
PARAMS = NET.init(jax.random.key(1), (3,))
KERNEL = nb.empirical_ntk(NET.apply, PARAMS)

# name -> the arguments after kernel and inputs, the options, and the number to compare
TAKING_INPUTS = {
    "alignment": ((Y,), {}, lambda found: found.value),
    "critical_learning_rate": ((), {}, lambda found: found),
    "eigen.effective_dimension": ((0.1,), {"num_probes": 2}, lambda found: found.value),
    "eigen.log_determinant": ((0.1,), {"num_probes": 2}, lambda found: found.value),
    "gradient_descent": ((Y, [5], 0.1), {}, lambda found: found.outputs),
    "gradient_flow": ((Y, [1.0]), {}, lambda found: found.outputs),
    "kernel_regression": ((Y,), {"ridge": 0.1}, lambda found: found.outputs),
    "kernels.sketch": ((3,), {}, lambda found: found.gram()),
    "learnability": ((Y,), {"modes": N}, lambda found: found.learning_time),
    "learning_curve": ((Y, [2, 4]), {}, lambda found: found.errors),
    "measured_learning_curve": ((Y, [2, 4]), {"num_draws": 2, "ridge": 0.1}, lambda found: found.errors),
    "nystrom": ((4,), {}, lambda found: found.eigenvalues),
    "rayleigh_quotient": ((Y,), {}, lambda found: found),
    "spectral_density": ((), {"num_probes": 2}, lambda found: found.noise_floor),
    "top_modes": ((2,), {}, lambda found: found.eigenvalues),
}
OF_KERNELS = {"kernels.sketch", "nystrom"}  # these need the kernel itself, or its operator
OF_SPECTRA = ["critical_learning_rate", "gradient_descent", "gradient_flow", "learning_curve"]


def named(name):
    found = nb
    for part in name.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("name", TAKING_INPUTS)
def test_a_value_that_knows_its_inputs_replaces_both(name):
    more, options, number = TAKING_INPUTS[name]
    function = named(name)
    expected = number(function(KERNEL, X, *more, **options))
    ways = [(KERNEL.operator(X),)]
    ways += [] if name in OF_KERNELS else [(np.asarray(KERNEL(X)),)]
    ways += [(nb.spectrum(KERNEL, X),)] if name in OF_SPECTRA else []
    for known in ways:
        np.testing.assert_allclose(number(function(*known, *more, **options)), expected, rtol=1e-2, atol=1e-4)
    np.testing.assert_allclose(number(function(KERNEL, *more, x=X, **options)), expected)  # x as a keyword


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", TAKING_INPUTS)
def test_other_calls_get_one_sentence(name):
    more, options, _ = TAKING_INPUTS[name]
    function, own = named(name), name.split(".")[-1]
    K = np.asarray(KERNEL(X))
    calls = [
        (lambda: function(KERNEL, *more, **options), "; got no "),
        (lambda: function(KERNEL, None, *more, **options), "; got x=None. The inputs x come second, after a kernel."),
        (lambda: function(KERNEL, X, *more, x=X, **options), "; got too many positional arguments. The inputs x come"),
        (lambda: function(K, X, *more, **options), "which knows its inputs; got too many positional"),
        (lambda: function(KERNEL, X, *more, speed=1, **options), "; got an unexpected keyword argument 'speed'"),
    ]
    for call, message in calls:
        with pytest.raises(InputError) as error:
            call()
        assert str(error.value).startswith(f"Expected {own}(kernel")
        assert message in str(error.value)
    if name != "learnability":  # learnability accepts x with a matrix, because targets may be functions of x
        with pytest.raises(InputError, match="Expected inputs x= only with a Kernel; got them with ndarray"):
            function(K, *more, x=X, **options)


def test_several_kernels_by_name_take_inputs():
    targets = {"sign": Y, "wave": lambda x: jax.numpy.sin(x[:, 0])}
    whole = nb.learnability({"a": KERNEL, "b": KERNEL(X)}, X, targets)
    given = nb.learnability({"a": KERNEL(X)}, targets, x=X)
    np.testing.assert_allclose(whole.learning_time[1], given.learning_time[0])


OF_TARGETS = [name for name, (more, _, _) in TAKING_INPUTS.items() if more and more[0] is Y]
WITH_TARGETS = {
    **{name: lambda y, name=name: named(name)(KERNEL, X, y, *TAKING_INPUTS[name][0][1:]) for name in OF_TARGETS},
    "compare": lambda y: nb.compare({"k": KERNEL}, X, nb.domains.PointCloud(), targets=y),
    "project": lambda y: nb.spectrum(KERNEL, X).project(y),
}
DIGITS = np.arange(N) % 3


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", sorted({*WITH_TARGETS} - {"learnability"}))  # labels are columns in learnability
def test_labels_are_not_taken_for_numbers(name):
    function = WITH_TARGETS[name]
    for labels in (DIGITS, DIGITS.tolist(), jax.numpy.asarray(DIGITS)):
        with pytest.raises(InputError, match=r"got whole numbers of 3 different .* nb.datasets.one_hot\(labels\), and"):
            function(labels)
    for numbers in (DIGITS.astype(float), np.sign(DIGITS), nb.datasets.one_hot(DIGITS)):
        function(numbers)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", sorted(WITH_TARGETS))
def test_what_is_no_target_gets_one_sentence(name):
    for value, advice in (
        (lambda x: x[:, 0], "Give its values, f(x)."),
        (None, "Give numbers."),
        (NET, "Give numbers."),
    ):
        if (name, advice) == ("learnability", "Give its values, f(x).") or (name, value) == ("compare", None):
            continue
        expected = f"got {type(value).__name__}. {advice}"
        if name == "learnability" and value is NET:
            expected = "a function of x or a Contrast; got Sequential, for 'target'"
        with pytest.raises(InputError) as error:
            WITH_TARGETS[name](value)
        assert expected in str(error.value)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", TAKING_INPUTS)
def test_kernels_and_domains_are_not_inputs(name):
    more, options, _ = TAKING_INPUTS[name]
    own = name.split(".")[-1]
    for value, what in ((KERNEL, "a Kernel"), (nb.domains.Circle(), "Circle")):
        with pytest.raises(InputError, match=rf"Expected inputs x second; got {what}. Write {own}\(kernels?, x"):
            named(name)(KERNEL, value, *more, **options)
    with pytest.raises(InputError, match="Expected x to be inputs; got Circle. Give points of it, as domain.sample"):
        nb.spectrum(KERNEL, nb.domains.Circle())


OF_ONE_SPECTRUM = {
    **{name: lambda s, name=name: named(name)(s, *TAKING_INPUTS[name][0]) for name in OF_SPECTRA},
    "rank_by_frequency": lambda s: nb.rank_by_frequency(s, nb.domains.PointCloud()),
    **{name: lambda s, name=name: getattr(s, name)(Y) for name in ("project", "cumulative_power")},
    **{name: lambda s, name=name: getattr(s, name)() for name in ("effective_rank", "stable_rank", "decay_exponent")},
    "extend": lambda s: s.extend(X),
}


@pytest.fixture(scope="module")
def stacked():
    return jax.vmap(lambda factor: nb.spectrum(factor * KERNEL, X))(jax.numpy.array([1.0, 2.0]))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", OF_ONE_SPECTRUM)
def test_stacked_spectra_are_refused(name, stacked):
    with pytest.raises(InputError, match="Expected one spectrum; got 2 stacked ones, as by vmap. Take one by jax.tree"):
        OF_ONE_SPECTRUM[name](stacked)


CLOUD, SGD = nb.domains.PointCloud(), optax.sgd(0.1)
ON_THE_HOST = {
    "rank_by_frequency": lambda x, _: nb.rank_by_frequency(nb.spectrum(KERNEL, x), CLOUD),
    "compare": lambda x, _: nb.compare({"k": KERNEL}, x, CLOUD),
    "save": lambda x, folder: nb.save(folder / "x", x),
    "save, of a kernel": lambda x, folder: nb.save(folder / "k", KERNEL.centered(x)),
    "gram_on_disk": lambda x, folder: nb.gram_on_disk(folder / "g", KERNEL, x),
    "rayleigh_quotient": lambda x, _: nb.rayleigh_quotient(KERNEL, x, Y),
    "training": lambda x, _: nb.track(NET.apply, PARAMS, (x, Y[:, None]), optimizer=SGD, num_steps=1),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("name", ON_THE_HOST)
def test_traced_arrays_get_one_sentence(name, tmp_path):
    own = name.split(",")[0]
    with pytest.raises(InputError, match=f"Expected arrays with values in {own}; got traced ones, as under jit"):
        jax.jit(lambda x: ON_THE_HOST[name](x, tmp_path))(X)


@pytest.mark.usefixtures("unchecked")
def test_other_mistakes_get_one_sentence():
    K, cases = KERNEL(X), []
    cases += [
        (lambda: nb.spectrum(K), "got ArrayImpl. For a matrix use nb.eigen.eigh(K)."),
        (lambda: nb.spectrum(KERNEL), "Expected spectrum(kernel, x); got no x"),
        (lambda: nb.compare({"k": KERNEL}, X), "got no domain. Give domain=, e.g. nb.domains.PointCloud()"),
        (lambda: nb.learning_curve(KERNEL, X, Y, [4, N + 1]), f"Expected sizes of at most {N}, the number of inputs"),
    ]
    for function, flag in (
        (nb.alignment, "centered"),
        (nb.rayleigh_quotient, "relative"),
        (nb.learnability, "centered"),
    ):
        calls = lambda function=function, flag=flag: function(KERNEL, X, Y, **{flag: "no"})  # noqa: E731
        cases.append((calls, f"Expected {flag} to be True or False; got 'no'"))
    cases.append(
        (
            lambda: nb.measured_learning_curve(KERNEL, X, Y, [2], held_out="no"),
            "Expected held_out to be True or False; got 'no'",
        )
    )
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)


def test_the_flow_of_a_zero_kernel_prints():
    flow = nb.gradient_flow(np.zeros((3, 3)), np.ones(3), [1.0])
    assert str(flow).splitlines()[2].split() == ["1.00", "0.500", "-", "0", "of", "0"]


def test_results_with_errors_are_numbers():
    for value in (nb.eigen.log_determinant(KERNEL, 0.1, x=X, num_probes=2), nb.scaling.Interval(1.234, 1.0, 2.0)):
        number = float(value)
        assert f"{value:.3f}" == f"{number:.3f}"
        assert f"{value}" == str(value)
        assert number - 1 < value < number + 1
        assert value <= number <= value
        assert value >= number
    with pytest.raises(InputError, match=r"Expected one number to convert by float.*got Estimate of shape \(2,\)"):
        float(nb.eigen.effective_dimension(KERNEL, X, np.array([0.1, 0.2]), num_probes=2))
