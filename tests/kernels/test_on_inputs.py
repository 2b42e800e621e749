"""One order of arguments: every function takes a kernel and its inputs, or one value that knows them."""

import jax
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError

N = 12
X = jax.random.normal(jax.random.key(0), (N, 3))
Y = np.sign(np.asarray(X[:, 0]))
NET = nb.nets.mlp(8, 1, 1)
KERNEL = nb.empirical_ntk(NET.apply, NET.init(jax.random.key(1), (3,)))

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
OF_SPECTRA = {"critical_learning_rate", "gradient_descent", "gradient_flow", "learning_curve"}


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
