"""Matrices that are used in several ways: their factors against the gradients that these stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import assert_near, function_case

import ntkbias as nb
from ntkbias.kernels.factors import FullJacobian, Lookup, Product, Tied
from ntkbias.kernels.reading import factors

KINDS = {
    "tied": (Product, Product),
    "tied table": (Lookup, Product),
    "likelihoods by a tied table": (Lookup, Product),
    "table used in three ways": (Lookup, Product, Product),
    "one-hot tokens and a tied table": (Lookup, Product, Product),
}
OUTPUTS = ("all", "sum", "each")


@pytest.mark.parametrize("name", KINDS)
def test_the_factors_are_those_of_their_gradients(name, x64):
    """All that a factor can do, for all kinds of pairs of uses, without gradients and with them."""
    f, params, x, others = function_case(name)
    path = next(path for path in factors(f, params, x) if path in ("['e']", "['w']"))

    @jax.jit  # one program, since compilation dominates the time
    def both(params, x, others):
        left, right = (factors(f, params, each)[path] for each in (x, others))
        jacobian = jax.jacfwd(f)(params, x)
        for key in path.strip("[]'").split("']['"):
            jacobian = jacobian[key]
        n, o = left.num_examples, left.num_outputs
        gradients = jacobian.reshape(n, o, -1)
        rng = np.random.default_rng(0)
        whole = FullJacobian(1.0, gradients), right.formed()
        parts = [(slice(1, 4), slice(2, 5)), (slice(0, 2), slice(0, 5))]
        found = [left.formed().scale * left.formed().jacobian, left.squares()]
        expected = [gradients, whole[0].squares()]
        for outputs in OUTPUTS:
            for other, theirs in ((None, None), (right, whole[1])):
                found += left.blocks(other, parts, outputs)
                expected += whole[0].blocks(theirs, parts, outputs)
        v = {rows: jnp.asarray(rng.normal(size=(n, rows, 3))) for rows in (1, o)}
        for rows in (1, o):
            u = left.pull(v[rows])
            back = whole[0].push(whole[0].pull(v[rows]), rows)
            found.append(left.push(u, rows))
            expected.append(back)
            assert u.shape[0] == left.num_coordinates(rows)
        # Per output, coordinates are ordered as the parameter is: rows, then columns.
        found.append(left.pull(v[o]))
        expected.append(whole[0].pull(v[o]))
        return found, expected

    left = jax.eval_shape(lambda params, x: factors(f, params, x)[path], params, x)
    assert isinstance(left, Tied)
    assert tuple(type(part) for part in left.parts) == KINDS[name]
    for got, wanted in zip(*both(params, x, others), strict=True):
        assert_near(got, wanted, 1e-11)


def test_a_large_table_is_never_formed():
    """No array of the program has as many numbers as one gradient, except the table itself."""
    pairs = jnp.eye(5_000, 2) - jnp.eye(5_000, 2, -2)  # logits 0 and 1 less logits 2 and 3
    f = lambda p, t: jnp.tanh(p["e"][t].sum(1)) @ p["e"].T @ pairs  # noqa: E731
    params, x = {"e": jnp.ones((5_000, 8)) / 8}, jnp.arange(12).reshape(4, 3)
    kernel = nb.empirical_ntk(f, params, outputs="each")
    text = str(jax.make_jaxpr(lambda x: kernel(x))(x))
    assert "5000,8]" in text
    assert "4,5000,8]" not in text
    assert "2,5000,8]" not in text


def test_ids_outside_of_a_table_are_refused_by_other_parameters_too():
    """The gradient by the table is left out, but another row was read: no number would be right."""
    f = lambda p, ids: jnp.tanh(p["e"][ids].sum(1) @ p["w"]) @ p["e"].T  # noqa: E731
    params = {"e": jnp.ones((5, 3)), "w": jnp.ones((3, 3))}
    for wrt in (None, "['w']", "['e']"):
        kernel, ids = nb.empirical_ntk(f, params, wrt=wrt), jnp.array([[0, 1], [2, 5], [4, 3]])
        with pytest.raises(nb.InputError, match="and that ids lie within their tables"):
            kernel(ids)
        with pytest.raises(nb.InputError, match="ids in x that lie within the tables of f; got some outside"):
            kernel.operator(ids)
        assert np.isfinite(kernel(ids[::2])).all()
        inside = jax.jit(lambda x, kernel=kernel: kernel(x))(ids)  # its values are not known under jit
        assert np.isnan(inside[1]).all()
        assert np.isfinite(np.asarray(inside)[::2, ::2]).all()


@pytest.mark.parametrize("length", [2, 12])  # factors are kept, and gradients are formed
def test_ids_outside_of_a_small_table_are_refused(length):
    """JAX takes another row for them forward, and none in the derivative: the kernel would be that of neither."""
    table, ids = jnp.arange(12.0).reshape(4, 3) / 12, jnp.arange(2 * length).reshape(2, length) % 4
    for f in (lambda p, x: p[x].sum((1, 2))[:, None], lambda p, x: (jnp.tanh(p[x]) @ p.T)[:, 0, :1]):
        assert np.isfinite(nb.empirical_ntk(f, table)(ids)).all()
        with pytest.raises(nb.InputError, match="ids lie within their tables"):
            nb.empirical_ntk(f, table)(ids.at[1, 0].set(7))
