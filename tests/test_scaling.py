"""Scaling laws: forms recovered, intervals that cover, bends found, bad input named."""

import re

import jax
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.scaling import (
    Interval,
    crossing,
    exponent_difference,
    first_passage,
    power_law,
    preferred_scaling_law,
    scaling_law,
)
from ntkbias.scaling.forms import FORMS, fit

SIZES = 2.0 ** np.arange(5, 14)


def noisy(curve, seed, num_seeds=5, scatter=0.02):
    return curve * np.exp(scatter * np.random.default_rng(seed).normal(size=(num_seeds, len(curve))))


def broken_curve(n, first=-0.2, second=-0.8, place=400.0, width=0.4):
    return 3 * n**first * (1 + (n / place) ** (1 / width)) ** ((second - first) * width)


@pytest.mark.parametrize("exponent", [-3.0, 0.0, 0.5])
def test_recovers_a_power_law(exponent):
    x = np.array([1.0, 3.0, 10.0, 20.0])
    fit = power_law(x, 2.5 * x**exponent)
    assert fit.exponent == pytest.approx(exponent, abs=1e-12)
    assert np.exp(fit.intercept) == pytest.approx(2.5)


class TestForms:
    @pytest.mark.parametrize("name", FORMS)
    def test_jacobian_is_the_difference_quotient(self, name):
        theta = np.array([[0.7, -0.3, -0.9, 5.0, 0.6], [1.2, 0.4, -2.0, 7.5, 0.1]])[:, : FORMS[name].num_parameters]
        log_n, step = np.log(SIZES), 1e-6
        values, jacobian = FORMS[name].curve(theta, log_n)
        for index in range(theta.shape[1]):
            change = step * (np.arange(theta.shape[1]) == index)
            quotient = (FORMS[name].curve(theta + change, log_n)[0] - FORMS[name].curve(theta - change, log_n)[0]) / 2
            # The error is step^2 times third derivatives, which are up to 1 / width^2, plus rounding, eps / step.
            np.testing.assert_allclose(jacobian[..., index], quotient / step, atol=1e-8)
        assert values.shape == (2, len(SIZES))

    def test_power_is_the_line_of_the_logarithms(self):
        errors = noisy(2 * SIZES**-0.5, 0, scatter=0.3).mean(0)
        law, line = scaling_law(SIZES, errors), power_law(SIZES, errors)
        assert law.exponent.value == pytest.approx(line.exponent, abs=1e-10)
        assert np.log(law.parameters["coefficient"].value) == pytest.approx(line.intercept, abs=1e-10)

    @pytest.mark.parametrize("exponent", [-0.07, -0.35, -1.0, -2.0])
    def test_offset_is_recovered(self, exponent):
        """Without noise, the answer is exact up to the tolerance of the search, on a problem with condition 1e8."""
        curve = 2 * SIZES**exponent + 0.5 * 2 * SIZES[-1] ** exponent
        law = scaling_law(SIZES, curve, "offset", num_resamples=2)
        assert law.exponent.value == pytest.approx(exponent, abs=1e-4 * abs(exponent))
        assert law.offset.value == pytest.approx(SIZES[-1] ** exponent, rel=1e-3)

    def test_break_is_recovered(self):
        law = scaling_law(SIZES, broken_curve(SIZES), "broken", num_resamples=2)
        found = {name: interval.value for name, interval in law.parameters.items()}
        expected = dict(zip(FORMS["broken"].names, (3.0, -0.2, -0.8, 400.0, 0.4), strict=True))
        assert found == pytest.approx(expected, rel=1e-4)

    def test_larger_forms_leave_less(self):
        """Each form contains the power law, so its sum of squares is at most as large. The oracle is SciPy's fit."""
        errors = noisy(SIZES**-0.4, 3, scatter=0.1)
        log_n, ones = np.log(SIZES), np.ones_like(errors)
        left = {name: fit(form, log_n, np.log(errors), ones)[1] for name, form in FORMS.items()}
        assert np.all(left["offset"] <= left["power"] * (1 + 1e-6))
        assert np.all(left["broken"] <= left["power"] * (1 + 1e-6))

    def test_the_search_finds_what_many_random_starts_find(self):
        import scipy.optimize

        rng = np.random.default_rng(0)
        log_n = np.log(SIZES)
        for name, curve in (("offset", 2 * SIZES**-0.6 + 0.05), ("broken", broken_curve(SIZES))):
            form, log_error = FORMS[name], np.log(noisy(curve, 7, 1, 0.03))
            low, high = (bound[0] for bound in form.bounds(log_n, log_error))
            box = np.clip(low, -5, None), np.clip(high, None, 8)
            best = min(
                scipy.optimize.least_squares(
                    lambda theta, form=form, log_error=log_error: form.curve(theta[None], log_n)[0][0] - log_error[0],
                    rng.uniform(*box),
                    bounds=(low, high),
                ).cost
                for _ in range(20)
            )
            assert fit(form, log_n, log_error, np.ones((1, len(SIZES))))[1][0] <= 2 * best * (1 + 1e-4)


class TestIntervals:
    def test_recovers_a_synthetic_exponent_within_a_hundredth(self):
        for seed in range(5):
            law = scaling_law(SIZES, noisy(2 * SIZES**-0.37, seed))
            assert law.exponent.value == pytest.approx(-0.37, abs=0.01)
            assert law.exponent.high - law.exponent.low < 0.03

    def test_is_residual_free(self):
        """Seeds that agree give an interval of zero width, however badly the law fits. One bent curve does not."""
        bent = broken_curve(SIZES)
        law = scaling_law(SIZES, np.stack([bent] * 4))
        assert law.exponent.high - law.exponent.low < 1e-6
        assert law.scatter > 0.1
        alone = scaling_law(SIZES, bent)
        assert alone.exponent.high - alone.exponent.low > 0.1
        assert alone.num_replicates == 0

    def test_the_exponent_does_not_depend_on_units(self):
        errors = noisy(SIZES**-0.5, 1)
        plain, scaled = scaling_law(SIZES, errors), scaling_law(1000 * SIZES, 1e-3 * errors)
        for end in ("value", "low", "high"):
            assert getattr(plain.exponent, end) == pytest.approx(getattr(scaled.exponent, end), abs=1e-9)

    def test_same_key_same_interval(self):
        errors = noisy(SIZES**-0.5, 1)
        same = [scaling_law(SIZES, errors, key=jax.random.key(seed)).exponent for seed in (3, 3, 4)]
        assert same[0] == same[1] != same[2]

    @pytest.mark.slow
    @pytest.mark.parametrize("num_seeds", [3, 5, 20])
    def test_intervals_cover(self, num_seeds):
        """Of 400 experiments, 95 % +- 1.1 % (one standard error) should hold the truth. t intervals over seeds do."""
        holds = np.array(
            [
                -0.5 in scaling_law(SIZES, noisy(SIZES**-0.5, seed, num_seeds, 0.1), num_resamples=500).exponent
                for seed in range(400)
            ]
        )
        assert 0.92 < holds.mean() < 0.98

    @pytest.mark.slow
    def test_intervals_of_one_curve_cover_where_errors_are_independent(self):
        holds = np.array(
            [-0.5 in scaling_law(SIZES, noisy(SIZES**-0.5, seed, 1, 0.1)[0]).exponent for seed in range(400)]
        )
        assert 0.90 < holds.mean() < 0.99

    @pytest.mark.slow
    def test_extrapolation_covers(self):
        """Nearly 95 % of the bands hold the truth, up to four times the largest size and with a fitted offset."""
        truth, holds = 2 * (4 * SIZES[-1]) ** -0.5 + 0.02, []
        for seed in range(200):
            law = scaling_law(SIZES, noisy(2 * SIZES**-0.5 + 0.02, seed, 6, 0.05), "offset", num_resamples=300)
            band = law.extrapolate(np.array([4 * SIZES[-1]]))
            holds.append(float(band.low[0]) <= truth <= float(band.high[0]))
        assert np.mean(holds) > 0.9


class TestExtrapolation:
    def test_holds_the_curve_and_widens(self):
        law = scaling_law(SIZES, noisy(2 * SIZES**-0.5, 0))
        band = law.extrapolate(SIZES[-1] * 4.0 ** np.arange(4))
        np.testing.assert_allclose(band.errors, law.curve(band.sizes), rtol=1e-6)
        ratio = np.asarray(band.high / band.low)
        assert np.all(np.diff(ratio) > 0)
        truth = 2 * np.asarray(band.sizes) ** -0.5
        assert np.all((band.low < truth) & (truth < band.high))


class TestPreferred:
    def test_a_line_stays_a_line(self):
        forms = [
            preferred_scaling_law(SIZES, noisy(SIZES**-0.5, seed, scatter=0.05), num_resamples=2).form
            for seed in range(15)
        ]
        assert forms.count("power") >= 14

    def test_bends_are_found(self):
        for seed in range(5):
            assert preferred_scaling_law(SIZES, noisy(SIZES**-0.5 + 0.02, seed), num_resamples=2).form == "offset"
            assert preferred_scaling_law(SIZES, noisy(broken_curve(SIZES), seed), num_resamples=2).form == "broken"

    @pytest.mark.slow
    def test_untuned_curves_bend(self):
        """Ridge regression with power-law features is straight if the ridge is chosen at each n, and bent if not."""
        sizes = np.round(2.0 ** np.arange(3, 8.1, 0.5))
        errors = np.array([[ridge_errors(int(n), seed) for n in sizes] for seed in range(10)])
        tuned, untuned = (preferred_scaling_law(sizes, chosen) for chosen in (errors.min(2), errors[:, :, -1]))
        assert (tuned.form, untuned.form) == ("power", "offset")
        assert untuned.offset.low > 0


def ridge_errors(n, seed, num_features=2_000, ridges=(1e-6, 1e-4, 1e-2)):
    """The exact test errors of ridge regression, with the ridge on K / n and features of variance k^-2."""
    rng = np.random.default_rng(seed)
    index = np.arange(1, num_features + 1.0)
    scale, target = index**-1.0, index**-0.25  # the target has power k^-2.5 in feature k
    x = rng.normal(size=(n, num_features)) * scale
    values, vectors = np.linalg.eigh(x @ x.T / n)
    labels = vectors.T @ (x @ target)
    left = [target - x.T @ (vectors @ (labels / (values + ridge))) / n for ridge in ridges]
    return [np.sum((rest * scale) ** 2) for rest in left]


class TestDifference:
    def test_of_a_law_with_itself(self):
        errors = noisy(SIZES**-0.5, 0)
        law = scaling_law(SIZES, errors)
        assert exponent_difference(law, law, paired=True) == Interval(0.0, 0.0, 0.0)
        apart = exponent_difference(law, law)
        width = law.exponent.high - law.exponent.low
        assert apart.high - apart.low == pytest.approx(2**0.5 * width, rel=1e-4)  # draws are in float32

    def test_is_antisymmetric_and_sees_what_differs(self):
        first, second = scaling_law(SIZES, noisy(SIZES**-0.5, 0)), scaling_law(SIZES, noisy(SIZES**-0.4, 1))
        one, other = exponent_difference(first, second), exponent_difference(second, first)
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
        assert 0 not in one
        assert -0.1 in one

    def test_pairs_cancel_what_seeds_share(self):
        shared = noisy(np.ones(9), 5, 8, 0.3)
        first, second = scaling_law(SIZES, SIZES**-0.5 * shared), scaling_law(SIZES, SIZES**-0.4 * shared)
        paired, apart = exponent_difference(first, second, paired=True), exponent_difference(first, second)
        assert paired.high - paired.low < 0.3 * (apart.high - apart.low)
        assert -0.1 in paired


def test_laws_are_saved(tmp_path):
    for form in ("power", "offset", "broken"):
        law = scaling_law(SIZES, noisy(SIZES**-0.5 + 0.01, 0), form, num_resamples=20)
        nb.save(tmp_path / form, law)
        loaded = nb.load(tmp_path / form)
        assert str(loaded) == str(law)
        assert loaded.parameters == law.parameters
        np.testing.assert_array_equal(loaded.extrapolate(np.array([1e5])).high, law.extrapolate(np.array([1e5])).high)


def test_reads_well():
    law = scaling_law(SIZES, noisy(broken_curve(SIZES), 0), "broken", num_resamples=50)
    assert str(law).startswith("error = 2.71 n^-0.173")
    title, heads, *rows = str(law).splitlines()
    assert title.endswith(", from n = 392 on as n^-0.816, over 5 replicates")
    assert heads.split() == ["parameter", "value"]
    assert [row.split()[:2] for row in rows if row.startswith("exponent")] == [["exponent", "-0.816"]]
    assert "over 9 sizes of one curve" in str(scaling_law(SIZES, SIZES**-0.5))


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"of one length; got shapes \(2,\) and \(3,\)"):
        power_law(np.ones(2), np.ones(3))
    with pytest.raises(InputError, match="Expected positive numbers to fit a power law"):
        power_law(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    with pytest.raises(InputError, match="two different x or more to fit a power law; got 1"):
        power_law(np.ones(3), np.ones(3))
    good, law = SIZES**-0.5, scaling_law(SIZES, SIZES**-0.5, num_resamples=3)
    few = scaling_law(SIZES, noisy(good, 0, 3), num_resamples=3)
    cases = [
        (lambda: scaling_law(SIZES[:, None], good), "Expected sizes (n,); got shape (9, 1)."),
        (lambda: scaling_law(-SIZES, good), "Expected sizes above zero"),
        (lambda: scaling_law(SIZES, good[:3]), "Expected errors (seeds, 9), or (9,) for one curve"),
        (lambda: scaling_law(SIZES, good[None]), "Expected two replicates or more in errors (seeds, n); got 1."),
        (lambda: scaling_law(SIZES, 0 * good), "Expected errors above zero to fit a power law"),
        (lambda: scaling_law(SIZES, np.nan * good), "Expected finite numbers in errors; got 9 NaN"),
        (lambda: scaling_law(SIZES, good, "cubic"), "form to be one of power, offset, broken; got 'cubic'"),
        (lambda: scaling_law(SIZES[:5], good[:5], "broken"), "Expected 6 different sizes or more for a law of form"),
        (lambda: scaling_law(SIZES, good, num_resamples=0), "num_resamples to be at least 1"),
        (lambda: scaling_law("all", good), "Expected sizes to be an array of numbers"),
        (
            lambda: preferred_scaling_law(SIZES[:5], good[:5]),
            "Expected six different sizes or more to see a bend; got 5",
        ),
        (lambda: preferred_scaling_law(SIZES, good, margin=-1), "Expected margin to be zero or more"),
        (lambda: law.extrapolate(np.zeros(1)), "Expected sizes above zero"),
        (lambda: exponent_difference(law, few, paired=True), "two laws with equal numbers of replicates"),
        (lambda: exponent_difference(law, law, paired=True), "Expected laws of several replicates for paired=True"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
    with pytest.raises(InputTypeError, match="Expected two laws made by scaling_law; got float"):
        exponent_difference(law, -0.5)


def test_errors_that_do_not_fall_have_exponent_zero():
    sizes = 2.0 ** np.arange(4, 10)
    for form, formula in (("power", "1 n^0"), ("offset", "1 n^0 + 0")):
        law = scaling_law(sizes, np.ones(6), form, num_resamples=20)
        assert str(law).startswith(f"error = {formula}, over 6 sizes of one curve\n")
        assert str(law.exponent) == "0.00"  # an interval of no width is left out
        np.testing.assert_allclose(law.curve(sizes), 1, rtol=1e-5)


def test_a_band_is_a_table():
    sizes = 2.0 ** np.arange(4, 10)
    band = scaling_law(sizes, 2 / sizes, num_resamples=20).extrapolate(np.array([1000]))
    assert [line.split() for line in str(band).splitlines()] == [
        ["ErrorBand:", "1", "size"],
        ["size", "error"],
        ["1,000", "0.00200"],  # an interval of no width is left out
        ["In", "brackets,", "intervals", "of", "95", "%."],
    ]


def test_power_laws_cross_where_their_formulas_do():
    """Between sizes a law is a straight line of logarithms: 2 n^-1/2 is 1/8 at 256, 8 n^-1/2 below n^-1/4 at 4096."""
    curves = np.stack([2 * SIZES**-0.5, 2 * SIZES**-0.5 + 1, SIZES**0.5 / 128], 1)
    np.testing.assert_allclose(crossing(SIZES, curves, 0.125), [256, np.nan, np.nan])
    assert crossing(SIZES, 8 * SIZES**-0.5 / SIZES**-0.25, 1.0) == pytest.approx(4096)
    assert np.isnan(crossing(SIZES, 2 * SIZES**-0.5, 3.0))  # below it from the start
    assert crossing([1, 2, 4, 8], [4.0, 1.0, 4.0, 1.0], 2.0) == pytest.approx(2**0.5)  # the first of two


def test_the_first_passage_is_the_first_position_beyond_the_level():
    rng = np.random.default_rng(0)
    at, curves, levels = np.arange(12) * 5.0, rng.normal(size=(12, 40)), rng.normal(size=40)
    curves[3, :4] = np.nan
    for falling in (False, True):
        slow = [
            next((s for s, v in zip(at, row, strict=True) if (v < level if falling else v > level)), np.nan)
            for row, level in zip(curves.T, levels, strict=True)
        ]
        np.testing.assert_array_equal(first_passage(at, curves, levels, falling=falling), slow)
    np.testing.assert_array_equal(first_passage(at, -curves, -levels, falling=True), first_passage(at, curves, levels))
    assert first_passage(at, curves[:, 9], 0.3).shape == ()
    passed, between = (first_passage(at, curves, levels, interpolated=each) for each in (False, True))
    late = passed > np.where(np.isnan(passed), np.inf, 0)  # those that were not beyond the level from the start
    assert np.all((passed - between)[late] <= 5)
    np.testing.assert_array_equal(np.isnan(passed), np.isnan(between))
    on_line = [np.interp(position, at, row) for position, row in zip(between, curves.T, strict=True)]
    before_is_known = late & (np.arange(40) > 3)
    np.testing.assert_allclose(np.array(on_line)[before_is_known], levels[before_is_known], atol=1e-12)
    assert before_is_known.sum() > 9
    for wrong, message in (
        (lambda: first_passage([1, 1], [0.0, 1.0], 0.5), "Expected positions at (s,) that ascend"),
        (lambda: first_passage([0, 1], [0.0], 0.5), "Expected values (2,) or (2, t), one row per position"),
        (lambda: first_passage([0, 1], [0.0, 1.0], [0.5, 0.5]), "Expected one level, or one per curve, ()"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            wrong()


@pytest.mark.usefixtures("unchecked")
def test_curves_that_cannot_cross_are_refused():
    for wrong, message in (
        (lambda: crossing([2, 1], [1.0, 2.0], 1.0), "Expected sizes that ascend"),
        (lambda: crossing([1, 2], [1.0, 0.0], 1.0), "Expected values and a level above zero"),
        (lambda: crossing([1, 2], [1.0, 2.0], 0.0), "Expected values and a level above zero"),
        (lambda: crossing([1, 2], [1.0, np.nan], 1.0), "Expected values and a level above zero"),
        (lambda: crossing([1, 2], [1.0], 1.0), "Expected values (2,) or (2, t), one row per size; got shape (1,)"),
        (lambda: crossing([1, 2], [1.0, 2.0], "low"), "Expected level to be"),
    ):
        with pytest.raises(InputError) as error:
            wrong()
        assert message in str(error.value)
