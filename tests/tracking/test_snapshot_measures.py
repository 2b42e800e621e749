"""Each measure against its written-out definition, at the parameters that the same training loop passes."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ntkbias as nb
from ntkbias import complexity
from ntkbias.learning import learnability
from ntkbias.tracking import Probe, Setting, Snapshot, measures
from ntkbias.training import train

CIRCLE = nb.domains.Circle()
AT = (0, 1, 5, 20, 40)


@pytest.fixture(scope="module")
def path(network, data):
    """Parameters, kernels and outputs at the snapshots of the history."""
    f, params = network
    steps = dict(train(f, params, data, optimizer=optax.sgd(0.1), num_steps=40, at=AT))
    kernels = [np.asarray(nb.empirical_ntk(f, p)(data[0]), np.float64) for p in steps.values()]
    outputs = [np.asarray(f(p, data[0]), np.float64)[:, 0] for p in steps.values()]
    return list(steps.values()), kernels, outputs


def eigen(K):
    values, vectors = np.linalg.eigh(K / len(K))
    return values[::-1], vectors[:, ::-1] * len(K) ** 0.5


def close(found, wanted, scale=None):
    """Require equality within some hundred float32 roundings of the largest value."""
    scale = np.max(np.abs(wanted)) if scale is None else scale
    np.testing.assert_allclose(found, wanted, atol=3e-5 * scale)


@pytest.mark.slow
def test_size_and_rank(history, path):
    _, kernels, _ = path
    for row, K in enumerate(kernels):
        values, _ = eigen(K)
        close(history["eigenvalues"][row], values[:6])
        close(history["trace"][row], values.sum())
        shares = values[values > 0] / values.sum()
        close(history["effective_rank"][row], np.exp(-np.sum(shares * np.log(shares))))
        close(history["participation_ratio"][row], values.sum() ** 2 / np.sum(values**2))
        close(history["trace_ratios"][row], np.cumsum(values)[:6] / values.sum())
        close(history["critical_learning_rate"][row], 2 / values[0])


def test_alignment_and_its_uncentered_form(history, path, data):
    _, kernels, _ = path
    close(history["alignment"][-1], float(nb.alignment(kernels[-1], data[1])))
    close(history["uncentered_alignment"][-1], float(nb.alignment(kernels[-1], data[1], centered=False)))
    y = np.asarray(data[1], np.float64)
    C = np.eye(16) - 1 / 16
    for row, K in enumerate(kernels):
        close(history["uncentered_alignment"][row], y @ K @ y / (np.linalg.norm(K) * y @ y))
        Kc, yc = C @ K @ C, C @ y
        close(history["alignment"][row], yc @ Kc @ yc / (np.linalg.norm(Kc) * yc @ yc))
        values, _ = eigen(Kc)
        shares = values[values > 0] / values.sum()
        close(history["centered_effective_rank"][row], np.exp(-np.sum(shares * np.log(shares))))


def test_drift_of_the_kernel(history, path):
    _, kernels, _ = path
    first, _ = kernels[0], None
    _, start = eigen(first)
    for row, K in enumerate(kernels):
        _, functions = eigen(K)
        close(history["kernel_drift"][row], np.linalg.norm(K - first) / np.linalg.norm(first), 1)
        S = 1 - np.vdot(K, first) / (np.linalg.norm(K) * np.linalg.norm(first))
        np.testing.assert_allclose(history["kernel_distance"][row], S, atol=1e-9, rtol=1e-3)
        close(history["initial_alignment"][row], np.sum(start * (K @ start), 0)[:6] / 16**2)
        cosines = np.linalg.svd(start[:, :6].T @ functions[:, :6] / 16)[1]
        np.testing.assert_allclose(np.cos(history["principal_angles"][row]), cosines, atol=1e-4)
    S = 1 - np.vdot(kernels[2], kernels[1]) / (np.linalg.norm(kernels[2]) * np.linalg.norm(kernels[1]))
    np.testing.assert_allclose(history["kernel_velocity"][2], S / 4, rtol=1e-3)
    assert np.isnan(history["kernel_velocity"][0])


def test_energies_in_both_bases(history, path, data):
    _, kernels, outputs = path
    y = np.asarray(data[1], np.float64)
    _, start = eigen(kernels[0])
    for row, (K, f) in enumerate(zip(kernels, outputs, strict=True)):
        _, functions = eigen(K)
        close(history["energy_of_residual"][row], ((f - y) @ functions / 16)[:6] ** 2, 1)
        close(history["energy_of_residual_at_start"][row], ((f - y) @ start / 16)[:6] ** 2, 1)
        close(history["energy_of_labels"][row], (y @ functions / 16)[:6] ** 2 / np.mean(y**2), 1)


def test_loss_accuracy_and_watched_targets(history, path, data):
    _, kernels, outputs = path
    x, y = (np.asarray(part, np.float64) for part in data)
    watched = [x[:, 0], np.cos(3 * np.arctan2(x[:, 1], x[:, 0]))]
    for row, (K, f) in enumerate(zip(kernels, outputs, strict=True)):
        close(history["loss"][row], np.mean((f - y) ** 2) / 2, 1)
        assert history["accuracy"][row] == np.mean(np.sign(f) == y)
        close(history["margin"][row], np.min(y * f), 1)
        close(history["learned"][row], [f @ phi / (phi @ phi) for phi in watched], 1)
        close(history["target_alignment"][row], [phi @ K @ phi / (16 * phi @ phi) for phi in watched])
    found = learnability(jnp.asarray(kernels[0]), {"cos": jnp.asarray(watched[0])}, centered=False)
    np.testing.assert_allclose(history["learning_time"][0][0], found.learning_time[0, 0], rtol=1e-3)
    np.testing.assert_array_equal(history["train_loss"], history["loss"])
    np.testing.assert_array_equal(history["train_accuracy"], history["accuracy"])


def test_frequencies(history, path, data):
    _, _, outputs = path
    residual = np.asarray(outputs[-1] - np.asarray(data[1]))
    power = np.abs(np.fft.fft(residual) / 16) ** 2
    levels = np.array([power[0], *(power[k] + power[-k] for k in range(1, 8))])
    close(history["residual_spectrum"][-1], levels, 1)
    mean = np.sqrt(np.sum(levels * np.arange(8) ** 2) / levels.sum())
    np.testing.assert_allclose(history["residual_frequency"][-1], mean, rtol=1e-3)
    assert history["frequencies"][0][0] == 0
    np.testing.assert_array_equal(history.level_frequencies, np.arange(8))


def test_a_point_cloud_has_the_frequency_of_the_residual(network, data):
    f, params = network
    x = CIRCLE.quadrature(64)[0]
    y = jnp.cos(4 * CIRCLE.angle(x)) + f(params, x)[:, 0]
    setting = Setting.of(f, params, (x, y), probe=Probe(domain=nb.domains.PointCloud()))
    np.testing.assert_allclose(measures.ALL["residual_frequency"](Snapshot(setting, 0, params)), 4, rtol=0.02)


def test_layers_sum_to_the_kernel(history):
    assert dict(history.labels)["layer"] == ("[1]['b']", "[1]['w']", "[3]['b']", "[3]['w']")
    close(history["trace_by_layer"].sum(1), history["trace"])
    assert np.all(np.abs(history["uncentered_alignment_by_layer"]) <= 1)


def test_measures_of_the_network(history, path, data, network):
    params, _, _ = path
    f, (x, y) = network[0], data
    close(history["geometric_complexity"][-1], float(complexity.geometric_complexity(f, params[-1], x)), 1)
    close(history["gradient_norm"][-1], float(complexity.gradient_norm(f, params[-1], x, y)), 1)
    close(history["sharpness"][-1], float(complexity.sharpness(f, params[-1], x, y)), 1)
    np.testing.assert_allclose(history["sharpness_limit"], 2 / history.learning_rates, rtol=1e-6)
    for name, start in (("feature_correlation", None), ("feature_change_correlation", params[0])):
        found = complexity.feature_correlations(f, params[-1], x, start=start)
        assert dict(history.labels)["matrix"] == tuple(found)
        close(history[name][-1], [float(value) for value in found.values()], 1)
    squares = sum(np.sum(np.asarray(leaf) ** 2) for leaf in jax.tree.leaves(params[-1]))
    close(history["weight_norm"][-1], squares**0.5)
    close(np.sum(history["weight_norm_by_layer"][-1] ** 2), squares)


def test_trajectory_complexity_covers_all_steps(unchecked, network, data, history):
    f, params = network
    steps = [p for _, p in train(f, params, data, optimizer=optax.sgd(0.1), num_steps=40, at=range(41))]
    wanted = float(complexity.path_complexity(f, steps, data[0])[-1])
    np.testing.assert_allclose(history["trajectory_complexity"][-1], wanted, rtol=0.01)  # from the trapezoidal rule


def test_modes_are_followed_through_a_crossing(data):
    """If two modes of a kernel change places, their numbers stay with the modes."""

    def f(params, x):  # features cos(angle) and cos(2 angle), whose sizes change
        angle = CIRCLE.angle(x)
        return jnp.stack([jnp.cos(angle), jnp.cos(2 * angle)], 1) @ (params**2)[:, None]

    params = jnp.array([2.0, 1.0])
    setting = Setting.of(f, params, data, probe=Probe(num_modes=2))
    first = Snapshot(setting, 0, params)
    first.values = {name: measures.ALL[name](first) for name in ("matched_modes", "eigenfunctions")}
    second = Snapshot(setting, 1, jnp.array([1.0, 2.0]), previous=first, initial=first, before=first.values)
    assert measures.ALL["matched_modes"](second).tolist() == [1, 0]
    np.testing.assert_allclose(measures.ALL["matched_overlap"](second), 1, atol=1e-5)
    second.__dict__["modes"] = -second.modes  # the signs of modes are arbitrary
    functions = measures.ALL["eigenfunctions"](second)
    np.testing.assert_allclose(functions, first.values["eigenfunctions"][:, [1, 0]], atol=1e-5)


@pytest.mark.parametrize("outputs", ["mean", "all"])
def test_several_outputs(outputs):
    net, x = nb.nets.mlp(width=6, depth=1, num_outputs=3), jax.random.normal(jax.random.key(0), (8, 2))
    params, labels = net.init(jax.random.key(1), (2,)), jnp.arange(8) % 3
    setting = Setting.of(net.apply, params, (x, labels), "cross_entropy", Probe(outputs=outputs, num_modes=5))
    at = Snapshot(setting, 0, params)
    K = np.asarray(nb.empirical_ntk(net.apply, params, outputs="all")(x), np.float64)
    Y = np.eye(3)[np.asarray(labels)]
    Yc = Y - Y.mean(0)
    if outputs == "all":
        C = np.kron(np.eye(8) - 1 / 8, np.eye(3))
        Kc, y = C @ K.reshape(24, 24) @ C, Yc.ravel()
        wanted = y @ Kc @ y / (np.linalg.norm(Kc) * y @ y)
    else:
        C = np.eye(8) - 1 / 8
        Kc = C @ np.einsum("iaja->ij", K) @ C / 3
        wanted = np.vdot(Kc, Yc @ Yc.T) / (np.linalg.norm(Kc) * np.linalg.norm(Yc @ Yc.T))
        classes = [c @ Kc @ c / (np.linalg.norm(Kc) * c @ c) for c in Yc.T]
        close(measures.ALL["alignment_by_class"](at), classes, 1)
    close(measures.ALL["alignment"](at), wanted, 1)
    outs = np.asarray(net.apply(params, x), np.float64)
    p = np.exp(outs) / np.exp(outs).sum(1, keepdims=True)
    close(at.residual, p - Y, 1)
    assert measures.ALL["accuracy"](at) == np.mean(outs.argmax(1) == np.asarray(labels))
    margins = [u[y] - max(np.delete(u, y)) for u, y in zip(outs, np.asarray(labels), strict=True)]
    close(measures.ALL["margin"](at), min(margins), 1)
    top = np.linalg.eigvalsh(K.reshape(24, 24) / 8)[-1]
    np.testing.assert_allclose(measures.ALL["critical_learning_rate"](at), 2 / top, rtol=2e-3)
    modes = at.modes.reshape(8, 3, 5) if outputs == "all" else at.modes
    rule = "nok,no->k" if outputs == "all" else "nk,no->ko"
    energy = (np.einsum(rule, modes, p - Y) / 8) ** 2
    close(measures.ALL["energy_of_residual"](at), energy.reshape(5, -1).sum(1), 1)
    r = np.einsum("iajb,jb->ia", K, p - Y) / 8
    close(at.velocity, -r)


@pytest.mark.parametrize("limit", ["rows", "memory_budget"])
def test_a_kernel_too_large_for_a_matrix_uses_products(network, data, monkeypatch, limit):
    from ntkbias.tracking import snapshot

    f, params = network
    about = {"num_modes": 4, "watched": {"cos": data[0][:, 0]}}
    whole = Snapshot(Setting.of(f, params, data, probe=Probe(**about)), 0, params)
    if limit == "rows":
        monkeypatch.setattr(snapshot, "MATRIX_BYTES", 100)
        monkeypatch.setattr(snapshot, "DENSE_ROWS", 4)
    else:
        about["memory_budget"] = 1_000
    large = Snapshot(Setting.of(f, params, data, probe=Probe(**about)), 0, params)
    assert large.matrix is None
    for name in ("eigenvalues", "trace", "trace_ratios", "initial_alignment", "target_alignment", "energy_of_labels"):
        np.testing.assert_allclose(measures.ALL[name](large), measures.ALL[name](whole), rtol=1e-3, atol=1e-5)
    without = [name for name in measures.DEFAULT if measures.DEFAULT[name](large) is None]
    assert {"uncentered_alignment", "alignment", "kernel_distance", "effective_rank"} <= set(without)
