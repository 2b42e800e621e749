"""Every damage to every file, for every reader: the right value, or one sentence."""

import contextlib
import functools
import shutil
import signal
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from damages import DAMAGES

import ntkbias as nb
from ntkbias import datasets
from ntkbias.cli.config import with_config
from ntkbias.cli.folder import RunFolder
from ntkbias.errors import InputError

X, NET = nb.domains.Circle().quadrature(8)[0], nb.nets.mlp(width=4, depth=1)


def network(params, x):
    return jnp.tanh(x @ params["w"])


def save_result(folder, number):
    """Arrays, a spectrum, a kernel of a network and one of a function of the user's, with its trial."""
    params = {"w": jnp.arange(1.0, 5.0).reshape(2, 2) * number}
    kernels = {
        "ours": nb.empirical_ntk(NET.apply, NET.init(jax.random.key(number), (2,))),
        "users": nb.empirical_ntk(network, params),
    }
    value = {"a": np.arange(40.0) + number, "b": [number, "text", 0.5], "s": nb.eigen.eigh(jnp.eye(3) * number)}
    nb.save(folder / "v", value | kernels)


def read_result(folder):
    return jax.tree.map(np.asarray, nb.load(folder / "v", f=network))


def save_run(folder, number):
    data = X, jnp.cos(number * nb.domains.Circle().angle(X))
    options = {"num_steps": 4, "at": (0, 2, 4), "measures": nb.tracking.measures.chosen("loss")}
    params = NET.init(jax.random.key(number), (2,))
    nb.track(NET.apply, params, data, optimizer=optax.sgd(0.1), checkpoint=folder, **options)


def read_run(folder):
    history = nb.open_history(folder)
    return {"steps": history.steps, "probe": history.probe, **history.values}, history.axes, history.labels


def save_store(folder, number):
    kernel = nb.empirical_ntk(NET.apply, NET.init(jax.random.key(number), (2,)))
    nb.gram_on_disk(folder, kernel, X, rows=4)


def read_store(folder):
    store = nb.open_gram(folder)
    store.verify()
    return np.asarray(store)


def save_data(folder, number):
    np.savez(folder / "data.npz", x=np.arange(12.0).reshape(6, 2) + number, y=np.arange(6) + number)


def read_data(folder):
    return tuple(datasets.from_file(folder / "data.npz"))


def save_outputs(folder, number):
    def fill(path):
        nb.save(path / "v", {"a": np.arange(40.0) + number})
        (path / "table.txt").write_text(f"table {number}")

    with RunFolder.claimed(folder, []) as run:
        run.fill(fill)


def read_outputs(folder):
    """Claim the folder as a command does, and load the value."""
    with RunFolder.claimed(folder, ["v.npz", "v.json", "table.txt"]):
        return nb.load(folder / "v")


def save_config(folder, number):
    (folder / "a.toml").write_text(f'width = {number}\nactivation = "erf"\nlimit = "infinite"\n')


def read_config(folder):
    """Read a file that a person wrote: any value will do, but no error except one sentence."""
    with_config(["spectrum", "--config", str(folder / "a.toml")])


READERS = {
    "result": (save_result, read_result),
    "run": (save_run, read_run),
    "store": (save_store, read_store),
    "data": (save_data, read_data),
    "outputs": (save_outputs, read_outputs),
    "config": (save_config, read_config),
}
# A reader without digests cannot notice these damages: they replace the file by a valid one with other contents.
UNDETECTABLE = {
    "data": ("of another save", "arrays zero", "arrays lost"),
    "run": ("arrays zero", "arrays longer", "arrays of no length"),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A function that makes two saves of a reader, and the value of the first. Tests damage copies of the first."""

    @functools.cache
    def made(name):
        save, read = READERS[name]
        folders = [tmp_path_factory.mktemp(f"{name}{number}") for number in (1, 2)]
        for number, folder in enumerate(folders, 1):
            save(folder, number)
        return (*folders, read(folders[0]))

    return made


@contextlib.contextmanager
def ended(seconds):
    """Raise an error after so many seconds: a reader must not wait for a pipe."""

    def late(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def same(left, right):
    if jax.tree.structure(left) != jax.tree.structure(right):
        return False
    pairs = zip(jax.tree.leaves(left), jax.tree.leaves(right), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("reader", READERS)
def test_damaged_files_give_the_right_value_or_one_sentence(tmp_path, unchecked, saved, reader, damage):
    if damage in UNDETECTABLE.get(reader, ()):
        pytest.skip("a valid file with other contents and correct checksums: no reader can notice")
    first, second, value = saved(reader)
    wrong = []
    for path in sorted(path for path in first.rglob("*") if path.is_file()):
        name = path.relative_to(first)
        folder = tmp_path / "damaged"
        shutil.copytree(first, folder)
        DAMAGES[damage](folder / name, second / name)
        try:
            with ended(10), warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                read = READERS[reader][1](folder)
            if not same(read, value):
                wrong.append((str(name), "another value", read))
        except InputError as error:
            sentence = str(error)
            if len(sentence.splitlines()) != 1 or not sentence.startswith("Expected"):
                wrong.append((str(name), "no sentence", sentence))
        except BaseException as error:  # of any type: a user would see a traceback
            wrong.append((str(name), type(error).__name__, str(error)[:300]))
        shutil.rmtree(folder)
    assert not wrong
