from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.train.replication import (
    AXIS,
    check_batch,
    first_replica,
    local_value,
    replicate,
    send,
    shard,
)


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
    # The next step may reuse the device's memory while a checkpoint is being written.
    assert not np.shares_memory(found["a"], local_value(copies["a"]))


def test_a_step_compiles_once_for_what_is_sent(caplog):
    """State and batches are laid out as the step's own results."""

    @partial(jax.pmap, axis_name=AXIS, donate_argnums=0)
    def step(state, batch):
        return state + jax.lax.pmean(batch.mean(), AXIS), batch.sum()

    devices = jax.local_device_count()
    state, batch = replicate(jnp.zeros((2, 3))), {"a": np.ones((devices * 4), np.float32)}
    with jax.log_compiles():
        for arrays in map(send, [batch] * 3):
            state, total = step(state, arrays["a"])
    compilations = [r for r in caplog.records if r.getMessage().startswith("Finished XLA comp")]
    assert len(compilations) == 1, "a later step compiles once more"
    assert local_value(total) == 4
    assert state.shape == (devices, 2, 3)
