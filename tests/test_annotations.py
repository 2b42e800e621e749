"""The annotations of arrays are checked in every other test: here, that they are."""

import jax.numpy as jnp
import jaxtyping
import pytest

import ntkbias as nb


def test_an_array_of_another_shape_fails_at_a_public_function():
    circle = nb.domains.Circle()
    assert circle.angle(jnp.ones((3, 2))).shape == (3,)
    with pytest.raises(jaxtyping.TypeCheckError):
        circle.angle(jnp.ones((3, 4)))


def test_the_checks_can_be_switched_off(unchecked):
    assert nb.domains.Circle().angle(jnp.ones((3, 4))).shape == (3,)
