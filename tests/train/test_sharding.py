"""Sharing a batch among devices and copying the state to them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.train.sharding import AXIS, check_batch, first_replica, replicate, shard


def test_batch_must_fit_the_devices():
    check_batch(8, 2, 4)
    with pytest.raises(InputError, match="such as 8"):
        check_batch(4, 1, 8)


def test_shard_keeps_the_order_of_samples():
    batch = {"image": np.arange(24).reshape(4, 2, 3)}
    shared = shard(batch, 2)["image"]
    assert shared.shape == (2, 2, 2, 3)
    np.testing.assert_array_equal(shared.reshape(4, 2, 3), batch["image"])


def test_first_replica_undoes_replicate():
    tree = {"a": jnp.arange(6.0).reshape(2, 3), "step": jnp.int32(5)}
    copies = replicate(tree)
    assert copies["a"].shape == (jax.local_device_count(), 2, 3)
    back = first_replica(copies)
    assert back["step"] == 5
    np.testing.assert_array_equal(back["a"], tree["a"])


def test_replicated_state_compiles_one_step(caplog):
    """A replicated state is laid out as a step leaves it, so the second step compiles nothing."""

    def step(state):
        return jax.tree.map(lambda x: x + 1, state)

    mapped = jax.pmap(step, axis_name=AXIS, donate_argnums=0)
    state = replicate({"params": jnp.ones((3, 3, 3, 1, 4)), "step": jnp.int32(0)})
    with jax.log_compiles():
        for _ in range(2):
            state = mapped(state)
    compilations = [r for r in caplog.records if r.getMessage().startswith("Finished XLA comp")]
    assert len(compilations) == 1, "the second step compiles once more"
    assert state["params"].shape[0] == jax.local_device_count()
