"""A small training loop for tests: any optax optimizer, a fresh minibatch at each step, and parameters on the way."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax


def train(f, params, x, y, loss, optimizer, num_steps, *, key, batch_size=None, keep=1):
    """The parameters after 0, keep, 2 keep, ... num_steps steps, as one pytree with a leading axis."""
    return _run(f, loss, optimizer, num_steps // keep, keep, batch_size, params, jnp.asarray(x), jnp.asarray(y), key)


@eqx.filter_jit
def _run(f, loss, optimizer, times, keep, batch_size, params, x, y, key):
    def one(carry, step):
        params, state = carry
        rows = slice(None)
        if batch_size is not None:
            rows = jax.random.randint(jax.random.fold_in(key, step), (batch_size,), 0, len(x))
        gradient = jax.grad(lambda p: loss(f(p, x[rows]), y[rows]))(params)
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), None

    def several(carry, start):
        carry, _ = jax.lax.scan(one, carry, start + jnp.arange(keep))
        return carry, carry[0]

    _, kept = jax.lax.scan(several, (params, optimizer.init(params)), keep * jnp.arange(times))
    return jax.tree.map(lambda first, rest: jnp.concatenate([first[None], rest]), params, kept)


def at(path, index):
    """The parameters at one of the stored times."""
    return jax.tree.map(lambda leaf: leaf[index], path)
