"""Gram matrices on disk: reading, refusals, and how a store survives kills, full disks and other processes."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse.linalg

import ntkbias as nb
from ntkbias import claims
from ntkbias.errors import InputError, InputTypeError
from ntkbias.files import StorageError
from ntkbias.kernels.disk import manifest, probes, writer

ROWS = 2  # per block; X has seven examples, so that the last blocks are not full
NUM_BLOCKS = 10
# NumPy arrays, so that JAX does not start when this module is imported by a process that forks.
X = np.sin(np.arange(21, dtype=np.float32)).reshape(7, 3)
Y = np.cos(np.arange(15, dtype=np.float32)).reshape(5, 3)
PARAMS = {
    "w": np.sin(np.arange(12, dtype=np.float32)).reshape(3, 4),
    "v": np.cos(np.arange(8, dtype=np.float32)).reshape(4, 2),
}


def f(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def other_f(params, x):
    return jnp.sin(x @ params["w"]) @ params["v"]


def ntk(outputs="mean", **options):
    return nb.empirical_ntk(f, PARAMS, outputs=outputs, **options)


def contents(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def stored(folder, **options):
    return nb.gram_on_disk(folder, ntk(), X, rows=ROWS, **options)


def near(value, expected):
    expected = np.asarray(expected)
    np.testing.assert_allclose(value, expected, rtol=0, atol=3e-6 * np.max(np.abs(expected)))  # some float32 roundings


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """The files of a store that was filled without interruption."""
    folder = tmp_path_factory.mktemp("complete") / "store"
    stored(folder)
    return contents(folder)


@pytest.fixture
def computed(monkeypatch):
    """The list of blocks that this process writes. `computed.stop(n)` raises an error at the n-th block."""
    return _Computed(monkeypatch)


class _Computed(list):
    def __init__(self, monkeypatch):
        self.stops = {}
        write = writer._write_block

        def counting(folder, pair, block, right):
            if len(self) + 1 in self.stops:
                raise self.stops.pop(len(self) + 1)
            write(folder, pair, block, right)
            self.append(pair)

        monkeypatch.setattr(writer, "_write_block", counting)

    def stop(self, at, error):
        self.stops[at] = error


# Reading.


@pytest.mark.parametrize("x2", [None, Y], ids=["x1", "x1, x2"])
@pytest.mark.parametrize("outputs", ["mean", "sum", "each", "all"])
def test_reading_returns_the_gram_matrix(tmp_path, outputs, x2):
    kernel = ntk(outputs)
    expected = np.asarray(kernel(X, x2))
    on_disk = nb.gram_on_disk(tmp_path / "store", kernel, X, x2, rows=ROWS)
    assert on_disk == nb.open_gram(str(tmp_path / "store"))
    assert (on_disk.shape, on_disk.dtype, on_disk.outputs) == (expected.shape, expected.dtype, outputs)
    assert (on_disk.ndim, len(on_disk)) == (expected.ndim, len(expected))
    near(np.asarray(on_disk), expected)
    near(jnp.asarray(on_disk), expected)
    axis = 1 if outputs == "each" else 0
    for start, stop in [(0, 7), (2, 5), (6, 7), (3, 3)]:
        strip = np.take(expected, range(start, stop), axis)
        np.testing.assert_allclose(on_disk.rows(start, stop), strip, rtol=1e-4, atol=1e-5)
    on_disk.verify()


@pytest.mark.parametrize("x2", [None, Y], ids=["x1", "x1, x2"])
@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_products_are_those_of_the_matrix(tmp_path, outputs, x2):
    on_disk = nb.gram_on_disk(tmp_path / "store", ntk(outputs), X, x2, rows=ROWS)
    num_outputs = 2 if outputs == "all" else 1
    matrix = np.asarray(on_disk).reshape(7 * num_outputs, -1)
    vectors = np.sin(np.arange(3.0 * matrix.shape[1])).reshape(-1, 3)
    near(on_disk @ vectors, matrix @ vectors)
    near(on_disk @ jnp.asarray(vectors[:, 0]), matrix @ vectors[:, 0])
    assert (on_disk @ vectors).dtype == np.float64
    assert (on_disk @ vectors[:, 0].astype(np.float32)).dtype == np.float32
    operator = on_disk.to_scipy()
    assert (operator.shape, operator.dtype) == (matrix.shape, np.float32)
    near(operator @ vectors, matrix @ vectors)
    backwards = np.cos(np.arange(2.0 * len(matrix))).reshape(-1, 2)
    near(operator.H @ backwards, matrix.T @ backwards)
    near(operator.H @ backwards[:, 0], matrix.T @ backwards[:, 0])
    if x2 is None:
        top = scipy.sparse.linalg.eigsh(operator, 2, return_eigenvectors=False)
        near(np.sort(top), np.linalg.eigvalsh(matrix.astype(float))[-2:])


@pytest.mark.parametrize("outputs", ["mean", "sum", "each", "all"])
def test_diagonal_and_trace(tmp_path, outputs):
    on_disk = nb.gram_on_disk(tmp_path / "store", ntk(outputs), X, rows=ROWS)
    rule = {"each": "onn->on", "all": "nono->no"}.get(outputs, "nn->n")
    near(on_disk.diagonal(), np.einsum(rule, np.asarray(on_disk)))
    if outputs == "each":
        with pytest.raises(InputError, match=r"Expected a single matrix, .* for trace; got outputs='each'"):
            on_disk.trace()
    else:
        assert on_disk.trace() == pytest.approx(float(np.sum(on_disk.diagonal(), dtype=float)))


def test_rows_by_index(tmp_path):
    on_disk = stored(tmp_path)
    full = np.asarray(on_disk)
    for index in (0, -1, np.int64(3), slice(2, 5), slice(None), slice(-2, None), slice(5, 2)):
        np.testing.assert_array_equal(on_disk[index], full[index])
    for index in ((2, 3), (slice(1, 4), 2), (slice(1, 4), slice(None, None, 2)), (2, [0, 3])):
        np.testing.assert_array_equal(on_disk[index], full[index])
    np.testing.assert_array_equal(np.stack(list(on_disk)), full)
    assert np.asarray(on_disk, np.float64).dtype == np.float64
    with pytest.raises(IndexError, match="Expected a row from 0 to 6; got 7"):
        on_disk[7]
    for index in (slice(None, None, 2), "a", True, [0, 1], None):
        with pytest.raises(InputTypeError, match=r"Expected the index of a row, or a slice of rows with step one; got"):
            on_disk[index]


def test_a_strip_reads_only_its_own_blocks(tmp_path):
    on_disk = stored(tmp_path)
    expected = np.asarray(on_disk)[2:4]
    for path in tmp_path.glob("*.npy"):
        if "0001" not in path.name:
            path.unlink()
    np.testing.assert_array_equal(on_disk[2:4], expected)


KERNELS = {
    "infinite NTK": lambda: nb.infinite_ntk(nb.nets.mlp(depth=2, b_std=0.3)),
    "infinite CNN": lambda: nb.infinite_nngp(nb.nets.mlp(depth=1, activation="erf"), outputs="sum"),
    "NNGP": lambda: nb.empirical_nngp(f, PARAMS),
    "one layer": lambda: nb.empirical_ntk_by_layer(f, PARAMS)["['w']"],
    "sum": lambda: ntk() + 0.5 * nb.infinite_ntk(nb.nets.mlp(depth=1)),
}


@pytest.mark.parametrize("name", KERNELS)
def test_every_kernel_can_be_stored(tmp_path, name):
    kernel = KERNELS[name]()
    near(nb.gram_on_disk(tmp_path, kernel, X), kernel(X))
    assert contents(tmp_path) == contents(nb.gram_on_disk(tmp_path, KERNELS[name](), X).path)


def test_float64(tmp_path, x64):
    kernel = nb.empirical_ntk(f, jax.tree.map(lambda leaf: jnp.asarray(leaf, float), PARAMS))
    x = np.asarray(X, float)
    on_disk = nb.gram_on_disk(tmp_path, kernel, x)
    assert on_disk.dtype == np.float64
    np.testing.assert_allclose(on_disk, kernel(x), rtol=1e-12, atol=1e-14)


@pytest.mark.slow
def test_bfloat16(tmp_path):
    params = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), PARAMS)
    kernel = nb.empirical_ntk(f, params)
    x = jnp.asarray(X, jnp.bfloat16)
    on_disk = nb.gram_on_disk(tmp_path, kernel, x, rows=7)
    assert on_disk.dtype == jnp.bfloat16
    expected = np.asarray(kernel(x), np.float32)
    np.testing.assert_array_equal(np.asarray(on_disk).astype(np.float32), expected)
    np.testing.assert_array_equal(nb.open_gram(tmp_path).diagonal().astype(np.float32), np.diagonal(expected))
    near(on_disk @ np.ones(7), expected @ np.ones(7))
    assert on_disk.to_scipy().dtype == np.float32


def test_inputs_on_disk_are_not_copied(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", np.asarray(X))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(manifest, "PIECE_BYTES", 24)  # two examples
    assert np.shares_memory(manifest.checked_inputs(ntk(), x, "x1").x, x)
    near(nb.gram_on_disk(tmp_path / "store", ntk(), x, rows=ROWS), ntk()(X))
    bad = np.array(X)
    bad[5, 1] = np.nan
    with pytest.raises(InputError, match=r"Expected finite numbers in x2\[4:6\]; got 1 NaN or infinite of 6"):
        nb.gram_on_disk(tmp_path / "other", ntk(), x, bad)
    assert not (tmp_path / "other").exists()


def test_identity_of_inputs_does_not_depend_on_their_pieces_or_container(tmp_path, monkeypatch, computed):
    stored(tmp_path)
    monkeypatch.setattr(manifest, "PIECE_BYTES", 24)
    nb.gram_on_disk(tmp_path, ntk(), np.asarray(X, np.float64))  # JAX converts it to float32
    assert len(computed) == NUM_BLOCKS


# The files of a store depend only on the matrix.


def test_two_stores_of_one_kernel_are_the_same_files(tmp_path, complete):
    stored(tmp_path / "a" / "b")
    assert contents(tmp_path / "a" / "b") == complete
    assert sorted(complete) == [*sorted(f"{i:04}-{j:04}.npy" for i in range(4) for j in range(i, 4)), "manifest.json"]
    text = complete["manifest.json"].decode()
    assert str(tmp_path.parent) not in text
    assert json.loads(text)["sha256"].keys() == set(complete) - {"manifest.json"}


def test_a_resumed_store_is_the_same_files(tmp_path, complete, computed):
    computed.stop(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    with pytest.raises(InputError, match=r"Expected a complete Gram matrix in .*; 7 of 10 blocks are missing. Call"):
        nb.open_gram(tmp_path)
    nb.gram_on_disk(tmp_path, ntk(), X)  # with the rows of the existing blocks
    assert len(computed) == len(set(computed)) == NUM_BLOCKS
    assert contents(tmp_path) == complete


def test_blocks_computed_in_another_order_are_the_same_files(tmp_path, complete, monkeypatch):
    monkeypatch.setattr(writer, "block_indices", backwards)
    stored(tmp_path)
    assert contents(tmp_path) == complete


def backwards(first, second):
    return [(i, j) for i in reversed(range(len(first))) for j in reversed(range(i, len(first)))]


def test_several_workers_hold_several_blocks(tmp_path, complete, computed, monkeypatch):
    programs = nb.Kernel.device_programs
    monkeypatch.setattr(nb.Kernel, "device_programs", lambda kernel: 3 * programs(kernel))
    computed.stop(5, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    stored(tmp_path)
    assert contents(tmp_path) == complete


def test_a_complete_store_needs_no_writing(tmp_path, complete, computed, monkeypatch):
    stored(tmp_path)
    monkeypatch.setattr(claims, "fcntl", None)
    stored(tmp_path)
    assert len(computed) == NUM_BLOCKS
    nb.open_gram(tmp_path)
    with pytest.raises(InputError, match=r"Expected a system with POSIX file locks .*fcntl.* open_gram"):
        stored(tmp_path / "new")


def test_default_rows_fit_the_budget_and_a_block_of_bounded_size(tmp_path, monkeypatch):
    kernel = ntk(memory_budget=800)
    assert nb.gram_on_disk(tmp_path / "a", kernel, X).block_shape[0] <= kernel.block_rows(jnp.asarray(X)) < 7
    monkeypatch.setattr(writer, "MAX_ENTRIES", 16)
    assert nb.gram_on_disk(tmp_path / "b", ntk(), X, Y).block_shape == (4, 3)
    assert nb.gram_on_disk(tmp_path / "c", ntk("all"), X, Y).block_shape == (2, 2)


# Damage.


def damage_bytes(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


DAMAGES = {
    "one bit": damage_bytes,
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-5]),
    "empty": lambda path: path.write_bytes(b""),
    "replaced": lambda path: np.save(path, np.zeros((2, 2), np.float32)),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_block_is_found_named_and_computed_again(tmp_path, complete, computed, name):
    on_disk = stored(tmp_path)
    DAMAGES[name](tmp_path / "0001-0002.npy")
    with pytest.raises(StorageError, match=r"damaged or missing ones: 0001-0002.npy. Call gram_on_disk"):
        on_disk.verify()
    with pytest.warns(UserWarning, match=r"Expected .*0001-0002.npy as it was written; got another checksum") as caught:
        stored(tmp_path)
    assert len(caught) == 1
    assert computed[NUM_BLOCKS:] == [(1, 2)]
    assert contents(tmp_path) == complete
    on_disk.verify()


def test_a_block_without_its_checksum_is_computed_again(tmp_path, complete, computed):
    computed.stop(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path)
    (tmp_path / "0000-0001.npy.sha256").unlink()
    with pytest.warns(UserWarning, match="0000-0001.npy"):
        stored(tmp_path)
    assert contents(tmp_path) == complete


def test_a_pipe_in_place_of_a_block_does_not_block_reading(tmp_path, complete):
    on_disk = stored(tmp_path)
    (tmp_path / "0000-0001.npy").unlink()
    os.mkfifo(tmp_path / "0000-0001.npy")
    with pytest.raises(StorageError, match="0000-0001.npy; got: no plain file"):
        on_disk[0]
    with pytest.raises(StorageError, match="damaged or missing ones: 0000-0001.npy"):
        on_disk.verify()
    with pytest.warns(UserWarning, match="0000-0001.npy as it was written"):
        stored(tmp_path)
    assert contents(tmp_path) == complete


def test_reading_a_damaged_block_names_it(tmp_path):
    on_disk = stored(tmp_path)
    (tmp_path / "0000-0001.npy").write_bytes((tmp_path / "0000-0001.npy").read_bytes()[:-5])
    np.save(tmp_path / "0000-0002.npy", np.zeros((2, 3), np.float32))
    with pytest.raises(StorageError, match=r"Expected a block of float32 of shape \(2, 2\) in .*0000-0001.npy; got: "):
        on_disk[0]
    with pytest.raises(
        StorageError, match=r"in .*0000-0002.npy; got: it holds float32 of shape \(2, 3\). Call gram_on_disk"
    ):
        on_disk._block(0, 2)
    (tmp_path / "0000-0003.npy").unlink()
    with pytest.raises(OSError, match="0000-0003"):
        on_disk._block(0, 3)


# Refusals: each names the differences, and leaves the folder as it is.

OTHER = {**PARAMS, "w": PARAMS["w"] * np.float32(1 + 1e-6)}
X_OTHER = X.copy()
X_OTHER[6, 2] += 1e-6
DIFFERENT = {
    "params": (lambda: (nb.empirical_ntk(f, OTHER), X, None), r"differs in params\['w'\] \(other values\)\. Choose"),
    "x1": (lambda: (ntk(), X_OTHER, None), r"differs in x1 \(other values\)\. Choose another folder"),
    "fewer": (
        lambda: (ntk(), X[:6], None),
        r"differs in shape \(\[7, 7\] there, \[6, 6\] here\), x1 \(float32 \(7, 3\) there, float32 \(6, 3\) here\)",
    ),
    "x2": (lambda: (ntk(), X, X), r"differs in x2 \(none there, float32 \(7, 3\) here\)"),
    "outputs": (lambda: (ntk("sum"), X, None), r"differs in outputs \(mean there, sum here\)\. Choose"),
    "layer": (
        lambda: (nb.empirical_ntk_by_layer(f, PARAMS)["['v']"], X, None),
        r"""differs in only \(None there, \("\['v'\]"\) here\)\.""",
    ),
    "kind": (
        lambda: (nb.empirical_nngp(f, PARAMS), X, None),
        r"differs in type \(EmpiricalNTK there, EmpiricalNNGP here\)\.",
    ),
    "scaled": (lambda: (2.0 * ntk(), X, None), r"differs in type \(EmpiricalNTK there, Scaled here\)\."),
    "f": (
        lambda: (nb.empirical_ntk(other_f, PARAMS), X, None),
        r"Expected the same function f as in .*; got another \(test_store.f there, test_store.other_f here\)",
    ),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_store_of_another_kernel_is_refused(tmp_path, complete, name):
    make, message = DIFFERENT[name]
    stored(tmp_path)
    kernel, x1, x2 = make()
    with pytest.raises(InputError, match=message):
        nb.gram_on_disk(tmp_path, kernel, x1, x2)
    assert contents(tmp_path) == complete


NETS = {
    "activation": (lambda: nb.nets.mlp(activation="erf", w_std=1.0), r"net.layers\[2\] \(Relu there, Erf here\)"),
    "scale": (lambda: nb.nets.mlp(w_std=1.5), r"net.layers\[1\].w_std \(other values\), net.layers\[3\].w_std"),
    "depth": (lambda: nb.nets.mlp(depth=1, w_std=1.0), r"net.layers\[5\] \(Dense there, none here\)"),
    "width": (lambda: nb.nets.mlp(width=8, w_std=1.0), r"net.layers\[1\].num_outputs \(512 there, 8 here\)"),
}


def test_another_network_is_named_by_its_layer(tmp_path):
    nb.gram_on_disk(tmp_path, nb.infinite_ntk(nb.nets.mlp(w_std=1.0)), X)
    for make, message in NETS.values():
        with pytest.raises(InputError, match=message):
            nb.gram_on_disk(tmp_path, nb.infinite_ntk(make()), X)


def test_another_precision_is_refused(tmp_path, complete):
    stored(tmp_path)
    jax.config.update("jax_enable_x64", True)
    try:
        with pytest.raises(
            InputError, match=r"differs in x1 \(float32 \(7, 3\) there, float64 \(7, 3\) here\)\. Choose"
        ):
            nb.gram_on_disk(tmp_path, ntk(), np.asarray(X, float))
        params = {name: leaf.astype(float) for name, leaf in PARAMS.items()}
        with pytest.raises(
            InputError, match=r"differs in dtype \(float32 there, float64 here\), params\['v'\] \(float32"
        ):
            nb.gram_on_disk(tmp_path, nb.empirical_ntk(f, params), X)
    finally:
        jax.config.update("jax_enable_x64", False)
    assert contents(tmp_path) == complete


@pytest.mark.parametrize("name", ["jax", "ntkbias", "device"])
def test_another_version_can_read_but_not_continue(tmp_path, name):
    stored(tmp_path)
    entries = json.loads((tmp_path / "manifest.json").read_text())
    entries["versions"][name] = "0.1.2"
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    stored(tmp_path)  # nothing is missing
    (tmp_path / "0000-0001.npy").unlink()
    with pytest.raises(
        InputError, match=rf"Expected {name} 0.1.2, which computed the blocks in .*; got .* Continue with 0.1.2"
    ):
        stored(tmp_path)


def test_other_rows_and_too_small_a_budget_are_refused(tmp_path, computed):
    computed.stop(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        stored(tmp_path)
    with pytest.raises(InputError, match=r"Expected rows=2, as in .*; got 3. Leave rows out"):
        nb.gram_on_disk(tmp_path, ntk(), X, rows=3)
    small = ntk(memory_budget=1)
    with pytest.raises(
        InputError, match=r"Expected a memory budget for the blocks of 2 rows in .*; got one for 1 rows. Rai"
    ):
        nb.gram_on_disk(tmp_path, small, X)
    with pytest.raises(
        InputError, match=r"Expected the memory budget with which .* passes of 2 rows; got one for 1 rows, "
    ):
        nb.gram_on_disk(tmp_path, small, X, rows=ROWS)
    stored(tmp_path)
    nb.gram_on_disk(tmp_path, small, X, rows=ROWS)  # nothing is missing


def test_folders_with_other_files_are_refused_and_left_alone(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(
        InputError, match=r"Expected a new or empty folder, or a Gram matrix on disk, at .*; got a folder"
    ):
        stored(tmp_path)
    with pytest.raises(InputError, match="got a folder with other files"):
        nb.open_gram(tmp_path)
    with pytest.raises(InputError, match=r"Expected the path of a folder; got .*notes.txt, but .*notes.txt is a"):
        stored(tmp_path / "notes.txt")
    assert contents(tmp_path) == before
    for text, message in {
        "{": "got one that cannot be read: ",
        "[]": "got one that cannot be read: ",
        '{"format": "of others"}': "got of others. Choose another folder",
        json.dumps({"format": manifest.FORMAT}): "it has no block_shape, dtype, first_values",
    }.items():
        (tmp_path / "manifest.json").write_text(text)
        before = contents(tmp_path)
        with pytest.raises(InputError, match=rf"Expected a manifest of the format .*{message}"):
            stored(tmp_path)
        assert contents(tmp_path) == before


# Invalid entries of a manifest.
WRONG = {
    "block_shape": ([-4, -4], [0, 2], [2], [2.0, 2.0], [True, 2], "2", [2, 3], [8, 8]),
    "shape": ([7, -7], [7], [7, 7, 7], [7.0, 7], None),
    "outputs": ("most", None, ["mean"]),
    "dtype": ("object", "int32", 4, "float99"),
    "symmetric": (1, None),
    "of": ([], {"x1": 3}),
    "functions": ("f", [3]),
    "first_values": ([], [float("nan")], ["1"], 3),
    "probe_values": ([float("inf")], "none"),
    "versions": ([], {"jax": 1}),
    "pass_rows": ([0, 0], [2]),
    "sha256": ({"0000-0000.npy": "abc"}, {"../../victim": 64 * "a"}, []),
}


def test_every_entry_of_a_manifest_is_checked(tmp_path, computed):
    stored(tmp_path)
    entries = json.loads((tmp_path / "manifest.json").read_text())
    for name, values in WRONG.items():
        for value in values:
            (tmp_path / "manifest.json").write_text(json.dumps(entries | {name: value}))
            for call in (nb.open_gram, stored):
                with pytest.raises(InputError, match=rf"one that cannot be read: its {name} is .*\. Choose another"):
                    call(tmp_path)
    many = entries | {"shape": [10**9, 10**9], "block_shape": [1, 1]}
    oblong = entries | {"shape": [7, 6]}
    for text in (json.dumps(many), json.dumps(oblong), 10**5 * "[", "[]", "\0"):
        (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(InputError, match="one that cannot be read: "):
            nb.open_gram(tmp_path)
    (tmp_path / "manifest.json").unlink()
    os.mkfifo(tmp_path / "manifest.json")
    with pytest.raises(InputError, match="one that cannot be read: it is a "):
        nb.open_gram(tmp_path)
    assert len(computed) == NUM_BLOCKS


# Functions that agree on the first inputs.


def test_a_function_that_agrees_on_the_first_inputs_is_refused(tmp_path):
    x = X.copy()
    x[:3] = 0
    kernel = nb.empirical_ntk(f, PARAMS)
    nb.gram_on_disk(tmp_path, kernel, x, rows=ROWS)
    other = nb.empirical_ntk(lambda params, x: f(params, x) * (1 + x[:, :1] ** 2), PARAMS)
    np.testing.assert_array_equal(kernel(x[:3]), other(x[:3]))
    with pytest.raises(InputError, match=r"Expected the same function f .* the kernel of some inputs differs by"):
        nb.gram_on_disk(tmp_path, other, x)


@pytest.mark.parametrize("x", [X, 1.0 * np.eye(2, dtype=np.float32), np.zeros((1, 3), np.float32)])
def test_probes_are_the_same_in_each_call(x):
    kernel = nb.infinite_ntk(nb.nets.mlp(depth=1, b_std=0.3))
    once, twice = (probes.probe_values(kernel, x, x) for _ in range(2))
    assert once == twice
    assert probes.differ(once, twice, 0.0) is None


def test_nan_in_a_probe_never_agrees():
    assert probes.differ([1.0, None], [1.0, None], 0.1) is None
    assert probes.differ([1.0, None], [1.0, 2.0], 0.1) == (np.inf, 1.0)
    assert probes.differ([1.0, 2.0], [1.0, None], 0.1) == (np.inf, 2.0)
    assert probes.differ([1.0], [1.0, 2.0], 0.1) == (np.inf, 1.0)
    assert probes.differ([1.0], [float("nan")], 0.1) == (np.inf, 1.0)
    assert probes.differ([1.0, 2.0], [1.0, 2.5], 0.1) == (0.5, 2.0)


def test_a_store_of_an_earlier_version_resumes_with_a_warning(tmp_path):
    stored(tmp_path)
    entries = json.loads((tmp_path / "manifest.json").read_text())
    del entries["probe_values"]
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    with pytest.warns(UserWarning, match="an earlier version of ntkbias began it, and recorded only the kernel of"):
        stored(tmp_path)
    nb.open_gram(tmp_path).verify()


# Files of other programs.


def test_files_of_others_stay(tmp_path, complete):
    """A store keeps files whose names are not those of blocks. An empty folder keeps one with the lock's name."""
    stored(tmp_path / "store")
    (tmp_path / "store/0000-0001.npy").unlink()
    mine = {"mine.sha256": b"precious", "thesis.part": b"precious", "0000-0001.npz.part": b"precious"}
    for name, content in mine.items():
        (tmp_path / "store" / name).write_bytes(content)
    stored(tmp_path / "store")
    assert contents(tmp_path / "store") == complete | mine
    (tmp_path / "new").mkdir()
    (tmp_path / "new/manifest.json.part").write_bytes(b"precious")
    with pytest.raises(InputError, match=r"no file of another program at .*manifest.json.part; got one. Move it"):
        stored(tmp_path / "new")
    assert contents(tmp_path / "new") == {"manifest.json.part": b"precious"}


@pytest.mark.parametrize("link", [os.symlink, os.link, lambda victim, path: os.mkfifo(path)])
@pytest.mark.parametrize("name", ["manifest.json.part", "0000-0001.npy.part", "0000-0001.npy.sha256.part"])
def test_links_are_not_followed(tmp_path, name, link):
    victim = tmp_path / "victim"
    victim.write_bytes(b"")
    if name.startswith("0000"):
        stored(tmp_path / "store")
        (tmp_path / "store/0000-0001.npy").unlink()
    (tmp_path / "store").mkdir(exist_ok=True)
    link(victim, tmp_path / "store" / name)
    with pytest.raises(StorageError, match=rf"Expected a plain file, or none, at .*{name}; got a link or a pipe. Rem"):
        stored(tmp_path / "store")
    assert victim.read_bytes() == b""


def test_bad_arguments_are_named_before_any_work(tmp_path, unchecked):
    folder = tmp_path / "store"
    for path in (3, None, "", b"bytes", "a\0b"):
        with pytest.raises(InputTypeError, match="Expected the path of a folder; got "):
            nb.gram_on_disk(path, ntk(), X)
        with pytest.raises(InputTypeError, match="Expected the path of a folder; got "):
            nb.open_gram(path)
    with pytest.raises(InputTypeError, match=r"Expected a kernel, e.g. empirical_ntk\(f, params\); got function"):
        nb.gram_on_disk(folder, f, X)
    with pytest.raises(InputError, match="Expected rows to be at least 1; got 0"):
        nb.gram_on_disk(folder, ntk(), X, rows=0)
    with pytest.raises(InputTypeError, match="Expected rows to be a whole number; got 2.5"):
        nb.gram_on_disk(folder, ntk(), X, rows=2.5)
    with pytest.raises(
        InputError, match=r"Expected x1 to be a batch of inputs, with two axes or more; got shape \(3,\)"
    ):
        nb.gram_on_disk(folder, ntk(), np.ones(3))
    with pytest.raises(InputError, match=r"Expected at least one input in x2; got shape \(0, 3\)"):
        nb.gram_on_disk(folder, ntk(), X, X[:0])
    with pytest.raises(InputError, match=r"Expected x1 and x2 to hold inputs of one shape; got \(3,\) and \(2,\)"):
        nb.gram_on_disk(folder, KERNELS["infinite NTK"](), X, X[:, :2])
    with pytest.raises(InputTypeError, match="Expected x1 to be an array of numbers"):
        nb.gram_on_disk(folder, ntk(), [["a"]])
    with pytest.raises(InputError, match="Expected a Gram matrix on disk at .*; there is none. Make one by gram_on"):
        nb.open_gram(folder)
    assert not folder.exists()


def test_bad_arguments_of_reading_are_named(tmp_path, unchecked):
    on_disk = stored(tmp_path / "a")
    for vectors in (np.ones(6), np.ones((7, 1, 1)), np.ones(7, complex), np.array(["a"] * 7)):
        with pytest.raises(InputError, match=r"Expected real vectors of shape \(7,\) or \(7, t\) to multiply by; got "):
            on_disk @ vectors
    for start, stop in [(-1, 2), (3, 8), (4, 3)]:
        with pytest.raises(InputError, match="Expected rows between 0 and 7; got "):
            on_disk.rows(start, stop)
    with pytest.raises(ValueError, match="got copy=False"):
        np.asarray(on_disk, copy=False)
    with pytest.raises(InputError, match="Expected the Gram matrix of one set of inputs for a diagonal"):
        nb.gram_on_disk(tmp_path / "b", ntk(), X, Y).trace()
    each = nb.gram_on_disk(tmp_path / "c", ntk("each"), X)
    for read in (lambda: each[0], lambda: each @ np.ones(7), each.to_scipy):
        with pytest.raises(InputError, match=r"got outputs='each'.* Use store\."):
            read()


def test_values_that_are_not_finite_are_named(tmp_path):
    x = X.copy()
    x[5] = 3e19  # its square exceeds the largest float32
    net = nb.infinite_nngp(nb.nets.mlp(depth=1))
    with pytest.raises(
        InputError, match=r"Expected finite values of the kernel; got NaN or infinity for inputs 0 to 1 with inputs 4"
    ):
        nb.gram_on_disk(tmp_path / "a", net, x, rows=ROWS)
    with pytest.raises(InputError, match="Expected finite values of the kernel of the first inputs"):
        nb.gram_on_disk(tmp_path / "b", net, x[5:])
    assert not (tmp_path / "b").exists()


# Disks that are full or fail.


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("at", [3, 11, 12, 14])  # after the manifest: a block, a later one, its checksum, its folder
def test_a_failing_disk_raises_one_error_and_loses_nothing(tmp_path, complete, monkeypatch, number, at):
    fsync, calls = os.fsync, []

    def failing(file):
        calls.append(file)
        if len(calls) == at:
            raise OSError(number, os.strerror(number))
        fsync(file)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(StorageError, match=r"Expected to write .*npy.*; got: .*, and repeat the call") as caught:
        stored(tmp_path)
    assert caught.value.errno == number
    assert isinstance(caught.value, OSError)
    assert not list(tmp_path.glob("*.part"))
    stored(tmp_path)
    assert contents(tmp_path) == complete


def test_a_real_limit_of_file_sizes(tmp_path):
    resource = pytest.importorskip("resource")
    x = jnp.sin(jnp.arange(180.0)).reshape(60, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # the manifest fits; a block of 14,528 bytes does not
    try:
        with pytest.raises(StorageError, match=r"got: File too large. Make room on that disk"):
            nb.gram_on_disk(tmp_path, ntk(), x)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    near(nb.gram_on_disk(tmp_path, ntk(), x), ntk()(x))


def test_too_small_a_disk_is_named_before_the_work(tmp_path, complete, computed, monkeypatch):
    usage = writer.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage._replace(free=111))  # 7 * 8 / 2 floats are 112
    with pytest.raises(
        StorageError, match=r"Expected .* GiB of free space for the 10 missing blocks in .*; got 1.03e-07"
    ):
        stored(tmp_path)
    assert not computed
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda path: usage._replace(free=200))
    stored(tmp_path)
    assert contents(tmp_path) == complete


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"got .*store, but .*file is a file"):
        stored(tmp_path / "file" / "store")


# Other processes are forks of one that has imported this module, so that its functions have the same names.


def printed(code, timeout=120):
    """The output of a process that runs a function of this module."""
    paths = [str(Path(__file__).parents[level]) for level in (1, 2)]
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import test_store; test_store.{code}"],
        cwd=Path(__file__).parent,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=timeout,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    ).stdout


def deadly(name, number, calls):
    """Make functions of `os` kill this process before or after a call, at the `number`-th of these moments."""
    function = getattr(os, name)

    def moment():
        calls.append(name)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    def call(*arguments, **options):
        moment()
        result = function(*arguments, **options)
        moment()
        return result

    setattr(os, name, call)


def started(work):
    """Fork this process, in which JAX has not started, to do the work. Return the id of the child."""
    if (child := os.fork()) == 0:
        work()
        os._exit(0)
    return child


def ended(child):
    """Wait for a child process, and return its exit code."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_twice(folder):
    """Be killed once with an unfinished block and once with a checksum before its block; print the files each time."""
    for number in (19, 9):  # two moments per call: for each file fsync, replace and fsync of the folder
        moments = []

        def fill():
            for name in ("fsync", "replace"):
                deadly(name, number, moments)  # noqa: B023
            stored(folder)

        assert ended(started(fill)) == -signal.SIGKILL
        print(*sorted(path.name for path in Path(folder).iterdir()))


def test_a_store_killed_twice_resumes_to_the_same_files(tmp_path, complete, computed):
    first, second = printed(f"die_twice({str(tmp_path)!r})").splitlines()
    block, part = "0000-0000.npy 0000-0000.npy.sha256", "0000-0001.npy.part"
    assert first == f"{block} {part} manifest.json"
    assert second == f"{block} {part} 0000-0001.npy.sha256 manifest.json"
    stored(tmp_path)
    assert len(computed) == NUM_BLOCKS - 1
    assert contents(tmp_path) == complete


def fill_together(folder):
    """Fill a store with two processes at once. Each prints how many blocks it computed."""

    def fill(name, other):
        write, count = writer._write_block, []

        def slow(*arguments):
            time.sleep(0.1)  # so that the other process can join in before this one is done
            write(*arguments)
            count.append(1)

        writer._write_block = slow
        jnp.zeros(1)
        Path(folder, name).touch()
        while not Path(folder, other).exists():
            time.sleep(0.01)
        stored(Path(folder, "store"))
        Path(folder, name).write_text(str(len(count)))

    children = [started(lambda: fill("a", "b")), started(lambda: fill("b", "a"))]
    assert [ended(child) for child in children] == [0, 0]
    print(Path(folder, "a").read_text(), Path(folder, "b").read_text())


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path, complete):
    counts = [int(count) for count in printed(f"fill_together({str(tmp_path)!r})").split()]
    assert sum(counts) == NUM_BLOCKS
    assert min(counts) > 0
    assert contents(tmp_path / "store") == complete


def test_the_block_of_a_process_that_dies_is_computed_by_another(tmp_path, complete, computed):
    """The other process claims a block and hangs. This one computes the rest, waits, and takes that block over."""
    path = tmp_path / "0000-0001.npy"
    stored(tmp_path)
    path.unlink()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD.format(part=str(path) + ".part")], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "locked\n"
    killer = threading.Timer(0.5, holder.kill)
    killer.start()
    stored(tmp_path)
    assert holder.wait() == -signal.SIGKILL
    assert computed[NUM_BLOCKS:] == [(0, 1)]
    assert contents(tmp_path) == complete


HOLD = """
import fcntl, time
file = open({part!r}, "ab")
fcntl.flock(file, fcntl.LOCK_EX)
file.write(b"half a block")
file.flush()
print("locked", flush=True)
time.sleep(60)
"""


def test_threads_share_the_work_too(tmp_path, complete, computed):
    threads = [threading.Thread(target=stored, args=(tmp_path,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(computed) == len(set(computed)) == NUM_BLOCKS
    assert contents(tmp_path) == complete


def die_everywhere(folder):
    """Be killed at each moment when a store changes the disk, resume, and compare. Print the number of moments."""
    complete, status, number = None, -signal.SIGKILL, 0
    while status == -signal.SIGKILL:
        number += 1
        place, moments = Path(folder) / str(number), []

        def fill():
            for name in ("fsync", "replace", "unlink", "mkdir"):
                deadly(name, number, moments)  # noqa: B023
            nb.gram_on_disk(place, ntk(), X, rows=4)  # noqa: B023

        status = ended(started(fill))
        assert ended(started(lambda: nb.gram_on_disk(place, ntk(), X, rows=4))) == 0  # noqa: B023
        complete = complete or contents(place)
        assert contents(place) == complete, number
    assert status == 0
    print(number - 1)


@pytest.mark.slow
def test_a_store_killed_at_any_moment_resumes(tmp_path):
    assert int(printed(f"die_everywhere({str(tmp_path)!r})", timeout=900)) > 20


def fill_distributed(folder):
    """Fill a store with the two processes of one `jax.distributed` program."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        address = f"localhost:{probe.getsockname()[1]}"

    def fill(index):
        jax.distributed.initialize(address, num_processes=2, process_id=index)
        assert jax.process_count() == 2
        stored(folder)
        jax.distributed.shutdown()

    children = [started(lambda index=index: fill(index)) for index in range(2)]
    print(*(ended(child) for child in children))


@pytest.mark.slow
def test_a_distributed_program_fills_one_store(tmp_path, complete):
    assert printed(f"fill_distributed({str(tmp_path / 'store')!r})") == "0 0\n"
    assert contents(tmp_path / "store") == complete
