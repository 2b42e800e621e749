"""Functions of the inputs by name: each against its definition, and those that the inputs do not have."""

import jax
import numpy as np
import pytest

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.learning import NAMED, named_targets

RNG = np.random.default_rng(0)
COLORS = RNG.normal(size=(20, 5, 4, 3)).astype(np.float32)
LABELS = np.arange(20) % 3
CUBE = nb.domains.Hypercube(4)
CORNERS = np.asarray(CUBE.quadrature(16)[0])


def of(name, x, domain=None, **options):
    return named_targets(x, domain, names=[name], **options)


def test_images_have_all_that_needs_no_domain():
    found = named_targets(COLORS, nb.domains.Images(), labels=LABELS, values=RNG.normal(size=20))
    families = {"classes": {"class-0", "class-1", "class-2"}}
    without = {"coordinates", "degrees", "parity"}
    assert set(found) == set(NAMED) - set(families) - without | families["classes"]
    x = COLORS.astype(float)
    np.testing.assert_allclose(found["brightness"], x.mean((1, 2, 3)))
    np.testing.assert_allclose(found["contrast"], x.reshape(20, -1).std(1))
    np.testing.assert_allclose(found["red-minus-green"], (x[..., 0] - x[..., 1]).mean((1, 2)))
    assert set(found["random-labels"]) == {-1.0, 1.0}
    np.testing.assert_array_equal(found["class-1"], np.where(LABELS == 1, 1, -1))
    assert found["labels"].dtype.kind == "i"


@pytest.mark.parametrize(("name", "axis"), [("left-right", 2), ("top-bottom", 1)])
def test_gradients_are_positive_where_pixels_grow_to_the_right_and_downwards(name, axis):
    images = np.zeros((2, 5, 4, 1))
    images[0].swapaxes(0, axis - 1)[-1] = 1  # the last column, or the last row
    images[1].swapaxes(0, axis - 1)[0] = 1
    first, second = of(name, images)[name]
    assert first == pytest.approx(-second)
    assert first == pytest.approx(1 / images.shape[axis])


def test_functions_on_domains():
    found = named_targets(CORNERS, CUBE)
    assert list(found) == [
        "random-labels",
        *(f"coordinate-{place}" for place in (1, 2, 3)),
        *(f"degree-{degree}" for degree in (1, 2, 4)),
        "parity",
    ]
    np.testing.assert_array_equal(found["parity"], CORNERS.prod(1))
    np.testing.assert_allclose(np.abs(found["degree-4"]), 1, rtol=1e-5)  # the only harmonic of degree 4, up to its sign
    for degree in (1, 2, 4):
        energy = CUBE.energy(found[f"degree-{degree}"][:, None], *CUBE.quadrature(16), 4)[0]
        assert energy[degree] == pytest.approx(1, rel=1e-4)
    torus = nb.domains.Torus(2)
    assert "degree-8" in named_targets(torus.quadrature(64)[0], torus)
    assert "degree-8" not in named_targets(torus.quadrature(16)[0], torus)  # which so few nodes do not resolve


def test_random_labels_follow_the_key():
    first, second = (of("random-labels", COLORS, key=jax.random.key(seed))["random-labels"] for seed in (0, 1))
    assert (first != second).any()


def test_a_member_of_a_family_has_its_own_name():
    found = named_targets(CORNERS, CUBE, names=["parity", "degree-2", "coordinates"])
    assert list(found) == ["parity", "degree-2", "coordinate-1", "coordinate-2", "coordinate-3"]


def test_constant_functions_are_left_out_unless_asked_for():
    gray = np.repeat(COLORS[..., :1], 3, -1)
    assert "red-minus-green" not in named_targets(gray)
    with pytest.raises(InputError, match="that differs between inputs; got red-minus-green, which is constant on them"):
        of("red-minus-green", gray)


BAD = {
    "unknown": (
        lambda: of("brightnes", COLORS),
        "Expected targets among labels, .*got 'brightnes'. Perhaps you meant b",
    ),
    "no member": (lambda: of("class-7", COLORS, labels=LABELS), "got 'class-7'. Perhaps you meant class-"),
    "no images": (
        lambda: of("contrast", CORNERS),
        r"Expected images \(n, height, width, channels\) for the target con",
    ),
    "no labels": (lambda: of("labels", COLORS), "Expected labels for the target labels; got none."),
    "text": (lambda: named_targets(COLORS, names="labels"), r"Expected names to be a list of names, as \['labels'\]"),
    "domain": (lambda: named_targets(COLORS, "circle"), "Expected domain to be one of nb.domains; got str."),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused(name, unchecked):
    call, message = BAD[name]
    with pytest.raises((InputError, InputTypeError), match=message):
        call()
