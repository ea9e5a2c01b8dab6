from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.train.replication import AXIS, check_batch, first_replica, replicate, shard


def test_batch_must_fit_the_devices():
    check_batch(8, 2, 4)
    with pytest.raises(InputError, match="such as 8"):
        check_batch(4, 1, 8)


def test_devices_share_a_batch_in_order():
    batch = {"image": np.arange(24).reshape(6, 4), "index": np.arange(6)}
    shares = shard(batch, 2)
    assert shares["image"].shape == (2, 3, 4)
    assert shares["index"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_a_replicated_tree_comes_back():
    tree = {"a": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.int32(7)}
    copies = replicate(tree)
    assert copies["a"].shape == (jax.local_device_count(), 2, 3)
    found = first_replica(copies)
    assert found["a"].tolist() == tree["a"].tolist()
    assert found["b"] == 7


def test_replicated_state_needs_one_compilation(caplog):
    """So the second step does not compile again."""

    @partial(jax.pmap, axis_name=AXIS, donate_argnums=0)
    def step(state, batch):
        return state + jax.lax.pmean(batch.mean(), AXIS), batch.sum()

    devices = jax.local_device_count()
    state, batch = replicate(jnp.zeros((2, 3))), np.ones((devices, 4), np.float32)
    with jax.log_compiles():
        for _ in range(2):
            state, _ = step(state, batch)
    compilations = [r for r in caplog.records if r.getMessage().startswith("Finished XLA comp")]
    assert len(compilations) == 1, "the second step compiles once more"
    assert state.shape == (devices, 2, 3)
