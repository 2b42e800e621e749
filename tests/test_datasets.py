"""Data from files and from scikit-learn."""

import numpy as np
import pytest

from ntkbias import datasets
from ntkbias.types import InputError


def test_digits_are_standardised_as_a_whole():
    x, y = datasets.digits()
    assert abs(float(x.mean())) < 1e-5
    assert float(x.std()) == pytest.approx(1, abs=1e-5)
    assert sorted(set(y.tolist())) == list(range(10))


def test_a_part_of_the_digits_is_a_part_and_depends_on_the_seed():
    everything = {image.tobytes() for image in datasets.digits().x}
    first, again, other = (datasets.digits(50, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.x, again.x)
    assert not np.array_equal(first.y, other.y)
    assert all(image.tobytes() in everything for image in first.x)


def test_one_hot_has_a_column_for_each_label():
    np.testing.assert_array_equal(datasets.one_hot(np.array([7, 3, 7])), [[0, 1], [1, 0], [0, 1]])


def test_arrays_of_a_file(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.arange(12).reshape(6, 2), y=np.arange(6))
    x, y = datasets.from_file(tmp_path / "a.npz", 4)
    assert x.dtype == np.float32
    assert (x.shape, y.tolist()) == ((4, 2), [0, 1, 2, 3])
    np.savez(tmp_path / "b.npz", x=np.ones((6, 2)))
    assert datasets.from_file(tmp_path / "b.npz").y is None


BAD_FILES = {
    "no x": ({"z": np.ones(3)}, "Expected an array named x in"),
    "vector": (
        {"x": np.ones(3)},
        "Expected x of .* to be \\(n, ...\\), with two axes or more and something in each; got shape \\(3,\\)",
    ),
    "lengths": ({"x": np.ones((3, 2)), "y": np.ones(2)}, "Expected one label for each of 3 inputs in y of"),
    "NaN": ({"x": np.full((3, 2), np.nan)}, "Expected finite numbers in x of .*; got NaN, infinity"),
    "NaN label": ({"x": np.ones((2, 2)), "y": np.array([1, np.inf])}, "Expected finite numbers in y of"),
    "strings": ({"x": np.array([["a"]])}, "Expected numbers in x of .*; got <U1"),
    "objects": ({"x": np.array([[None]])}, "it cannot be read: Object arrays cannot be loaded"),
    "complex": ({"x": np.ones((2, 2), complex)}, "Expected numbers in x of .*; got complex128"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_files_are_named(tmp_path, name):
    arrays, message = BAD_FILES[name]
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(InputError, match=message):
        datasets.from_file(tmp_path / "a.npz")


def test_unreadable_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"Expected a file of arrays at .*nowhere.npz; there is none"):
        datasets.from_file(tmp_path / "nowhere.npz")
    for content in (b"", b"not an archive", b"PK\x03\x04 truncated"):
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InputError, match=r"to be an .npz file of plain arrays; it cannot be read"):
            datasets.from_file(tmp_path / "bad.npz")
    with pytest.raises(InputError, match="it cannot be read"):
        datasets.from_file(tmp_path)
    with pytest.raises(InputError, match="Expected 1 to 1797 examples of the digits; got 0"):
        datasets.digits(0)
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2)))
    with pytest.raises(InputError, match=r"Expected 1 to 3 examples of .*; got 4"):
        datasets.from_file(tmp_path / "a.npz", 4)
    np.save(tmp_path / "array.npy", np.ones((3, 2)))
    (tmp_path / "array.npy").rename(tmp_path / "array.npz")
    with pytest.raises(InputError, match="to be an .npz file of plain arrays"):
        datasets.from_file(tmp_path / "array.npz")
