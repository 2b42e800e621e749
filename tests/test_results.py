"""Files: saved values load completely and unchanged, and other files are refused."""

import importlib
import inspect
import json
import pkgutil
from concurrent.futures import ThreadPoolExecutor

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from cases import LAYERS

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.results import public_name, type_of
from ntkbias.results.storing import FORMAT


def ranking():
    circle = nb.domains.Circle()
    x, weights = circle.quadrature(32)
    spectrum = nb.spectrum(nb.infinite_ntk(nb.nets.mlp(b_std=0.1)), x, weights=weights)
    return spectrum, nb.rank_by_frequency(spectrum, circle)


def hostile(path, structure, functions=(), **arrays):
    """Write the two files of a value with this structure, complete and with matching digests, as `save` does."""
    content = json.dumps({"format": FORMAT, "value": structure, "functions": functions}).encode()
    np.savez(f"{path}.npz", structure=np.frombuffer(content, np.uint8), **arrays)


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
    np.testing.assert_array_equal(loaded["spectrum"].extend(spectrum.x[:3]), spectrum.extend(spectrum.x[:3]))
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
    with pytest.raises(
        InputError, match="saved by ntkbias; b.npz cannot be read: it is a text file that begins with 'no"
    ):
        nb.load(tmp_path / "b")
    hostile(tmp_path / "c", {"type": "os.system", "fields": {}})
    with pytest.raises(InputError, match="ntkbias has no type os.system"):
        nb.load(tmp_path / "c")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Expected to write .*/file/d; got: (Not a directory|File exists)"):
        nb.save(tmp_path / "file" / "d", jnp.ones(3))


def test_names_types_and_keys_do_not_collide_or_narrow(tmp_path):
    value = {"a.b": np.ones(1), "a": {"b": np.zeros(1)}, "big": np.array([2**40]), "loss": np.float64(0.5)}
    nb.save(tmp_path / "v", value)
    loaded = nb.load(tmp_path / "v")
    assert (float(loaded["a.b"][0]), float(loaded["a"]["b"][0])) == (1.0, 0.0)
    assert int(loaded["big"][0]) == 2**40
    assert loaded["loss"] == 0.5


def test_values_that_cannot_be_stored_are_refused_before_writing(tmp_path, unchecked):
    for array in (jnp.ones(3, jnp.bfloat16), np.array(["a"]), np.array([None]), jax.random.key(0)):
        with pytest.raises(TypeError, match="Expected arrays of numbers to save; got .* at value.array"):
            nb.save(tmp_path / "v", {"array": array})
    assert list(tmp_path.iterdir()) == []
    for path in ("", "..", None, 3):
        with pytest.raises(InputError, match="Expected the path of a file, with or without its suffix; got"):
            nb.save(path, 1)
    with pytest.raises(InputError, match="or without its suffix; got Spectrum. Paths come first.$"):
        nb.save(nb.eigen.eigh(jnp.eye(3)), "v")
    np.savez(tmp_path / "w.npz")
    for text, reason in (
        (
            '{"format": 3, "value": 1}',
            "got format 3, saved by an earlier version of ntkbias. Compute the value and save it",
        ),
        ('{"format": 5, "value": 1}', "got format 5, saved by another version of ntkbias. Update it."),
        ("[3]", "its .json names no format"),
        ("{}", "its .json names no format"),
    ):
        (tmp_path / "w.json").write_text(text)
        with pytest.raises(InputError, match=reason):
            nb.load(tmp_path / "w")
    (tmp_path / "w.json").unlink()
    with pytest.raises(InputError, match="w.npz cannot be read: it has no array 'structure'"):
        nb.load(tmp_path / "w")


def test_files_of_two_saves_are_not_combined(tmp_path):
    nb.save(tmp_path / "v", {"a": np.arange(3)})
    old = {suffix: (tmp_path / f"v{suffix}").read_bytes() for suffix in (".npz", ".json")}
    nb.save(tmp_path / "v", {"a": np.arange(3) + 1})
    new = (tmp_path / "v.json").read_bytes()
    (tmp_path / "v.json").write_bytes(old[".json"])  # as if killed between the two files
    message = (
        "v.npz and .*v.json from one save; got files from different saves, .* or delete .*v.json to load .*v.npz alone"
    )
    with pytest.raises(InputError, match=message):
        nb.load(tmp_path / "v")
    (tmp_path / "v.json").unlink()
    assert nb.load(tmp_path / "v")["a"].tolist() == [1, 2, 3]  # nothing was lost
    (tmp_path / "v.json").write_bytes(new)
    (tmp_path / "v.npz").write_bytes(old[".npz"])
    with pytest.raises(InputError, match=message):
        nb.load(tmp_path / "v")
    nb.save(tmp_path / "v", {"a": np.arange(3), "number": 12})
    (tmp_path / "v.json").write_text((tmp_path / "v.json").read_text().replace("12", "13"))
    with pytest.raises(InputError, match=message):
        nb.load(tmp_path / "v")


def test_threads_that_save_to_one_path_leave_the_files_of_one_of_them(tmp_path):
    def work(number):
        for _ in range(10):
            nb.save(tmp_path / "v", {"a": np.full(5, number), "b": number})

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, number) for number in range(4)]:
            done.result()
    loaded = nb.load(tmp_path / "v")
    assert loaded["a"].tolist() == [loaded["b"]] * 5
    assert {path.name for path in tmp_path.iterdir()} == {"v.npz", "v.json"}


@pytest.mark.parametrize("kind", ["<f2", ">f4", ">i8", "<u2", "|b1", ">c16"])
def test_arrays_of_any_machine_load_as_they_were_saved(tmp_path, kind):
    array = np.arange(6).reshape(2, 3).astype(kind)
    nb.save(tmp_path / "v", [array, array.T, array[::-1], array[:0]])
    for loaded, given in zip(nb.load(tmp_path / "v"), (array, array.T, array[::-1], array[:0]), strict=True):
        assert loaded.dtype == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(loaded, given)


def test_any_name_and_text_loads_as_it_was_saved(tmp_path):
    names = ["", "a/b", "../../x", "a\0b", "\ud800", "x" * 70_000, "file", "structure", "ä", "type", "array"]
    value = {name: [np.full(2, number), name] for number, name in enumerate(names)}
    nb.save(tmp_path / "v", value)
    loaded = nb.load(tmp_path / "v")
    assert list(loaded) == names
    for number, name in enumerate(names):
        assert loaded[name][0].tolist() == [number] * 2
        assert loaded[name][1] == name


def nested(depth):
    value = 1
    for _ in range(depth):
        value = [value]
    return value


def test_values_that_would_not_load_are_refused(tmp_path):
    nb.save(tmp_path / "v", nested(100))
    assert nb.load(tmp_path / "v") == nested(100)
    nb.save(tmp_path / "w", -(10**3999))
    assert nb.load(tmp_path / "w") == -(10**3999)
    endless = []
    endless.append(endless)
    masked = np.ma.masked_array(np.ones(3), [True, False, False])
    for value, message in (
        (nested(101), "Expected values nested at most 100 deep to save; got more at value.0.0"),
        (endless, "Expected values nested at most 100 deep to save; got more at value.0.0"),
        (10**4000, "Expected whole numbers of at most 4,000 digits to save"),
        (masked, "Expected arrays of numbers to save; got a masked one at value. Fill it"),
        (np.ones(3, "g"), "got float128 at value. Convert it first: .* extended precision to float64"),
        (np.ones(3, "G"), "got complex256 at value. Convert it first: .* extended precision to float64"),
    ):
        with pytest.raises(InputTypeError, match=message):
            nb.save(tmp_path / "x", value)
    assert not (tmp_path / "x.npz").exists()


def test_structures_that_save_did_not_write_are_refused(tmp_path):
    for structure, reason in (
        ({}, "an empty description"),
        ({"type": "Spectrum", "fields": {}}, "missing"),
        ({"type": "Spectrum", "fields": {"path": "x"}}, "missing"),
        ({"type": "Spectrum", "fields": 3}, "."),
        ({"array": "none"}, "none"),
        ({"float": "much"}, "could not convert"),
        ({"list": 3}, "."),
    ):
        hostile(tmp_path / "v", structure)
        with pytest.raises(
            InputError, match=f"Expected .*v to be a value saved by ntkbias; it cannot be read: .*{reason}"
        ):
            nb.load(tmp_path / "v")
    content = b'{"format": 4, "functions": [], "value": ' + b'{"list": [' * 10_000 + b"]}" * 10_000 + b"}"
    np.savez(tmp_path / "v.npz", structure=np.frombuffer(content, np.uint8))
    with pytest.raises(InputError, match="it cannot be read: maximum recursion depth"):
        nb.load(tmp_path / "v")


# Files hold the public names of types, so no file depends on the module that defines a type.

PARTS = (
    "adapters",
    "kernels",
    "tasks",
    "training",
)  # subpackages whose values, except kernels, occur only within others


def module_types():
    """All types of modules in the package that are not abstract."""
    for module in pkgutil.walk_packages(nb.__path__, "ntkbias."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    found, new = set(), {eqx.Module}
    while new:
        found |= new
        new = {sub for cls in new for sub in cls.__subclasses__()} - found
    own = [cls for cls in found if cls.__module__.startswith("ntkbias.") and not inspect.isabstract(cls)]
    return sorted(own, key=lambda cls: f"{cls.__module__}.{cls.__qualname__}")


def public_types():
    """The types by their public names: first those of `ntkbias`, then those of its namespaces."""
    spaces = [("", nb), *((f"{name}.", thing) for name in nb.__all__ if inspect.ismodule(thing := getattr(nb, name)))]
    named = {f"{prefix}{name}": getattr(space, name) for prefix, space in spaces for name in space.__all__}
    return {name: cls for name, cls in named.items() if isinstance(cls, type) and issubclass(cls, eqx.Module)}


def test_every_type_of_value_has_a_public_name():
    named = set(public_types().values())
    parts = (*PARTS, "tables")  # `tables` holds base classes only, and no values
    lost = [cls for cls in module_types() if cls not in named and cls.__module__.split(".")[1] not in parts]
    private = [cls for cls in lost if cls.__name__.startswith("_") and cls.__subclasses__()]  # bases of others
    assert [cls for cls in lost if cls not in private] == []


def test_every_kernel_has_a_public_name():
    named = set(public_types().values())
    assert [cls.__name__ for cls in module_types() if issubclass(cls, nb.Kernel) and cls not in named] == ["Stacked"]


def test_public_names_are_found_again_and_no_two_types_share_one():
    types = public_types()
    assert types["Spectrum"] is nb.Spectrum
    assert types["layers.Gaussian"] is nb.layers.Gaussian
    assert types["domains.Gaussian"] is nb.domains.Gaussian
    for name, cls in types.items():
        assert not name.rpartition(".")[2].startswith("_")
        assert cls.__module__.startswith("ntkbias.")
    first = {cls: name for name, cls in reversed(types.items())}
    assert len(set(first.values())) == len(first) == len(set(types.values()))
    assert all(public_name(cls) == name for cls, name in first.items())
    assert all(type_of(name) is cls for name, cls in types.items())
    for name in ("os", "save", "layers", "layers.", ".Dense", "results.Dense", "Dense.mro", "a.b.C", 3, None):
        assert type_of(name) is None
    assert first[nb.ExactSpectrum] == "ExactSpectrum"  # which ntkbias.exact exports as well


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer_loads_as_it_was_saved(tmp_path, name):
    layer = LAYERS[name][0]
    f = layer.decay.f if name.startswith("positional encoding, ") else None  # a function of the distance
    nb.save(tmp_path / "layer", layer)
    assert "ntkbias" not in (tmp_path / "layer.json").read_text()  # no path of a module
    loaded = nb.load(tmp_path / "layer", f=f)
    assert jax.tree.structure(loaded) == jax.tree.structure(layer)
    assert jax.tree.leaves(loaded) == jax.tree.leaves(layer)


def test_networks_of_patches_load_as_they_were_saved(tmp_path):
    net = nb.nets.patch_network(branching=(2, 2))
    nb.save(tmp_path / "net", net)
    assert nb.load(tmp_path / "net") == net


def test_paths_may_end_in_the_suffix_of_a_file(tmp_path):
    for name in ("a.npz", "a.json", "a"):
        nb.save(tmp_path / name, {"name": name})
        assert {path.name for path in tmp_path.iterdir()} == {"a.npz", "a.json"}
        for other in ("a.npz", "a.json", "a", str(tmp_path / "a.npz")):
            assert nb.load(tmp_path / other) == {"name": name}
    (tmp_path / "d").mkdir()
    for call in (lambda path: nb.save(path, 1), nb.load):
        for path in (tmp_path / "d", f"{tmp_path}/d/", f"{tmp_path}/new/", str(tmp_path)):
            with pytest.raises(
                InputError, match=r"Expected the path of a file; got the folder .*Add a name: .*value\.$"
            ):
                call(path)
    assert not (tmp_path / "new").exists()
    with pytest.raises(InputError, match=r"Expected .*/e.json and .*/e.npz; .*e.json is missing.$"):
        nb.load(tmp_path / "e.npz")


def test_files_of_another_kind_are_not_replaced(tmp_path):
    x = nb.domains.Circle().quadrature(6)[0]
    net = nb.nets.mlp(width=4, depth=1)
    options = {"num_steps": 1, "measures": nb.tracking.measures.chosen("loss"), "optimizer": optax.sgd(0.1)}
    nb.track(net.apply, net.init(jax.random.key(0), (2,)), (x, x[:, 0]), checkpoint=tmp_path / "run", **options)
    nb.gram_on_disk(tmp_path / "store", nb.infinite_ntk(net), x)
    np.savez(tmp_path / "data.npz", x=np.ones(3))
    (tmp_path / "files.json").write_text('{"about": "files", "format": 1, "files": {}}')
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for name in ("run/state", "run/start.npz", "run/run", "run/about.json", "store/manifest", "data", "files.json"):
        with pytest.raises(InputError, match="to be absent or to hold a saved value; got a file of another"):
            nb.save(tmp_path / name, {"a": 1})
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for damage in (b"", b"no archive", b"PK"):  # save may replace a damaged value
        nb.save(tmp_path / "v", 1)
        (tmp_path / "v.npz").write_bytes(damage)
        (tmp_path / "v.json").write_bytes(damage)
        nb.save(tmp_path / "v", 2)
        assert nb.load(tmp_path / "v") == 2


LAYOUT = {"layout": {"shape": [1], "dtype": "float32"}}


def test_functions_that_no_save_has_written_are_refused(tmp_path):
    """A name in a file finds only methods of networks and functions of this package."""
    gradients = {"f": {"function": 0, "real": True}, "params": None, "outputs": "mean", "precision": "highest"}
    kernel = {"type": "kernels.Gradients", "fields": gradients | {"memory_budget": 1}}
    for node, reason in (
        ({"method": {"constant": "os.system"}}, "no value of the kind constant os.system"),
        ({"method": {"constant": "save"}}, "no value of the kind constant save"),
        ({"method": "text"}, "no attribute 'apply'"),
        ({"around": "os.system", "f": 0, "fields": {}}, "no wrapper named os.system"),
        ({"around": "save", "f": 0, "fields": {}}, "no wrapper named save"),
        ({"around": "inputs of several arrays", "f": 0, "fields": {"layout": LAYOUT}}, "recursion"),
        ({"call": "os.system"}, "no function of the kind call"),
        ({}, "."),
        (3, "."),
    ):
        hostile(tmp_path / "v", kernel, [node])
        with pytest.raises(InputError, match=f"Expected .*v to be a value saved by ntkbias; .*{reason}"):
            nb.load(tmp_path / "v")
    for structure in ({"pytree": [], "at": []}, {"layout": {"shape": 3}}, {"complex": [1]}, {"constant": "eigen"}):
        hostile(tmp_path / "v", structure)
        with pytest.raises(InputError, match="Expected "):
            nb.load(tmp_path / "v")
