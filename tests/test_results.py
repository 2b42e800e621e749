"""Files: what is saved loads again, whole, and nothing else is loaded."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ntkbias as nb
from ntkbias import results
from ntkbias.errors import InputError


def ranking():
    circle = nb.domains.Circle()
    x, weights = circle.quadrature(32)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), x, weights)
    return spectrum, nb.rank_by_frequency(spectrum, circle)


def test_values_load_as_they_were_saved(tmp_path):
    spectrum, frequencies = ranking()
    value = {
        "ranking": frequencies,
        "list": [1, 2.5, "three", None, True, float("inf")],
        "tuple": (np.arange(3), jnp.ones((2, 0))),
        "domain": nb.domains.Circle(2.0),
        "spectrum": spectrum,
    }
    nb.save(tmp_path / "run.1", value)
    loaded = nb.load(tmp_path / "run.1")
    assert loaded["list"] == value["list"]
    assert isinstance(loaded["tuple"], tuple)
    np.testing.assert_array_equal(loaded["tuple"][0], np.arange(3))
    assert loaded["domain"] == value["domain"]
    assert loaded["ranking"].measure == "harmonic"
    assert loaded["ranking"].spearman == frequencies.spearman
    np.testing.assert_array_equal(loaded["ranking"].energy, frequencies.energy)
    np.testing.assert_array_equal(loaded["spectrum"].eigenfunctions, spectrum.eigenfunctions)
    assert loaded["spectrum"].kernel is None
    with pytest.raises(InputError, match="from a file"):
        loaded["spectrum"].extend(spectrum.x)
    assert {path.name for path in tmp_path.iterdir()} == {"run.1.npz", "run.1.json"}


def test_float64_survives(x64, tmp_path):
    nb.save(tmp_path / "a", jnp.asarray(1 / 3))
    assert float(nb.load(tmp_path / "a")) == 1 / 3


def test_bad_values_and_files_are_named(tmp_path):
    with pytest.raises(InputError, match="to save; got function at value.f"):
        nb.save(tmp_path / "a", {"f": lambda: None})
    assert list(tmp_path.iterdir()) == []  # nothing half-written
    with pytest.raises(InputError, match="missing.json is missing"):
        nb.load(tmp_path / "missing")
    nb.save(tmp_path / "b", jnp.ones(3))
    (tmp_path / "b.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match="saved by ntkbias; it cannot be read"):
        nb.load(tmp_path / "b")
    nb.save(tmp_path / "c", jnp.ones(3))
    (tmp_path / "c.json").write_text(json.dumps({"format": 1, "value": {"type": "os:system", "fields": {}}}))
    with pytest.raises(InputError, match="a type of another package, os:system"):
        nb.load(tmp_path / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Expected to write .*/file/d.npz; got: (Not a directory|File exists)"):
        nb.save(tmp_path / "file" / "d", jnp.ones(3))


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    results.write(path, lambda file: file.write(b"old"))

    def fail(file):
        file.write(b"ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="No space left on device"):
        results.write(path, fail)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_names_types_and_keys_do_not_collide_or_narrow(tmp_path):
    value = {"a.b": np.ones(1), "a": {"b": np.zeros(1)}, "big": np.array([2**40]), "loss": np.float64(0.5)}
    nb.save(tmp_path / "v", value)
    loaded = nb.load(tmp_path / "v")
    assert (float(loaded["a.b"][0]), float(loaded["a"]["b"][0])) == (1.0, 0.0)
    assert int(loaded["big"][0]) == 2**40
    assert loaded["loss"] == 0.5


def test_what_cannot_be_stored_is_refused_before_writing(tmp_path, unchecked):
    for array in (jnp.ones(3, jnp.bfloat16), np.array(["a"]), np.array([None]), jax.random.key(0)):
        with pytest.raises(TypeError, match="Expected arrays of numbers to save; got .* at value.array"):
            nb.save(tmp_path / "v", {"array": array})
    assert list(tmp_path.iterdir()) == []
    for path in ("", "..", None, 3):
        with pytest.raises(InputError, match="Expected the path of a file, without its suffix; got"):
            nb.save(path, 1)
    with pytest.raises(InputError, match="without its suffix; got Spectrum. Paths come first.$"):
        nb.save(nb.eigh(jnp.eye(3)), "v")
    (tmp_path / "w.npz").write_bytes(b"")
    np.savez(tmp_path / "w.npz")
    for text, reason in (
        ('{"format": 2, "value": 1}', "format 2"),
        ('{"format": 1, "value": {}}', "an empty description"),
    ):
        (tmp_path / "w.json").write_text(text)
        with pytest.raises(InputError, match=reason):
            nb.load(tmp_path / "w")
