"""Every interval holds the truth as often as it says: the cases of `covering.py`, in `benchmarks/coverage.py` too."""

import of_decay
import of_ease
import of_fits
import of_frequencies
import of_learnability
import of_probes
import pytest
from covering import DRAWS, Case, Row, least, rows

CASES = [
    *of_decay.CASES,
    *of_ease.CASES,
    *of_frequencies.CASES,
    *of_learnability.CASES,
    *of_fits.CASES,
    *of_probes.CASES,
]
QUICK = {"tail index", "alignment, 2 se", "ease of a labeling"}  # a second or two for 200 draws


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if case.interval in QUICK else pytest.mark.slow, id=f"{case.interval}, {case.data}")
        for case in CASES
    ],
)
def test_intervals_cover(case):
    for row in rows(case, DRAWS):
        assert row.verdict != "DOES NOT COVER", (row.name, row.coverage)


def test_least_coverage_is_nominal_less_two_standard_errors():
    assert least(0.95, 200) == pytest.approx(0.95 - 2 * (0.95 * 0.05 / 200) ** 0.5)
    assert least(1.0, 200) == 1.0


def test_verdicts_tell_too_few_from_too_many():
    def verdict(nominal, held):
        case = Case("interval", "data", "truth", lambda seed: {"one": seed < held}, nominal)
        (row,) = rows(case, DRAWS)
        assert row == Row(case, "one", held, DRAWS)
        return row.verdict

    assert verdict(0.95, 183) == "DOES NOT COVER"  # 91.5 %: less than 91.9 %
    assert verdict(0.95, 184) == "covers"
    assert verdict(0.95, 196) == "covers"
    assert verdict(0.95, 197) == "covers more"
    assert verdict(1.0, 199) == "DOES NOT COVER"
    assert verdict(1.0, 200) == "covers"
