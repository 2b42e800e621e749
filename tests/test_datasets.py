"""Data from files and from scikit-learn."""

import gzip
import io
import lzma
from pathlib import Path

import numpy as np
import pytest

from ntkbias import datasets
from ntkbias.cli.inputs import inputs
from ntkbias.cli.options import TrackOptions
from ntkbias.errors import InputError

DATA = Path(__file__).parents[2] / "shared" / "data"
IMAGES = (np.arange(6 * 28 * 28) * 7 % 251).astype(np.uint8).reshape(6, 28, 28)
LABELS = np.array([3, 1, 4, 1, 5, 9], np.uint8)
PHOTOS = (np.arange(6 * 3 * 32 * 32) * 11 % 253).astype(np.uint8).reshape(6, 3, 32, 32)  # channels first, as in files


def test_digits_are_standardized_as_a_whole():
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
        "Expected x of .* to be \\(n, ...\\), with two axes or more and none empty; got shape \\(3,\\)",
    ),
    "lengths": ({"x": np.ones((3, 2)), "y": np.ones(2)}, "Expected one label for each of 3 inputs in y of"),
    "NaN": ({"x": np.full((3, 2), np.nan)}, "Expected finite numbers in x of .*; got NaN, infinity"),
    "NaN label": ({"x": np.ones((2, 2)), "y": np.array([1, np.inf])}, "Expected finite numbers in y of"),
    "strings": ({"x": np.array([["a"]])}, "Expected numbers in x of .*; got <U1"),
    "objects": ({"x": np.array([[None]])}, "it cannot be read: x.npy is an array of Python objects"),
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
    array = io.BytesIO()
    np.save(array, np.ones(3))
    contents = {
        b"": "it is empty",
        b"x,y\n1,2\n": r"it is a text file that begins with 'x,y'",
        b"PK\x03\x04 truncated": "",
        array.getvalue(): r"it is one array, as numpy.save writes it",
        b"\x89HDF\r\n\x1a\n": "it is in another format",
    }
    for content, reason in contents.items():
        (tmp_path / "bad.npz").write_bytes(content)
        with pytest.raises(InputError, match=rf"to be an .npz file of plain arrays; it cannot be read: {reason}"):
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


def test_no_more_is_read_than_the_memory_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "default_memory_budget", lambda: 1_000)
    np.savez_compressed(tmp_path / "a.npz", x=np.ones((100, 2)), z=np.zeros(10**6))  # an array that is not read
    assert datasets.from_file(tmp_path / "a.npz").x.shape == (100, 2)
    np.savez_compressed(tmp_path / "b.npz", x=np.ones((1_000, 2)))
    with pytest.raises(InputError, match="would unpack to 16,000 bytes; at most 2,000 are expected"):
        datasets.from_file(tmp_path / "b.npz")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES)))
    with pytest.raises(InputError, match="Expected to read .*ubyte.gz; got: it unpacks to more than 2,000 bytes"):
        datasets.mnist(tmp_path)


def test_numbers_of_extended_precision_are_those_of_float64(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.ones((3, 2), "g") / 3, y=np.arange(3, dtype="g"))
    x, y = datasets.from_file(tmp_path / "a.npz")
    assert (x.dtype, y.dtype) == (np.float64, np.float64)
    assert x[0, 0] == 1 / 3


@pytest.mark.parametrize("seed", [-1, 2**32, 2**32 + 7])
def test_seeds_are_of_32_bits(seed):
    message = rf"Expected seed to be zero or more, and below 2\^32; got {seed}"
    with pytest.raises(InputError, match=message):
        datasets.digits(50, seed=seed)


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


def records(photos, labels):
    return b"".join(bytes([label]) + photo.tobytes() for photo, label in zip(photos, labels, strict=True))


def standardized(pixels, whole):
    return (pixels - whole.mean(dtype=float)) / whole.std(dtype=float)


COMPRESSED = {"": lambda content: content, ".gz": gzip.compress, ".xz": lzma.compress}


@pytest.fixture(params=COMPRESSED)
def mnist(tmp_path, request):
    """A folder of six images, plain or compressed."""
    for split in ("train", "t10k"):
        for name, array in (("images-idx3", IMAGES), ("labels-idx1", LABELS)):
            content = idx(array if split == "train" else array[:4])
            (tmp_path / f"{split}-{name}-ubyte{request.param}").write_bytes(COMPRESSED[request.param](content))
    return tmp_path


def test_mnist_is_read_and_standardized_over_the_split(mnist):
    x, y = datasets.mnist(mnist)
    assert (x.shape, x.dtype, y.tolist()) == ((6, 28, 28, 1), np.float32, LABELS.tolist())
    np.testing.assert_allclose(x[..., 0], standardized(IMAGES, IMAGES), atol=1e-5)
    x, y = datasets.mnist(str(mnist), "test", 3)
    assert y.tolist() == LABELS[:3].tolist()
    np.testing.assert_allclose(x[..., 0], standardized(IMAGES[:3], IMAGES[:4]), atol=1e-5)
    with pytest.raises(InputError, match="Expected num_examples to be at least 1; got 0"):
        datasets.mnist(mnist, num_examples=0)
    with pytest.raises(InputError, match="Expected 1 to 6 examples of .*; got 7"):
        datasets.mnist(mnist, num_examples=7)
    options = TrackOptions(data="mnist", folder=mnist, num_examples=7)
    with pytest.raises(InputError, match="Expected 1 to 6 examples of .*; got 7. Change --num-examples"):
        inputs(options)
    with pytest.raises(InputError, match="Expected 1 to 4 examples of .*; got 500. Change --test-examples"):
        inputs(options, "test", options.test_examples)


BAD_MNIST = {
    "magic": (
        b"\x00\x00\x0d\x03" + idx(IMAGES)[4:],
        "to begin with 00 00 08 03, as idx files of 3 axes .*; got 00 00 0d",
    ),
    "labels": (idx(LABELS), "to begin with 00 00 08 03, .*; got 00 00 08 01. Fetch the file again"),
    "empty": (b"", "to begin with 00 00 08 03, .*; got nothing"),
    "short": (idx(IMAGES)[:-1], "Expected 4704 bytes after the header of .*; got 4703. It is cut short"),
    "header": (idx(IMAGES)[:10], r"Expected .* to hold examples of shape \(28, 28\); got sizes \(6, 0, 0\)"),
    "sizes": (idx(IMAGES[:, :8]), r"to hold examples of shape \(28, 28\); got sizes \(6, 8, 28\)"),
    "number": (idx(IMAGES[:5]), "Expected as many labels as images in .*; got 6 and 5. Take both files from the same"),
}


@pytest.mark.parametrize("name", BAD_MNIST)
def test_bad_files_of_mnist_are_named(tmp_path, name):
    content, message = BAD_MNIST[name]
    (tmp_path / "train-images-idx3-ubyte").write_bytes(content)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx(LABELS))
    with pytest.raises(InputError, match=message):
        datasets.mnist(tmp_path)


def test_what_is_missing_or_damaged_is_named(tmp_path, unchecked):
    with pytest.raises(InputError, match="Expected a folder of data files at .*nowhere; got none"):
        datasets.mnist(tmp_path / "nowhere")
    with pytest.raises(
        InputError, match=r"Expected train-images-idx3-ubyte, plain .*; got no such file. It is published"
    ):
        datasets.mnist(tmp_path)
    with pytest.raises(InputError, match="Expected split to be one of train, test; got 'valid'"):
        datasets.mnist(tmp_path, "valid")
    with pytest.raises(InputError, match="Expected split to be one of train, test; got 'valid'"):
        datasets.cifar10(tmp_path, "valid")
    with pytest.raises(
        InputError, match=r"Expected files data_batch_\*.bin or train\*.bin, plain .*; got none. They are"
    ):
        datasets.cifar10(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Expected a folder of data files at .*file; got a file"):
        datasets.cifar10(tmp_path / "file")
    for name, content in {
        "train-images-idx3-ubyte.gz": gzip.compress(idx(IMAGES))[:-30],
        "train-images-idx3-ubyte.xz": lzma.compress(idx(IMAGES))[:-30],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"Expected to read .*{name}; got: .*\. Fetch the file again"):
            datasets.mnist(tmp_path)
        (tmp_path / name).write_bytes(b"not compressed")
        with pytest.raises(InputError, match=rf"Expected to read .*{name}; got: "):
            datasets.mnist(tmp_path)
        (tmp_path / name).unlink()


def test_cifar_is_read_from_the_published_folder(tmp_path):
    for batch in (1, 2):
        part = slice(3 * batch - 3, 3 * batch)
        (tmp_path / f"data_batch_{batch}.bin").write_bytes(records(PHOTOS[part], LABELS[part]))
    (tmp_path / "test_batch.bin").write_bytes(records(PHOTOS[:2], LABELS[:2]))
    (tmp_path / "batches.meta.txt").write_text("airplane")
    x, y = datasets.cifar10(tmp_path)
    assert (x.shape, x.dtype, y.tolist()) == ((6, 32, 32, 3), np.float32, LABELS.tolist())
    np.testing.assert_allclose(x, standardized(PHOTOS, PHOTOS).transpose(0, 2, 3, 1), atol=1e-5)
    np.testing.assert_array_equal(datasets.cifar10(tmp_path, num_examples=4).x, x[:4])
    assert datasets.cifar10(tmp_path, "test").y.tolist() == LABELS[:2].tolist()
    with pytest.raises(InputError, match="Expected 1 to 2 examples of .*; got 3"):
        datasets.cifar10(tmp_path, "test", 3)


def test_cifar_is_read_from_one_compressed_file(tmp_path):
    (tmp_path / "train_6.bin.xz").write_bytes(lzma.compress(records(PHOTOS, LABELS)))
    assert datasets.cifar10(tmp_path).y.tolist() == LABELS.tolist()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (records(PHOTOS, LABELS)[:-1], "Expected records of 3073 bytes in .*; got 18437 bytes, no multiple of that"),
        (b"", "Expected records of 3073 bytes in .*; got 0 bytes"),
        (records(PHOTOS, LABELS + 5), "Expected labels from 0 to 9 in .*; got 14. It is something else"),
    ],
    ids=["short", "empty", "labels"],
)
def test_bad_files_of_cifar_are_named(tmp_path, content, message):
    (tmp_path / "data_batch_1.bin").write_bytes(content)
    with pytest.raises(InputError, match=message):
        datasets.cifar10(tmp_path)


def real(name):
    if not (DATA / name).is_dir():
        pytest.skip(f"the files of {name} are not on this machine")
    return DATA / name


def test_real_mnist():
    folder = real("mnist")
    x, y = datasets.mnist(folder, "test")
    assert x.shape == (10_000, 28, 28, 1)
    assert y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert np.bincount(y).tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert abs(x.mean(dtype=float)) < 1e-5
    assert x.std(dtype=float) == pytest.approx(1, abs=1e-5)
    assert datasets.mnist(folder, num_examples=3).y.tolist() == [5, 0, 4]


@pytest.mark.slow
def test_real_cifar():
    x, y = datasets.cifar10(real("cifar10"), "test")
    assert x.shape == (10_000, 32, 32, 3)
    assert np.bincount(y).tolist() == [1000] * 10
    for axis in (1, 2, 3):  # neighbors and colors are similar if the axes are right
        first, second = (np.take(x, at, axis).ravel() for at in (1, 2))
        assert np.corrcoef(first, second)[0, 1] > 0.9
    assert x.std(dtype=float) == pytest.approx(1, abs=1e-5)


def test_an_npy_file_holds_inputs_alone(tmp_path):
    np.save(tmp_path / "a.npy", np.asfortranarray(np.arange(12).reshape(6, 2)).astype(">i4"))
    x, y = datasets.from_file(tmp_path / "a.npy", 4)
    assert (x.tolist(), x.dtype, y) == ([[0, 1], [2, 3], [4, 5], [6, 7]], np.float32, None)
    whole = (tmp_path / "a.npy").read_bytes()
    contents = {
        whole[:-1]: "it has 47 bytes for an array of 48",
        b"": "it is empty",
        b"1,2\n": "it is a text file that begins with '1,2'",
        b"\x89PNG": "it is in another format",
    }
    for content, reason in contents.items():
        (tmp_path / "bad.npy").write_bytes(content)
        with pytest.raises(InputError, match=f"to be an .npy file of one plain array; it cannot be read: {reason}"):
            datasets.from_file(tmp_path / "bad.npy")
    np.save(tmp_path / "objects.npy", np.array([[None]]))
    with pytest.raises(InputError, match="objects.npy is an array of Python objects"):
        datasets.from_file(tmp_path / "objects.npy")
    with pytest.raises(InputError, match=r"Expected a file of arrays at .*nowhere.npy; there is none"):
        datasets.from_file(tmp_path / "nowhere.npy")
