"""The measures of preconditioned kernels along a run, against kernels made from its parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias.errors import InputError, InputTypeError
from ntkbias.kernels import preconditioned_ntk, sign_preconditioner
from ntkbias.tracking import measures

PARAMS = {"w": jnp.sin(jnp.arange(8.0)).reshape(2, 4), "v": jnp.cos(jnp.arange(4.0)).reshape(4, 1)}
X = nb.domains.Circle().quadrature(6)[0]
DATA = X, X[:, :1]
RUN = {"optimizer": optax.sgd(0.5), "num_steps": 3, "at": [0, 3]}


def f(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def by_signs(at):
    return sign_preconditioner(at.gradient)


@pytest.mark.parametrize("wrt", [pytest.param(None, marks=pytest.mark.wide), "['w']"])
def test_measures_are_those_of_the_kernels_at_the_parameters(wrt, x64):
    params, x = jax.tree.map(lambda leaf: leaf.astype(float), PARAMS), X.astype(float)
    taken = measures.preconditioned(by_signs)
    history = nb.track(f, params, (x, x[:, :1]), wrt=wrt, measures=taken, **RUN)
    grams, plain = [], []
    for own in (params, history.params):
        gradient = jax.grad(lambda p: jnp.mean((f(p, x) - x[:, :1]) ** 2) / 2)(own)
        grams.append(np.asarray(preconditioned_ntk(f, own, sign_preconditioner(gradient), wrt=wrt)(x)))
        plain.append(np.asarray(nb.empirical_ntk(f, own, wrt=wrt)(x)))
    for place, (gram, ntk) in enumerate(zip(grams, plain, strict=True)):
        wanted = np.linalg.eigvalsh(gram)[::-1] / 6
        np.testing.assert_allclose(history["preconditioned_eigenvalues"][place], wanted, atol=1e-9 * wanted[0])
        cosine = np.vdot(gram, ntk) / np.linalg.norm(gram) / np.linalg.norm(ntk)
        np.testing.assert_allclose(history["preconditioned_alignment"][place], cosine, rtol=1e-9)
    drift = np.linalg.norm(grams[1] - grams[0]) / np.linalg.norm(grams[0])
    np.testing.assert_allclose(history["preconditioned_drift"], [0, drift], rtol=1e-9)


@pytest.mark.wide
def test_a_run_resumes(tmp_path):
    """In the same process, with the same measures: the second call would be refused if these had changed."""
    taken = measures.preconditioned(by_signs)
    first, again = (nb.track(f, PARAMS, DATA, measures=taken, checkpoint=tmp_path / "run", **RUN) for _ in range(2))
    np.testing.assert_array_equal(first["preconditioned_drift"], again["preconditioned_drift"])


@pytest.mark.usefixtures("unchecked")
def test_bad_input_is_named():
    with pytest.raises(
        InputTypeError, match="Expected a function of a snapshot that returns a preconditioner; got dict"
    ):
        measures.preconditioned(PARAMS)
    with pytest.raises(InputError, match="Expected a preconditioner like the trained parameters, PyTreeDef"):
        nb.track(f, PARAMS, DATA, wrt="['w']", measures=measures.preconditioned(lambda at: PARAMS), **RUN)
