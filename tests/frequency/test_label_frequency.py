"""Which frequencies of label noise a network fits (Fridovich-Keil et al. 2021, arXiv 2110.02424), on real images."""

import pytest

from ntkbias.studies import run_study


@pytest.mark.slow
def test_the_claims_of_the_paper():
    """On digits: waves in the labels, and paths between images."""
    result = run_study("function_frequency")
    assert result.holds == "yes", result
