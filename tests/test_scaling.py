"""Power laws."""

import numpy as np
import pytest

from ntkbias.scaling import power_law
from ntkbias.types import InputError


@pytest.mark.parametrize("exponent", [-3.0, 0.0, 0.5])
def test_recovers_a_power_law(exponent):
    x = np.array([1.0, 3.0, 10.0, 20.0])
    fit = power_law(x, 2.5 * x**exponent)
    assert fit.exponent == pytest.approx(exponent, abs=1e-12)
    assert np.exp(fit.intercept) == pytest.approx(2.5)


def test_bad_input_is_named():
    with pytest.raises(InputError, match=r"of one length; got shapes \(2,\) and \(3,\)"):
        power_law(np.ones(2), np.ones(3))
    with pytest.raises(InputError, match="Expected positive numbers to fit a power law"):
        power_law(np.array([1.0, 2.0]), np.array([1.0, 0.0]))
    with pytest.raises(InputError, match="two different x or more to fit a power law; got 1"):
        power_law(np.ones(3), np.ones(3))
