"""Kernels in files, pickles and copies: the same numbers, without code, and with users' functions given to `load`."""

import copy
import functools
import gc
import pickle
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import DOMAINS, LAYERS

import ntkbias as nb
from ntkbias.compilation import Function
from ntkbias.errors import InputError, InputTypeError
from ntkbias.results.describing import Writer
from ntkbias.results.names import wrapper_of
from ntkbias.wrappers import Wrapper

X = np.asarray(nb.domains.Circle().quadrature(6)[0])
NET = nb.nets.mlp(width=4, depth=1, num_outputs=2)
PARAMS = NET.init(jax.random.key(0), (2,))
FINITE = functools.partial(nb.empirical_ntk, NET.apply, PARAMS)


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


OWN = {"w": jnp.ones((2, 4)) * jnp.arange(1.0, 5), "v": jnp.cos(jnp.arange(8.0)).reshape(4, 2)}


def laplace(cosine):
    return jnp.exp(-jnp.sqrt(2 - 2 * cosine))


def swish(u):
    return u * jax.nn.sigmoid(u)


def with_swish():
    return nb.layers.Sequential((nb.layers.Dense(4), nb.layers.Elementwise(swish), nb.layers.Dense(1)))


# name -> a kernel of our networks, which files hold completely
WHOLE = {
    "infinite": lambda: nb.infinite_ntk(NET),
    "infinite, all": lambda: nb.infinite_nngp(NET, outputs="all"),
    "empirical": lambda: FINITE(),
    "empirical, some": lambda: FINITE(outputs="all", wrt="[1]"),
    "nngp": lambda: nb.empirical_nngp(NET.apply, PARAMS),
    "sum": lambda: FINITE() + nb.infinite_ntk(NET),
    "scaled": lambda: 0.3 * FINITE(),
    "scaled by an array": lambda: jnp.float32(0.3) * FINITE(),
    "centered": lambda: FINITE().centered(X[:4]),
    "velocity": lambda: nb.ntk_velocity(NET.apply, PARAMS, PARAMS),
    "pseudo": lambda: nb.kernels.pseudo_ntk(NET.apply, PARAMS, key=jax.random.key(1)),
    "loss weighted": lambda: nb.loss_weighted_ntk(NET.apply, PARAMS, "cross_entropy"),
    "preconditioned": lambda: nb.preconditioned_ntk(NET.apply, PARAMS, jax.tree.map(jnp.ones_like, PARAMS)),
    "signs": lambda: nb.kernels.sign_ntk(NET.apply, PARAMS, outputs="all", wrt="[1]"),
    "low rank": lambda: nb.empirical_ntk(
        *nb.adapters.lora(NET.apply, PARAMS, 2, key=jax.random.key(1)), wrt="['factors']"
    ),
}
# name -> a kernel with a user's function, and that function
OF_USERS = {
    "function": (lambda: nb.empirical_ntk(network, OWN), network),
    "function, nngp": (lambda: nb.empirical_nngp(network, OWN), network),
    "function, sum": (
        lambda: nb.empirical_ntk(network, OWN) + 2 * nb.empirical_ntk(network, OWN, wrt="['v']"),
        network,
    ),
    "function, weighted": (lambda: nb.loss_weighted_ntk(network, OWN, "cross_entropy"), network),
    "profile": (lambda: nb.kernels.DotProductKernel(laplace), laplace),
    "activation": (lambda: nb.infinite_ntk(with_swish()), swish),
    "activation, finite": (
        lambda: nb.empirical_ntk(with_swish().apply, with_swish().init(jax.random.key(0), (2,))),
        swish,
    ),
}


@pytest.mark.parametrize("name", [*WHOLE, *OF_USERS])
def test_kernels_are_saved_pickled_and_copied_whole(tmp_path, name):
    make, f = (WHOLE[name], None) if name in WHOLE else OF_USERS[name]
    kernel = make()
    wanted = np.asarray(kernel(X))
    nb.save(tmp_path / "kernel", kernel)
    loaded = nb.load(tmp_path / "kernel", f=f)
    assert type(loaded) is type(kernel)
    assert jax.tree.structure(loaded) == jax.tree.structure(kernel)  # so it shares the compiled programs
    for same in (loaded, pickle.loads(pickle.dumps(kernel)), copy.copy(kernel), copy.deepcopy(kernel)):
        np.testing.assert_array_equal(same(X), wanted)
        assert jax.tree.structure(same) == jax.tree.structure(kernel)
    assert b"Programs" not in pickle.dumps(kernel)


def test_kernels_of_parts_blocks_and_two_functions_are_saved(tmp_path):
    parts = nb.empirical_ntk_by_layer(NET.apply, PARAMS)
    first = lambda params, x: NET.apply(params, x)[:, 0]  # noqa: E731
    block = nb.block_ntk({"u": NET.apply, "v": NET.apply}, PARAMS, weights={"u": 2.0, "v": 1.0})
    cross = nb.cross_ntk(NET.apply, first, PARAMS, outputs="all")
    nb.save(tmp_path / "v", {"parts": parts, "block": block, "cross": cross})
    loaded = nb.load(tmp_path / "v", f=first)
    assert isinstance(loaded["parts"], nb.kernels.Parts)
    for again in (loaded["parts"], pickle.loads(pickle.dumps(parts)), copy.deepcopy(parts)):
        for path, gram in parts(X).items():
            np.testing.assert_array_equal(again(X)[path], gram)
    inputs = {"u": X, "v": X[:2]}
    np.testing.assert_array_equal(loaded["block"](inputs), block(inputs))
    np.testing.assert_array_equal(loaded["cross"](X, X[:2]), cross(X, X[:2]))
    with np.load(tmp_path / "v.npz") as arrays:
        sizes = [arrays[key].shape for key in arrays if key != "structure"]
    assert sizes.count((4, 2)) == 1  # parameters of all kernels are stored once


def test_inputs_of_several_arrays_and_complex_parameters(tmp_path):
    def f(params, x):
        return jnp.real(x["a"] @ params["w"]) + x["b"]

    params = {"w": jnp.ones((2, 3)) * (1 + 2j)}
    x = {"a": X, "b": X[:, :1]}
    spectrum = nb.spectrum(nb.empirical_ntk(f, params), x)
    nb.save(tmp_path / "s", spectrum)
    loaded = nb.load(tmp_path / "s", f=f)
    np.testing.assert_array_equal(loaded.extend(x), spectrum.extend(x))
    np.testing.assert_array_equal(loaded.inputs["b"], x["b"])
    layout = spectrum.kernel.gradients.f.f.layout
    assert pickle.loads(pickle.dumps(layout)) == copy.deepcopy(layout) == layout
    with pytest.raises(InputError, match=r"Expected f=, the function 'f' of params \['w'\]"):
        nb.load(tmp_path / "s").extend(x)
    with pytest.raises(
        InputTypeError, match=r"Expected a few inputs x= that the function f at value.* got none. Write"
    ):
        nb.save(tmp_path / "k", nb.empirical_ntk(f, params))
    nb.save(tmp_path / "k", nb.empirical_ntk(f, params), x=x)
    np.testing.assert_array_equal(nb.load(tmp_path / "k", f=f)(x), nb.empirical_ntk(f, params)(x))


@pytest.mark.parametrize("kind", ["spectrum", "nystrom", "comparison"])
def test_loaded_spectra_extend_if_their_kernel_is_known_and_else_say_what_they_need(tmp_path, kind):
    def made(kernel):
        if kind == "nystrom":
            return nb.nystrom(kernel, X, 4)
        return nb.compare({"a": kernel}, X, nb.domains.Circle()) if kind == "comparison" else nb.spectrum(kernel, X)

    def of(value):
        return value.spectra[0] if kind == "comparison" else value

    new = X[:3] * 0.5
    for kernel, f in ((FINITE(), None), (nb.empirical_ntk(network, OWN), network)):
        value = made(kernel)
        nb.save(tmp_path / "v", value)
        np.testing.assert_array_equal(of(nb.load(tmp_path / "v", f=f)).extend(new), of(value).extend(new))
    loaded = of(nb.load(tmp_path / "v"))
    np.testing.assert_array_equal(loaded.eigenfunctions, of(value).eigenfunctions)
    message = r"Expected f=, the function 'network' of params \['v'\] \(4, 2\), .* nb.load\('.*v', f=network\)"
    for call in (loaded.extend, loaded.kernel, loaded.kernel.operator):
        with pytest.raises(InputError, match=message):
            call(new)
    nb.save(tmp_path / "again", {"s": [loaded, nb.load(tmp_path / "v")], "own": nb.spectrum(FINITE(), X)})
    with pytest.raises(InputError, match=message.replace(".*v'", ".*again'")):
        nb.load(tmp_path / "again")["s"][0].extend(new)  # saving again changes nothing
    again = nb.load(tmp_path / "again", f=network)
    for there in (again["s"][0], of(again["s"][1])):
        np.testing.assert_array_equal(there.extend(new), of(value).extend(new))
    assert len(again["own"].extend(new)) == 3


def test_spectra_are_pickled_and_copied_with_their_kernel():
    spectrum = nb.spectrum(FINITE(), X)
    for same in (pickle.loads(pickle.dumps(spectrum)), copy.copy(spectrum), copy.deepcopy(spectrum)):
        np.testing.assert_array_equal(same.extend(X[:2]), spectrum.extend(X[:2]))


def test_a_spectrum_is_saved_without_a_kernel_that_cannot_be(tmp_path):
    class Own(nb.Kernel):
        def contract(self, features1, features2):
            return features1 @ (features1 if features2 is None else features2).T

        def block_rows(self, x):
            return 8

    nb.save(tmp_path / "s", nb.spectrum(Own("mean"), X))
    with pytest.raises(InputError, match="saved with its spectrum; it was left out: .* got Own at value.kernel"):
        nb.load(tmp_path / "s").extend(X)
    with pytest.raises(InputTypeError, match="got Own at value"):
        nb.save(tmp_path / "k", Own("mean"))
    half = nb.empirical_ntk(network, jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), OWN))
    nb.save(tmp_path / "s", nb.spectrum(half, X))
    loaded = nb.load(tmp_path / "s")
    assert repr(loaded.kernel).startswith("UnloadedKernel('Expected a kernel that was saved with its spectrum")
    with pytest.raises(InputError, match="it was left out: Expected arrays of numbers to save; got bfloat16 at value"):
        loaded.extend(X)


def test_kernels_of_a_float64_session_compute_in_a_float32_one(tmp_path, x64):
    params = NET.init(jax.random.key(0), (2,))
    kernel = nb.empirical_ntk(NET.apply, params).centered(jnp.asarray(X, float)) * np.float64(0.5)
    own = nb.empirical_ntk(network, jax.tree.map(lambda leaf: leaf.astype(float), OWN))
    wanted = kernel(X), own(X)
    nb.save(tmp_path / "k", [kernel, own])
    jax.config.update("jax_enable_x64", False)
    for loaded, gram in zip(nb.load(tmp_path / "k", f=network), wanted, strict=True):
        assert loaded(X).dtype == np.float32
        np.testing.assert_allclose(loaded(X), gram, rtol=1e-4, atol=1e-5)


def changed(params, x):
    return jnp.sin(x @ params["w"]) @ params["v"]


def stopped(params, x):
    """A function with the same outputs, but without a gradient for one parameter."""
    return network({**params, "w": jax.lax.stop_gradient(params["w"])}, x)


def narrow(params, x):
    return network(params, x)[:, :1]


def of_others(params, x):
    return x @ params["weight"]


def test_another_function_is_refused(tmp_path, unchecked):
    nb.save(tmp_path / "k", nb.empirical_ntk(network, OWN))
    nb.save(tmp_path / "s", nb.spectrum(nb.empirical_ntk(network, OWN), X))
    for name in ("k", "s"):
        for f, reason in (
            (changed, "got another one: at the file's inputs entries of the outputs differ by"),
            (stopped, "got another one: at the file's inputs entries of the gradient differ"),
            (narrow, "got another one: at the file's inputs the shape of the outputs differs"),
            (of_others, "and inputs of shape .*; got one that does not accept them: .*weight"),
        ):
            with pytest.raises(InputError, match=f"Expected f= to be the function 'network' that was saved.*{reason}"):
                nb.load(tmp_path / name, f=f)
    assert nb.load(tmp_path / "k", f={"network": network})(X).shape == (6, 6)
    assert nb.load(tmp_path / "k", f=(network, OWN))(X).shape == (6, 6)
    for f, message in (
        (None, r"Expected f=, the function 'network' of params .*; got none. Load it as nb.load\('.*k', f=network\)."),
        (3, "Expected f= to be a function, f.params, x.; got int"),
        ({"other": network}, "Expected f= to name functions of this file, 'network'; got the name 'other'"),
    ):
        with pytest.raises(InputError, match=message):
            nb.load(tmp_path / "k", f=f)
    for kernel, wrong in (
        (nb.kernels.DotProductKernel(laplace), jnp.exp),
        (nb.infinite_ntk(with_swish()), jnp.tanh),
    ):
        nb.save(tmp_path / "p", kernel)
        with pytest.raises(InputError, match="that was saved; got another one"):
            nb.load(tmp_path / "p", f=wrong)
        with pytest.raises(InputError, match="Expected f=, the function '(laplace|swish)', because files hold no"):
            nb.load(tmp_path / "p")
    nb.save(tmp_path / "q", FINITE())
    assert nb.load(tmp_path / "q", f=NET.apply)(X).shape == (6, 6)  # the one that is in the file
    with pytest.raises(InputError, match="Expected no f= for .*q, which needs no user's function; got network"):
        nb.load(tmp_path / "q", f=network)


@pytest.mark.parametrize(
    ("saved", "given", "scale", "place"),
    [
        (lambda w, u: jnp.tanh(u), lambda w, u: jnp.sin(u), 1e-3, "random inputs"),  # alike at small inputs
        (lambda w, u: jax.nn.relu(u), lambda w, u: u, 1.0, "random inputs"),  # alike at positive ones
        (lambda w, u: u, lambda w, u: jnp.where(w[0] == 1, u, 2 * u), 1.0, "changed parameters"),
    ],
)
def test_functions_that_agree_at_the_inputs_are_told_apart(tmp_path, unchecked, saved, given, scale, place):
    x = scale * jnp.abs(jax.random.normal(jax.random.key(0), (6, 2)))
    for inputs, read in ((x, lambda x: x), ({"a": x}, lambda x: x["a"])):
        f, other = (lambda w, x, own=own, read=read: own(w, read(x) @ w) for own in (saved, given))
        nb.save(tmp_path / "s", nb.spectrum(nb.empirical_ntk(f, jnp.ones((2, 1))), inputs))
        assert nb.load(tmp_path / "s", f=f).extend(inputs).shape[0] == 6
        with pytest.raises(InputError, match=f"got another one: at {place} entries of the outputs differ by"):
            nb.load(tmp_path / "s", f=other)


def test_several_functions_go_by_their_names(tmp_path):
    kernel = nb.empirical_ntk(network, OWN) + nb.empirical_ntk(changed, OWN)
    both = {"kernel": kernel, "other": nb.kernels.DotProductKernel(laplace)}
    nb.save(tmp_path / "v", both)
    functions = {"network": network, "changed": changed, "laplace": laplace}
    loaded = nb.load(tmp_path / "v", f=functions)
    np.testing.assert_array_equal(loaded["kernel"](X), kernel(X))
    with pytest.raises(InputError, match="Expected f= to be a dictionary of functions, f={'network': network, "):
        nb.load(tmp_path / "v", f=network)
    with pytest.raises(InputError, match="Expected f=, the function 'laplace', .* f={'network': network, "):
        nb.load(tmp_path / "v", f={"network": network, "changed": changed})
    one, other = (lambda params, x: x @ params, lambda params, x: 2 * x @ params)
    kernels = [nb.empirical_ntk(f, jnp.ones((2, 1))) for f in (one, other, one)]
    nb.save(tmp_path / "w", kernels)
    loaded = nb.load(tmp_path / "w", f={"<lambda>": one, "<lambda> (2)": other})
    for there, here in zip(loaded, kernels, strict=True):
        np.testing.assert_array_equal(there(X), here(X))


def test_models_of_other_libraries_are_given_again(tmp_path):
    model = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0))
    f, params = nb.adapters.equinox(model)
    kernel = nb.empirical_ntk(f, params)
    nb.save(tmp_path / "k", kernel)
    wanted = kernel(X)
    fresh = eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(1))  # the parameters are those of the file
    for given in (f, nb.adapters.equinox(model), nb.adapters.equinox(fresh), nb.adapters.equinox(fresh)[0]):
        np.testing.assert_array_equal(nb.load(tmp_path / "k", f=given)(X), wanted)
    with pytest.raises(InputError, match=r"the function 'MLP' of .* f=nb.adapters.equinox\(model\)\)\."):
        nb.load(tmp_path / "k")
    other = nb.adapters.equinox(eqx.nn.MLP(2, 3, 4, 2, key=jax.random.key(0)))
    with pytest.raises(InputError, match=r"Expected f= with parameters like those saved, \.layers\[0\]"):
        nb.load(tmp_path / "k", f=other)


def test_parameters_of_another_structure_take_the_pair(tmp_path):
    params, static = eqx.partition(eqx.nn.MLP(2, 3, 4, 1, key=jax.random.key(0)), eqx.is_array)

    def call(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    spectrum = nb.spectrum(nb.empirical_ntk(call, params), X)
    nb.save(tmp_path / "s", spectrum)
    with pytest.raises(InputError, match=r"Expected f=, the function 'call' of params .* f=\(call, params\)\)\.$"):
        nb.load(tmp_path / "s").extend(X)
    with pytest.raises(InputError, match=r"Expected f= to be the pair \(f, params\) .* got the function alone"):
        nb.load(tmp_path / "s", f=call).extend(X)
    np.testing.assert_array_equal(nb.load(tmp_path / "s", f=(call, params)).extend(X), spectrum.extend(X))


@pytest.mark.parametrize("library", ["flax_nnx", "flax_linen", "haiku"])
def test_models_of_every_library_are_given_again(tmp_path, library):
    if library == "haiku":
        hk = pytest.importorskip("haiku")
        model = hk.without_apply_rng(hk.transform(lambda x: hk.Linear(3)(x)))
        made = nb.adapters.haiku(model, model.init(jax.random.key(0), X))
    elif library == "flax_nnx":
        nnx = pytest.importorskip("flax.nnx")
        made = nb.adapters.flax_nnx(nnx.Linear(2, 3, rngs=nnx.Rngs(0)))
    else:
        linen = pytest.importorskip("flax.linen")
        model = linen.Dense(3)
        made = nb.adapters.flax_linen(model, model.init(jax.random.key(0), X))
    kernel = nb.empirical_ntk(*made)
    nb.save(tmp_path / "k", kernel)
    for f in (made, made[0]):
        loaded = nb.load(tmp_path / "k", f=f)
        np.testing.assert_array_equal(loaded(X), kernel(X))
        assert jax.tree.structure(loaded) == jax.tree.structure(kernel)
    with pytest.raises(InputError, match=rf"f=nb\.adapters\.{library}\(.*\)\)\.$"):
        nb.load(tmp_path / "k")


def test_programs_are_shared_after_loading_and_end_with_their_function(tmp_path):
    kernel = FINITE()
    nb.save(tmp_path / "k", kernel)
    assert nb.load(tmp_path / "k").gradients.f == kernel.gradients.f
    assert pickle.loads(pickle.dumps(kernel)).gradients.f == kernel.gradients.f

    def scoped(params, x):
        return x @ params

    nb.save(tmp_path / "u", nb.empirical_ntk(scoped, jnp.ones((2, 1))))
    loaded = nb.load(tmp_path / "u", f=scoped)
    loaded(X)
    assert loaded.gradients.f == nb.empirical_ntk(scoped, jnp.ones((2, 1))).gradients.f
    gone = weakref.ref(scoped)
    del loaded, scoped
    gc.collect()
    assert gone() is None


def test_functions_that_a_description_names_are_ours_alone(tmp_path):
    names = [cls.saved_as for cls in Wrapper.__subclasses__()]
    assert len(set(names)) == len(names)
    assert all(wrapper_of(cls.saved_as) is cls for cls in Wrapper.__subclasses__())
    for name in ("os.system", "save", "kernels.empirical_ntk", None, "layers"):
        assert wrapper_of(name) is None


@pytest.mark.parametrize("name", LAYERS)
def test_layers_are_pickled_and_copied(name):
    layer = LAYERS[name][0]
    for same in (pickle.loads(pickle.dumps(layer)), copy.copy(layer), copy.deepcopy(layer)):
        assert jax.tree.structure(same) == jax.tree.structure(layer)
        assert jax.tree.leaves(same) == jax.tree.leaves(layer)
        assert Function.of(same.apply) == Function.of(layer.apply) or name.startswith("positional encoding, ")


@pytest.mark.parametrize("name", DOMAINS)
def test_domains_are_saved_pickled_and_copied(tmp_path, name):
    domain = DOMAINS[name].domain
    nb.save(tmp_path / "domain", domain)
    for same in (nb.load(tmp_path / "domain"), pickle.loads(pickle.dumps(domain)), copy.deepcopy(domain)):
        assert same == domain


@pytest.mark.parametrize("name", nb.losses.NAMED)
def test_losses_are_saved_pickled_and_copied_as_themselves(tmp_path, name):
    loss = nb.losses.NAMED[name]
    nb.save(tmp_path / "loss", {"loss": loss})
    for same in (
        nb.load(tmp_path / "loss")["loss"],
        pickle.loads(pickle.dumps(loss)),
        copy.copy(loss),
        copy.deepcopy(loss),
    ):
        assert same is loss


def test_losses_of_ones_own_are_refused_and_those_with_arrays_saved(tmp_path):
    with pytest.raises(InputTypeError, match="got Loss at value"):
        nb.save(tmp_path / "loss", nb.losses.Loss("own", lambda u, y: jnp.sum(u - y), "values"))
    weighted = nb.losses.weighted_mse(jnp.array([0.25, 0.25, 0.5]))
    nb.save(tmp_path / "loss", weighted)
    u, y = jnp.ones((3, 2)), jnp.zeros((3, 2))
    assert nb.load(tmp_path / "loss")(u, y) == weighted(u, y)


def test_arrays_that_are_one_are_stored_once():
    writer = Writer()
    x = jnp.ones(3)
    writer.value({"a": x, "b": [x, jnp.ones(3)]}, "value")
    assert len(writer.arrays) == 2
