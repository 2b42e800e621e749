"""Callbacks get the rows of the history, once each, and what they raise is theirs."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ntkbias.errors import InputTypeError
from ntkbias.tracking import measures, track, track_many, track_snapshots
from ntkbias.training import train

OPTIONS = {"optimizer": optax.sgd(0.1), "num_steps": 6, "at": [0, 2, 4, 6]}
TAKEN = measures.chosen("loss", "eigenvalues") | {"steps so far": lambda at: at.step}


class Log(list):
    """A callback that keeps what it gets, and raises its error at one step."""

    def __init__(self, error=None, at=None):
        self.error, self.at = error, at

    def __call__(self, step, measures):
        if step == self.at:
            raise self.error
        self.append((step, measures))


def several(f, params, data, **options):
    return track_many(f, jax.tree.map(lambda leaf: jnp.stack([leaf, 0.9 * leaf]), params), data, **options)


def own_loop(f, params, data, *, optimizer, num_steps, at, **options):
    return track_snapshots(f, train(f, params, data, optimizer=optimizer, num_steps=num_steps, at=at), data, **options)


each_way = pytest.mark.parametrize("run", [track, several, own_loop], ids=["one run", "several runs", "own loop"])


@each_way
def test_what_is_streamed_is_the_history(run, network, data):
    log = Log()
    history = run(*network, data, **OPTIONS, measures=TAKEN, callbacks=log)
    assert [step for step, _ in log] == history.steps.tolist() == [0, 2, 4, 6]
    for place, (_, found) in enumerate(log):
        assert list(found) == list(history)
        for name in history:
            values = history[name] if history.num_runs is None else history[name].swapaxes(0, 1)
            np.testing.assert_array_equal(found[name], values[place], name)
    if history.num_runs is None:
        assert type(found["loss"]) is float
        assert type(found["steps so far"]) is int


@each_way
def test_a_resumed_run_does_not_repeat(run, network, data, tmp_path):
    """A callback that fails ends the run after the snapshot is saved. The same call goes on after it."""
    first, second, third = Log(ZeroDivisionError("mine"), 4), Log(), Log()
    call = {**OPTIONS, "measures": TAKEN, "checkpoint": tmp_path / "run"}
    with pytest.raises(ZeroDivisionError, match="mine") as caught:
        run(*network, data, **call, callbacks=first)
    (note,) = caught.value.__notes__
    assert note.startswith("Raised by the callback Log at step 4, which ends training. With checkpoint=")
    whole = run(*network, data, **OPTIONS, measures=TAKEN)
    history = run(*network, data, **call, callbacks=[second])
    assert [step for step, _ in first] == [0, 2]
    assert [step for step, _ in second] == [6]
    for name in whole:
        np.testing.assert_array_equal(history[name], whole[name])
    run(*network, data, **call, callbacks=third)
    assert third == []


def test_callbacks_cannot_change_the_history_or_one_another(network, data):
    def spoil(step, measures):
        measures["eigenvalues"][:] = 0
        measures["loss"] = None

    log = Log()
    history = track(*network, data, **OPTIONS, measures=TAKEN, callbacks=[spoil, log])
    assert (history["eigenvalues"] > 0).any(1).all()
    np.testing.assert_array_equal([found["loss"] for _, found in log], history["loss"])
    np.testing.assert_array_equal([found["eigenvalues"] for _, found in log], history["eigenvalues"])


def test_a_run_that_diverges_reports_as_long_as_it_lasts(network, data):
    log = Log()
    with pytest.warns(UserWarning, match="ended early"):
        history = track(*network, data, optimizer=optax.sgd(1e4), num_steps=60, measures=TAKEN, callbacks=log)
    assert [step for step, _ in log] == history.steps.tolist()


@each_way
@pytest.mark.parametrize(
    ("callbacks", "message"),
    [
        (3, "functions of .step, measures., or a list of them; got int"),
        ([print, "loss"], "each callback to be a function; got str"),
        (lambda step: None, "each callback to take .step, measures.; .*lambda.* does not: too many positional"),
        ({"a": print}, "functions of .step, measures., or a list of them; got dict"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_callbacks_are_refused_before_training(run, network, data, callbacks, message):
    log = Log()
    with pytest.raises(InputTypeError, match=f"Expected (callbacks to be )?{message}"):
        run(*network, data, **OPTIONS, measures=TAKEN | {"seen": lambda at: log(at.step, {})}, callbacks=callbacks)
    assert log == []
