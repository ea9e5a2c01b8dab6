"""What training starts from: a trained model's parameters, unless the run has a checkpoint."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest
from test_loop import SETTINGS, Streams, equal

from kitsjax.config import override_settings, to_toml
from kitsjax.errors import InputError
from kitsjax.infer.bundle import read_bundle, save_bundle
from kitsjax.labels import KITS
from kitsjax.run_record import RunRecord, write_record
from kitsjax.settings import EvaluationSettings, LabelSettings
from kitsjax.signals import Stopped
from kitsjax.train import make_loop as make_loop_module
from kitsjax.train.checkpoint_record import Progress
from kitsjax.train.loop import TrainingLoop
from kitsjax.train.make_loop import make_loop
from kitsjax.train.run import run
from kitsjax.train.run_folder import begin_run, open_run
from kitsjax.training_log import read_epochs

ONE_EPOCH = override_settings(SETTINGS, ["train.epochs=1"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model file of one epoch, its parameters, and the last row of its log."""
    folder = tmp_path_factory.mktemp("trained")
    params, _ = TrainingLoop(ONE_EPOCH, folder, [], []).fit(Streams())
    path = folder / "model.safetensors"
    save_bundle(path, params, ONE_EPOCH, {})
    return path, params, read_epochs(folder / "metrics.jsonl")[-1]


def begin_from(path, *overrides):
    return override_settings(ONE_EPOCH, [f"train.init_from={path}", *overrides])


def start(settings, tmp_path):
    return TrainingLoop(settings, tmp_path, [], [])


def test_first_validation_is_the_models_own(trained, tmp_path):
    """Steps that change nothing leave the parameters as they came, and so what they score."""
    path, params, row = trained
    loop = start(begin_from(path, "optimizer.learning_rate=1e-38"), tmp_path)
    assert equal(loop.state.params, params)
    assert loop.initial == read_bundle(path).sha256
    assert loop.progress == Progress()
    kept, _ = loop.fit(Streams())
    assert equal(kept, params)
    (found,) = read_epochs(tmp_path / "metrics.jsonl")
    scores = [name for name in row if name.startswith(("validation", "pseudo_dice"))]
    assert len(scores) >= 2
    assert {name: found[name] for name in scores} == {name: row[name] for name in scores}


def test_without_a_model_parameters_are_random(trained, tmp_path):
    loop = start(ONE_EPOCH, tmp_path)
    assert loop.initial == ""
    assert not equal(loop.state.params, trained[1])


def test_the_average_starts_from_the_model_too(trained, tmp_path):
    path, params, _ = trained
    state = start(begin_from(path, "train.ema_decay=0.9"), tmp_path).state
    assert equal(state.average, params)
    assert equal(state.kept, params)
    # A step reuses the memory of either.
    pairs = zip(jax.tree.leaves(state.average), jax.tree.leaves(state.params), strict=True)
    assert all(a is not b for a, b in pairs)


def test_a_checkpoint_comes_before_the_model(trained, tmp_path):
    """The run goes on from its own parameters, though the model has been deleted meanwhile."""
    path, _, _ = trained
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    settings = begin_from(copy)
    whole, _ = start(settings, tmp_path / "whole").fit(Streams())
    with pytest.raises(Stopped):
        start(settings, tmp_path / "run").fit(Streams(("train", 1)))
    copy.unlink()
    resumed = start(settings, tmp_path / "run")
    assert resumed.progress.step > 0
    assert resumed.initial == ""
    assert equal(resumed.fit(Streams())[0], whole)
    with pytest.raises(InputError, match="no such file"):
        start(settings, tmp_path / "new")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("network.features=3", "its network.features is 2, and this run's is 3"),
        ("network.max_features=2", "its network.max_features is 1024, and this run's is 2"),
        ("network.smallest=2", "its network.smallest is 4, and this run's is 2"),
        (
            "network.deep_supervision=2 sampling.patch_shape=[16,16,16]",
            "its network.deep_supervision is 1, and this run's is 2",
        ),
        ("loss.regions=true", "its loss.regions is false, and this run's is true"),
        (
            "sampling.patch_shape=[16,16,16]",
            "its sampling.patch_shape is [8,8,8], and this run's is [16,16,16]",
        ),
        (
            'labels.names=["liver","spleen","aorta"]',
            "a model of the labels kidney, tumor, cyst, and this run's are liver, spleen, aorta",
        ),
        (
            'labels.names=["kidney"]',
            "a model of the labels kidney, tumor, cyst, and this run's are kidney",
        ),
    ],
    ids=lambda value: value.split("=")[0],
)
def test_another_network_is_refused_by_name(trained, tmp_path, override, message):
    path, _, _ = trained
    with pytest.raises(InputError) as told:
        start(begin_from(path, *override.split()), tmp_path)
    text = str(told.value)
    assert text.startswith(f"train.init_from = {path}: ")
    assert message in text
    assert "\n" not in text


@pytest.fixture
def unprepared(monkeypatch):
    """Refuse to prepare the data, which may take hours."""
    monkeypatch.setattr("kitsjax.train.run.prepare_together", lambda _: pytest.fail("prepared"))
    monkeypatch.setattr("kitsjax.train.run.start_devices", lambda *_, **__: None)


def test_a_missing_model_is_told_before_the_work(tmp_path, unprepared):
    """A run that has begun does not need it any more."""
    missing = tmp_path / "missing"
    settings = override_settings(begin_from(missing), [f"run.folder={tmp_path / 'run'}"])
    with pytest.raises(InputError, match=f"^train.init_from = {missing}: no such"):
        run(settings)
    assert not (tmp_path / "run" / "run.json").exists()
    record = RunRecord(settings=to_toml(settings), versions={}, train=[], held_out=[])
    write_record(tmp_path / "run", record)
    assert open_run(settings, resume=True) == record


@pytest.mark.parametrize("name", ["network.features", "loss.regions"])
def test_another_network_is_told_before_the_work(trained, tmp_path, unprepared, name):
    """Whatever the labels are: the data set may be what names them."""
    value = {"network.features": "3", "loss.regions": "true"}[name]
    folder = f"run.folder={tmp_path / 'run'}"
    settings = begin_from(trained[0], f"{name}={value}", folder, 'labels.names=["liver"]')
    with pytest.raises(InputError, match=f"its {name} is .*, and this run's is {value}"):
        run(settings)


def test_other_regions_are_refused(trained, tmp_path):
    """Outputs by region have the same shapes, whichever label each region adds."""
    path = tmp_path / "model.safetensors"
    theirs = override_settings(ONE_EPOCH, ["loss.regions=true"])
    params = start(theirs, tmp_path / "theirs").state.params
    save_bundle(path, params, theirs, {})
    same = override_settings(theirs, [f"train.init_from={path}"])
    assert equal(start(same, tmp_path / "same").state.params, params)
    names = KITS.names[1:]
    evaluation = {f"first {n}": EvaluationSettings(labels=names[:n]) for n in (3, 2, 1)}
    labels = LabelSettings(names=names, evaluation=evaluation)
    with pytest.raises(InputError, match="its regions are other unions of the labels"):
        start(same.model_copy(update={"labels": labels}), tmp_path / "other")


def test_a_patch_of_as_many_stages_fits(trained, tmp_path):
    path, params, _ = trained
    settings = begin_from(path, "sampling.patch_shape=[8, 8, 12]")
    assert equal(start(settings, tmp_path).state.params, params)


def test_the_advice_of_a_refusal_is_right(trained, tmp_path):
    """Its `--set` makes the model fit."""
    path, params, _ = trained
    settings = begin_from(path, "network.features=3")
    with pytest.raises(InputError) as told:
        start(settings, tmp_path)
    advice = str(told.value).partition("--set ")[2].partition(",")[0]
    assert equal(start(override_settings(settings, [advice]), tmp_path).state.params, params)


def test_the_record_keeps_the_first_model(tmp_path, monkeypatch):
    settings = override_settings(ONE_EPOCH, [f"run.folder={tmp_path}"])
    split = SimpleNamespace(train=("a",), held_out=())
    monkeypatch.setattr("kitsjax.train.run_folder.write_split", lambda *_: None)
    first = begin_run(settings, split, (), None, (), "0123")
    assert first.initial == "0123"
    assert begin_run(settings, split, (), first, (), "").initial == "0123"
    assert RunRecord(settings="", versions={}, train=[], held_out=[]).initial == ""


@pytest.mark.parametrize(
    ("now", "resumed", "refused"),
    [("0123", False, False), ("4567", False, True), ("", True, False)],
)
def test_a_run_without_checkpoint_needs_its_model(
    tmp_path, monkeypatch, capsys, now, resumed, refused
):
    """Another model in the place of the first would begin another run; a checkpoint needs none."""
    loop = SimpleNamespace(initial=now, resumed=resumed)
    monkeypatch.setattr(make_loop_module, "TrainingLoop", lambda *_: loop)
    monkeypatch.setattr(make_loop_module, "check_classes", lambda *_: None)
    data = SimpleNamespace(preprocessed={}, scheme=KITS)
    split = SimpleNamespace(train=(), held_out=())
    record = RunRecord(settings="", versions={}, train=[], held_out=[], initial="0123")
    settings = override_settings(ONE_EPOCH, [f"run.folder={tmp_path}", "train.init_from=x"])
    if refused:
        with pytest.raises(InputError, match="not the model that the run began with"):
            make_loop(settings, data, split, record)
    else:
        assert make_loop(settings, data, split, record) is loop
        begins = f"{tmp_path}: holds no checkpoint, so training begins at its first step"
        expected = [] if resumed else [begins, "training starts from the model x"]
        assert capsys.readouterr().out.splitlines() == expected


def test_a_models_float16_file_starts_in_float32(trained, tmp_path):
    path, _, _ = trained
    half = tmp_path / "half.safetensors"
    save_bundle(half, read_bundle(path).params, ONE_EPOCH, {}, "float16")
    loop = start(begin_from(half), tmp_path)
    assert {leaf.dtype for leaf in jax.tree.leaves(loop.state.params)} == {np.dtype("float32")}
