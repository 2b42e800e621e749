"""Named arrays in a file: any name and any shape, and no more memory than the size of the file."""

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest

from ntkbias.files import Unreadable, read_arrays, write_arrays

ARRAYS = {
    "file": np.arange(6.0).reshape(2, 3),
    "allow_pickle": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "": np.array(3),
    "a/b %41 η\n\0": np.zeros((0, 4)),
    "text": np.array("words"),
    "\ud800": np.array([True, False]),
    "x.npy": np.ones(2, np.float16),
    "x": np.ones(3, complex),
}


def test_any_name_and_any_array(tmp_path):
    path = tmp_path / "numbers.npz"
    write_arrays(path, ARRAYS)
    found = read_arrays(path, "numbers")
    assert list(found) == list(ARRAYS)
    for name, array in ARRAYS.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
    found["file"][0] = 1  # the arrays are writable
    assert list(read_arrays(path, "numbers", ["x", "nothing"])) == ["x"]
    first = path.read_bytes()
    write_arrays(path, ARRAYS)
    assert path.read_bytes() == first
    np.savez(path, x=np.ones(3))
    np.testing.assert_array_equal(read_arrays(path, "numbers")["x"], np.ones(3))
    write_arrays(path, {"x": np.ones(3)})
    with np.load(path) as loaded:
        np.testing.assert_array_equal(loaded["x"], np.ones(3))


def archive(path, content, name="x.npy", **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        file.writestr(name, content)


def npy(shape, data=b"", dtype="<f8"):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": dtype, "fortran_order": False, "shape": shape})
    return header.getvalue() + data


def flip(path):
    write_arrays(path, {"x": np.ones(100)})
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)


def pickled(path):
    np.savez(path, x=np.array([{}], object))


def encrypted(path):
    archive(path, npy((1,), b"8 bytes."))
    content = bytearray(path.read_bytes())
    place = content.rindex(b"PK\x01\x02")
    content[6] |= 1
    content[place + 8] |= 1
    path.write_bytes(content)


BAD = {
    "missing": (lambda path: None, "to be numbers; there is no such file"),
    "a folder": (lambda path: path.mkdir(), "it is a folder"),
    "a pipe": (os.mkfifo, "it is a pipe"),
    "empty": (lambda path: path.write_bytes(b""), "it is empty"),
    "text": (lambda path: path.write_text("words"), "it is a text file that begins with 'words'"),
    "encrypted": (encrypted, "it is encrypted"),
    "a flipped bit": (flip, "Bad CRC-32"),
    "objects": (pickled, "x.npy is an array of Python objects"),
    "no array": (lambda path: archive(path, b"words"), "."),
    "longer than its shape": (lambda path: archive(path, npy((1,), 16 * b"\0")), "it has 16 bytes for an array of 8"),
    "shorter than its shape": (lambda path: archive(path, npy((10**12,))), "would unpack to"),
    "of a negative size": (lambda path: archive(path, npy((-1, -1), 8 * b"\0")), "it has an array of shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_the_error_says_why_a_file_cannot_be_read(tmp_path, name):
    make, message = BAD[name]
    make(tmp_path / "numbers.npz")
    with pytest.raises(Unreadable, match=message):
        read_arrays(tmp_path / "numbers.npz", "numbers")


def test_a_bomb_and_another_shape_take_no_memory(tmp_path):
    bomb, large = tmp_path / "bomb.npz", tmp_path / "large.npz"
    np.savez_compressed(bomb, x=np.zeros(10**7))
    write_arrays(large, {"x": np.zeros(10**7)})
    tracemalloc.start()
    with pytest.raises(Unreadable, match="would unpack to 80,000,000 bytes"):
        read_arrays(bomb, "numbers")
    with pytest.raises(Unreadable, match=r"x.npy has shape \(10000000,\), not \(3,\)"):
        read_arrays(large, "numbers", shapes={"x": (3,)})
    assert read_arrays(large, "numbers", ["y"]) == {}
    assert tracemalloc.get_traced_memory()[1] < 10**6
    tracemalloc.stop()
