import errno
import json
import os
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kitsjax.errors import InputError, RetryError
from kitsjax.settings import OptimizerSettings
from kitsjax.train import checkpoint as checkpoint_module
from kitsjax.train.checkpoint import Checkpoints
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.optimizer import build_optimizer
from kitsjax.train.state import TrainState

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


def save(checkpoints, epoch, dice, *, scored=True):
    """Save at the end of an epoch of one step; its parameters are the epoch's multiple."""
    progress = Progress(epoch, epoch, dice, [])
    checkpoints.save(state(epoch, scaled(epoch)), progress, scored=scored)
    checkpoints.wait()


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(*map(jax.tree.leaves, (a, b)), strict=True))


def files_of(checkpoints, number, item):
    return [p for p in (checkpoints.folder / str(number) / item).rglob("*") if p.is_file()]


def flip(path):
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 2, min(len(content) // 2 + 16, len(content))):
        content[at] ^= 0xFF
    path.write_bytes(content)


def empty(path):
    path.write_bytes(b"")


def halve(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def damage(checkpoints, number, item="params"):
    for path in files_of(checkpoints, number, item):
        flip(path)


def test_round_trip_is_exact(checkpoints):
    progress = Progress(7, 3, 1 / 3, [0.1, 1e-30], [12.0])
    checkpoints.save(state(7, scaled(1 / 3)), progress, scored=True)
    checkpoints.wait()
    restored, restored_progress = checkpoints.restore_latest(LIKE)
    assert same(restored.params, scaled(1 / 3))
    assert same(restored.opt_state, OPTIMIZER)
    assert jax.tree.structure(restored) == jax.tree.structure(LIKE)
    assert int(restored.step) == 7
    assert restored_progress == progress


def test_hashing_does_not_hold_up_the_loop(checkpoints, monkeypatch):
    """A save returns before anything is hashed, and is complete only when all is."""
    save(checkpoints, 1, 0.5)
    may_hash, describe = threading.Event(), checkpoint_module.describe_leaves

    def wait_and_describe(leaves, *, hashed=False):
        if hashed:
            assert threading.current_thread() is not threading.main_thread()
            assert may_hash.wait(60)
        return describe(leaves, hashed=hashed)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "describe_leaves", wait_and_describe)
        progress = Progress(2, 2, 0.9, [0.1])
        checkpoints.save(state(2, scaled(2)), progress, scored=True)
        # The run goes on meanwhile.
        progress.losses.append(0.2)
        assert checkpoints.latest == 4
        assert not (checkpoints.folder / "4").exists()
        may_hash.set()
        checkpoints.wait()
    restored, progress = checkpoints.restore_latest(LIKE)
    assert same(restored.params, scaled(2))
    assert progress.losses == [0.1]


def test_a_failed_hash_leaves_the_last_checkpoint(checkpoints, monkeypatch):
    save(checkpoints, 1, 0.5)

    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "x")

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "describe_leaves", fail)
        checkpoints.save(state(2, scaled(2)), Progress(2, 2, 0.9), scored=True)
        with pytest.raises(InputError, match="disk is full"):
            checkpoints.wait()
    again = Checkpoints(checkpoints.folder)
    assert (again.latest, again.best) == (2, 2)
    assert same(again.restore_latest(LIKE)[0].params, scaled(1))
    again.close()


def test_unfinished_checkpoints_are_removed(checkpoints):
    """Such as a killed save leaves; the next start removes them, and what is whole stays."""
    save(checkpoints, 1, 0.5)
    checkpoints.close()
    for name in ("7.orbax-checkpoint-tmp", "4.orbax-checkpoint-tmp"):
        (checkpoints.folder / name).mkdir()
        (checkpoints.folder / name / "x").write_text("x")
    again = Checkpoints(checkpoints.folder)
    assert again.numbers == [2]
    save(again, 2, 0.6)
    again.close()
    assert {path.name for path in again.folder.iterdir()} == {"2", "4"}


def test_a_record_is_synced_before_it_counts(checkpoints, monkeypatch):
    """Else a power failure could leave a checkpoint of its full name with an empty record."""
    events, sync, rename = [], os.fsync, os.rename

    def note_sync(handle):
        events.append(os.readlink(f"/proc/self/fd/{handle}"))
        sync(handle)

    def note_rename(old, new, **options):
        events.append(str(new))
        rename(old, new, **options)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    save(checkpoints, 1, 0.5)
    (synced,) = [at for at, path in enumerate(events) if path.endswith("metadata")]
    assert "record" in events[synced]
    assert synced < events.index(str(checkpoints.folder / "2"))


def test_a_save_is_due_after_some_minutes(checkpoints, monkeypatch):
    # An integer: of some clock readings, (now + 90) - now rounds to less than 90.
    monkeypatch.setattr(checkpoints, "_last_save", now := 1000.0)
    for seconds, minutes, due in (
        (0, 0, False),
        (1e9, 0, False),
        (89, 1.5, False),
        (90, 1.5, True),
    ):
        monkeypatch.setattr(checkpoint_module.time, "monotonic", lambda s=seconds: now + s)
        assert checkpoints.is_due(minutes) is due
    save(checkpoints, 1, 0.5)
    assert not checkpoints.is_due(1.5)


def test_without_checkpoints_nothing_is_restored(checkpoints):
    assert checkpoints.restore_latest(LIKE) is None
    assert (checkpoints.latest, checkpoints.best) == (None, None)


def test_latest_two_and_best_survive_a_restart(checkpoints):
    for epoch, dice in ((1, 0.3), (2, 0.9), (3, 0.5)):
        save(checkpoints, epoch, dice)
    checkpoints.close()
    again = Checkpoints(checkpoints.folder)
    assert (again.best, again.latest) == (4, 6)
    save(again, 4, 0.4)
    save(again, 5, 0.4)
    assert (again.best, again.latest) == (4, 10)
    assert {p.name for p in again.folder.iterdir()} == {"4", "8", "10"}
    params, progress = again.restore_best(PARAMS)
    assert same(params, scaled(2))
    assert (progress.epoch, progress.pseudo_dice_average) == (2, 0.9)
    again.close()


def test_checkpoint_within_an_epoch_is_not_best(checkpoints):
    save(checkpoints, 1, 0.1)
    save(checkpoints, 2, 0.9, scored=False)
    assert (checkpoints.best, checkpoints.latest) == (2, 4)


def test_the_last_step_does_not_block_its_epoch(checkpoints):
    """The step is saved before its validation, as a signal has it, and again with its score."""
    checkpoints.save(state(3, scaled(1)), Progress(3, 0, None, [0.1] * 3), scored=False)
    checkpoints.wait()
    checkpoints.save(state(3, scaled(1)), Progress(3, 1, 0.4), scored=True)
    checkpoints.wait()
    assert (checkpoints.numbers, checkpoints.best) == ([3, 4], 4)


def test_another_network_is_refused_by_name(checkpoints):
    save(checkpoints, 1, 0.5)
    half = PARAMS["b"].astype(jnp.float16)
    for like, word in (
        ({**PARAMS, "b": jnp.ones(4)}, "b has shape (3,), the settings ask for (4,)"),
        ({**PARAMS, "b": half}, "b has type float32, the settings ask for float16"),
        ({**PARAMS, "c": jnp.ones(1)}, "c is only in the settings"),
        ({"b": PARAMS["b"]}, "a.kernel is only in the checkpoint"),
    ):
        for restore in (
            lambda like=like: checkpoints.restore_best(like),
            lambda like=like: checkpoints.restore_latest(TrainState(jnp.int32(0), like, OPTIMIZER)),
        ):
            with pytest.raises(InputError) as error:
                restore()
            assert "another network" in str(error.value)
            assert word in str(error.value)
    assert checkpoints.numbers == [2], "it is not damaged, so it stays"


@pytest.mark.parametrize("item", ["params", "optimizer", "record"])
@pytest.mark.parametrize(
    "how", [flip, empty, halve, zero, Path.unlink], ids=lambda how: how.__name__
)
def test_a_damaged_latest_gives_way_to_an_older(checkpoints, caplog, item, how):
    """It is moved aside, reported with what is made again, and its number is free for that."""
    for epoch, dice in ((1, 0.5), (2, 0.3), (3, 0.9)):
        save(checkpoints, epoch, dice)
    checkpoints.close()
    for path in files_of(checkpoints, 6, item):
        if path.name != "commit_success.txt":
            how(path)
    again = Checkpoints(checkpoints.folder)
    restored, progress = again.restore_latest(LIKE)
    assert same(restored.params, scaled(2))
    assert progress.step == 2
    (line,) = [record.getMessage() for record in caplog.records]
    for words in (f"{checkpoints.folder}/6: the checkpoint is damaged", "from step 2"):
        assert words in line
    assert "\n" not in line
    assert (checkpoints.folder.with_name("checkpoints.damaged") / "6").is_dir()
    assert again.best == 4, "the damaged one is not the best"
    save(again, 3, 0.7)
    assert (again.latest, again.best) == (6, 6)
    assert same(again.restore_best(PARAMS)[0], scaled(3))
    again.close()


def test_two_damages_of_a_number_are_both_kept(checkpoints):
    save(checkpoints, 1, 0.5)
    for _ in range(2):
        save(checkpoints, 2, 0.5)
        damage(checkpoints, 4)
        checkpoints.restore_latest(LIKE)
    aside = checkpoints.folder.with_name("checkpoints.damaged")
    assert {p.name for p in aside.iterdir()} == {"4", "4-1"}


def test_if_all_are_damaged_none_is_moved(checkpoints):
    for epoch in (1, 2):
        save(checkpoints, epoch, 0.5)
        damage(checkpoints, 2 * epoch)
    for restore, like in ((checkpoints.restore_latest, LIKE), (checkpoints.restore_best, PARAMS)):
        with pytest.raises(InputError, match=str(checkpoints.folder)) as error:
            restore(like)
        assert "\n" not in str(error.value)
    assert checkpoints.numbers == [2, 4]


def test_a_best_of_unknown_score_is_reported(checkpoints, caplog):
    for epoch, dice in enumerate((0.5, 0.9, 0.6, 0.7), 1):
        save(checkpoints, epoch, dice)
    damage(checkpoints, 4, "record")
    again = Checkpoints(checkpoints.folder)
    _, progress = again.restore_latest(LIKE)
    assert (progress.epoch, again.best) == (4, 8)
    for words in (f"{checkpoints.folder}/4: the checkpoint is damaged", "if it was the best"):
        assert words in caplog.text
    assert "made again" not in caplog.text
    assert (checkpoints.folder.with_name("checkpoints.damaged") / "4").is_dir()
    again.close()


def test_a_damaged_best_gives_way_to_the_next(checkpoints, caplog):
    for epoch, dice in ((1, 0.9), (2, 0.3), (3, 0.5)):
        save(checkpoints, epoch, dice)
    damage(checkpoints, 2)
    params, progress = checkpoints.restore_best(PARAMS)
    assert same(params, scaled(3))
    assert progress.epoch == 3
    assert "next best" in caplog.text


def test_only_checkpoints_that_are_kept_are_told(checkpoints, caplog):
    """Of six that were scored three are there; the others were removed, and not damaged."""
    for epoch, dice in enumerate((0.1, 0.2, 0.3, 0.9, 0.4, 0.5), 1):
        save(checkpoints, epoch, dice)
    damage(checkpoints, 8)
    assert checkpoints.numbers == [8, 10, 12]
    for number in (12, 10):
        damage(checkpoints, number)
    with pytest.raises(InputError, match="no checkpoint of a whole epoch can be read"):
        checkpoints.restore_best(PARAMS)
    told = [record.getMessage().split(":")[0] for record in caplog.records]
    assert told == [f"{checkpoints.folder}/{number}" for number in (8, 12, 10)]


@pytest.mark.parametrize("changed", ["step", "scored"])
def test_a_changed_record_is_damage(checkpoints, changed):
    """A digit of the step, or the mark of a score, is as much of the run as its parameters."""
    save(checkpoints, 1, 0.5, scored=False)
    save(checkpoints, 2, 0.5, scored=False)
    (path,) = [p for p in files_of(checkpoints, 4, "record") if "step" in p.read_text()]
    old, new = {"step": ('"step": 2', '"step": 3'), "scored": ("false", "true")}[changed]
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    again = Checkpoints(checkpoints.folder)
    assert again.best is None
    assert again.restore_latest(LIKE)[1].step == 1
    again.close()


def test_checkpoints_of_older_versions_are_read(checkpoints):
    """Their records have no mark of a score: the losses of a scored epoch are dropped."""
    save(checkpoints, 1, 0.5)
    checkpoints.save(state(2, scaled(2)), Progress(2, 1, 0.5, [0.1]), scored=False)
    checkpoints.wait()
    for number in (2, 3):
        for path in files_of(checkpoints, number, "record"):
            if path.name != "commit_success.txt" and (content := json.loads(path.read_text())):
                path.write_text(json.dumps({n: content[n] for n in ("progress", "leaves")}))
    again = Checkpoints(checkpoints.folder)
    assert (again.best, again.latest) == (2, 3)
    assert again.restore_latest(LIKE)[1].losses == [0.1]
    again.close()


@pytest.mark.parametrize(
    ("error", "told", "not_told"),
    [
        (OSError(errno.ENOSPC, "x"), "disk is full", "mend"),
        (
            ValueError("UNKNOWN: write failed [OS error 28: No space left on device]"),
            "full",
            "mend",
        ),
        (ValueError("RESOURCE_EXHAUSTED: Too many open files"), "Too many open files", "full"),
        (MemoryError("cannot allocate"), "MemoryError: cannot allocate", "full"),
        (PermissionError(errno.EACCES, "Permission denied"), "Permission denied", "full"),
        (TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)), "start again", "mend"),
    ],
)
def test_a_failed_save_tells_its_own_cause(checkpoints, monkeypatch, error, told, not_told):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoints._manager, "save", fail)
    with pytest.raises(InputError, match=str(checkpoints.folder)) as raised:
        save(checkpoints, 1, 0.5)
    assert told in str(raised.value)
    assert not_told not in str(raised.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), InputError),
        (PermissionError(errno.EACCES, "no"), InputError),
        (ValueError("Too many open files [24]"), InputError),
        *(
            (OSError(code, os.strerror(code)), RetryError)
            for code in (errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN)
        ),
        (ValueError("Error reading params [OS error 116: Stale file handle]"), RetryError),
        (RuntimeError("DEADLINE_EXCEEDED: Barrier failed"), RetryError),
    ],
)
def test_what_cannot_be_read_is_not_moved(checkpoints, monkeypatch, error, kind):
    """A lack of memory or of rights says nothing of the files, nor does a disk that is away.

    A RetryError tells a scheduler to start again, since that may help.
    """
    for epoch in (1, 2):
        save(checkpoints, epoch, 0.5)

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(checkpoints, "_read_item", fail)
    with pytest.raises(InputError, match="cannot read the checkpoint") as raised:
        checkpoints.restore_latest(LIKE)
    assert type(raised.value) is kind
    assert checkpoints.numbers == [2, 4]
