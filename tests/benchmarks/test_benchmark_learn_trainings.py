import numpy as np
import pytest

from benchmarks import learn_trainings
from benchmarks.learn_contenders import Trained
from benchmarks.learn_task import Task
from benchmarks.learn_trainings import MINUTES, STEPS, fit_batches, run_trainings
from kitsjax.settings import Settings, TrainSettings


class Learner:
    """A contender that takes so many seconds for each batch of an epoch, and ten besides."""

    def __init__(self, name, seconds, done):
        self.name, self._seconds, self._done = name, seconds, done

    def asks(self, task):
        return {"epochs": task.settings.train.epochs}

    def train(self, task, folder, seed, batches):
        self._done.append((self.name, seed, batches))
        epochs = self._seconds * batches * task.settings.train.epochs
        return Trained(10 + epochs, epochs, 7)

    def predict(self, task, folder, cases, masks):
        masks.mkdir(exist_ok=True)


@pytest.fixture
def task(tmp_path, monkeypatch):
    monkeypatch.setattr(
        learn_trainings, "score_predictions", lambda cases, masks: {"of": cases.name}
    )
    (tmp_path / "tests" / "held out").mkdir(parents=True)
    settings = Settings(train=TrainSettings(epochs=2, batches=100))
    return Task(tmp_path, settings, "data", {"held out": tmp_path / "tests" / "held out"})


def test_slower_one_gets_the_quicker_ones_minutes(task):
    done = []
    contenders = [Learner("quick", 0.5, done), Learner("slow", 0.8, done)]
    found = run_trainings(task, contenders, range(2))
    # 110 seconds are 10 besides the epochs and 62.5 batches of the slow one in each of two.
    assert done == [
        ("quick", 0, 100), ("slow", 0, 100), ("quick", 1, 100), ("slow", 1, 100),
        ("slow", 0, 62), ("slow", 1, 62),
    ]  # fmt: skip
    assert [(t.contender, t.batches) for t in found[MINUTES]] == [("quick", 100), ("slow", 62)] * 2
    assert [t.batches for t in found[STEPS]] == [100] * 4
    assert max(t.trained.seconds for t in found[MINUTES]) <= 110
    assert found[STEPS][0].scores == {"held out": {"of": "held out"}}


def test_finished_trainings_are_not_run_again(task):
    done = []
    contenders = [Learner("quick", 0.5, done), Learner("slow, rate 1", 0.8, done)]
    first = run_trainings(task, contenders, range(1))
    count = len(done)
    assert run_trainings(task, contenders, range(1)) == first
    assert len(done) == count
    run_trainings(task, contenders, range(2))
    assert all(seed == 1 for _, seed, _ in done[count:])


def test_other_settings_are_trained_anew(task):
    done = []
    run_trainings(task, [Learner("one", 1, done)], range(1))
    longer = task.settings.model_copy(update={"train": TrainSettings(epochs=3, batches=100)})
    run_trainings(
        Task(task.folder, longer, "data", task.tests), [Learner("one", 1, done)], range(1)
    )
    assert done == [("one", 0, 100)] * 2


def test_a_changed_case_is_scored_again(task, monkeypatch, tmp_path):
    """It has the same name, but is a link to another one."""
    targets = []
    monkeypatch.setattr(
        learn_trainings, "score_predictions",
        lambda cases, masks: targets.append((cases / "case_00000").resolve().name) or {},
    )  # fmt: skip
    link = task.tests["held out"] / "case_00000"
    for name in ("first", "second", "second"):
        (tmp_path / name).mkdir(exist_ok=True)
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / name)
        done = []
        run_trainings(task, [Learner("one", 1, done)], range(1))
    assert targets == ["first", "second"]
    assert done == []


@pytest.mark.parametrize("batches", [93, 100, 250])
def test_the_quickest_keeps_its_batches(batches):
    """Whatever the rounding of its own times is."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        epochs = rng.uniform(1, 1000)
        whole = epochs + rng.uniform(0, 100)
        assert fit_batches(batches, [Trained(whole, epochs, 1)], whole) == batches


@pytest.mark.parametrize(
    ("seconds", "batches"),
    [(210, 100), (1000, 100), (110, 50), (10, 1), (1, 1)],
)
def test_batches_fit_into_the_seconds(seconds, batches):
    assert fit_batches(100, [Trained(210, 200, 1)], seconds) == batches
