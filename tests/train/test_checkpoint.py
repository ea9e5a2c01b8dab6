import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.errors import InputError
from kitsjax.settings import OptimizerSettings
from kitsjax.train.checkpoint import Checkpoints, Progress
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.step import TrainState

PARAMS = {"a": {"kernel": jnp.arange(6.0).reshape(2, 3)}, "b": jnp.ones(3)}
OPTIMIZER = build_optimizer(OptimizerSettings(), 10).init(PARAMS)
LIKE = TrainState(jnp.int32(0), PARAMS, OPTIMIZER)


def scaled(factor):
    return jax.tree.map(lambda x: x * jnp.float32(factor), PARAMS)


def state(step, params):
    return TrainState(jnp.int32(step), params, OPTIMIZER)


@pytest.fixture
def checkpoints(tmp_path):
    made = Checkpoints(tmp_path / "checkpoints")
    yield made
    made.close()


def save(checkpoints, step, dice, *, scored=True):
    progress = Progress(step, step, dice, [0.1])
    checkpoints.save(state(step, scaled(step)), progress, scored=scored)
    checkpoints.wait()


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def test_round_trip_is_exact(checkpoints):
    progress = Progress(7, 3, 1 / 3, [0.1, 1e-30], [12.0])
    checkpoints.save(state(7, scaled(1 / 3)), progress, scored=True)
    checkpoints.wait()
    restored, restored_progress = checkpoints.restore(LIKE, 7)
    assert same(restored.params, scaled(1 / 3))
    assert same(restored.opt_state, OPTIMIZER)
    assert jax.tree.structure(restored) == jax.tree.structure(LIKE)
    assert int(restored.step) == 7
    assert restored_progress == progress


def test_latest_and_best_survive_a_restart(checkpoints):
    for step, dice in ((1, 0.3), (2, 0.9), (3, 0.5)):
        save(checkpoints, step, dice)
    checkpoints.close()
    again = Checkpoints(checkpoints.folder)
    assert (again.best, again.latest) == (2, 3)
    save(again, 4, 0.4)
    assert (again.best, again.latest) == (2, 4)
    assert {p.name for p in again.folder.iterdir()} == {"2", "4"}
    assert same(again.restore_params(PARAMS, 2), scaled(2))
    again.close()


def test_checkpoint_within_an_epoch_is_not_best(checkpoints):
    save(checkpoints, 1, 0.1)
    save(checkpoints, 2, 0.1, scored=False)
    assert (checkpoints.best, checkpoints.latest) == (1, 2)


def test_another_network_is_refused_by_name(checkpoints):
    save(checkpoints, 1, 0.5)
    for like, word in (
        ({**PARAMS, "b": jnp.ones(4)}, "b has shape (3,), the settings ask for (4,)"),
        ({**PARAMS, "c": jnp.ones(1)}, "c is only in the settings"),
        ({"b": PARAMS["b"]}, "a.kernel is only in the checkpoint"),
    ):
        with pytest.raises(InputError) as error:
            checkpoints.restore_params(like, 1)
        assert "another network" in str(error.value)
        assert word in str(error.value)


def test_changed_bytes_are_detected(checkpoints):
    save(checkpoints, 1, 0.5)
    files = [p for p in (checkpoints.folder / "1" / "params").rglob("*") if p.is_file()]
    for path in files:
        content = bytearray(path.read_bytes())
        for at in range(len(content) // 2, min(len(content) // 2 + 16, len(content))):
            content[at] ^= 0xFF
        path.write_bytes(content)
    with pytest.raises(InputError, match=str(checkpoints.folder)):
        checkpoints.restore_params(PARAMS, 1)


def test_missing_files_are_one_line(checkpoints):
    save(checkpoints, 1, 0.5)
    for path in (checkpoints.folder / "1" / "params").rglob("*"):
        if path.is_file():
            path.unlink()
    with pytest.raises(InputError, match="damaged") as error:
        checkpoints.restore_params(PARAMS, 1)
    assert "\n" not in str(error.value)
