import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from kitsjax.config import load_settings, to_toml
from kitsjax.data.case import Case
from kitsjax.data.split import Split, read_split, split_cases, write_split
from kitsjax.errors import InputError
from kitsjax.run_record import read_record, write_record
from kitsjax.train import run_files
from kitsjax.train.run_files import check_files
from kitsjax.train.run_folder import (
    begin_run,
    choose_split,
    load_record,
    open_run,
)

IDS = [f"case_{n:05d}" for n in range(10)]


def settings(folder, *overrides):
    return load_settings(overrides=[f"run.folder={folder}", "data.held_out=3", *overrides])


@pytest.fixture
def cases(tmp_path):
    """The files of three cases; the annotations of the first."""
    made = []
    for name in IDS[:3]:
        folder = tmp_path / "data" / name
        (folder / "segmentations").mkdir(parents=True)
        case = Case(name, folder / "imaging.nii.gz", folder / "segmentation.nii.gz")
        case.image.write_bytes(b"image")
        case.label.write_bytes(b"label")
        made.append(case)
    annotations = made[0].folder / "segmentations"
    (annotations / "tumor_instance-1_annotation-1.nii.gz").write_bytes(b"annotation")
    return [replace(made[0], annotations=annotations), *made[1:]]


def begin(asked, cases=()):
    """A run whose training has begun."""
    split = choose_split(asked, IDS, None)
    return begin_run(asked, split, cases, open_run(asked, resume=False))


def make_older(asked):
    """A run folder as versions without `run.json` left it."""
    record, folder = begin(asked), Path(asked.run.folder)
    (folder / "run.json").unlink()
    (folder / "versions.json").write_text(json.dumps({"jax": "0.1"}))
    (folder / "metrics.jsonl").touch()
    return folder, record


def test_a_run_is_begun_by_its_record(tmp_path):
    folder, asked = tmp_path / "run", settings(tmp_path / "run")
    assert open_run(asked, resume=False) is None
    assert not folder.exists(), "nothing is written before training begins"
    record = begin(asked)
    assert read_record(folder) == record
    assert load_settings(folder / "settings.toml") == asked
    assert read_split(folder / "split.json", IDS) == split_cases(IDS, 3, 0)
    assert record.versions.keys() >= {"jax", "kitsjax", "python"}
    assert record.stage == "training"


def test_run_that_is_there_is_not_overwritten(tmp_path):
    begin(settings(tmp_path))
    with pytest.raises(InputError, match="--resume"):
        open_run(settings(tmp_path), resume=False)


@pytest.mark.parametrize("resume", [False, True])
def test_folds_are_not_replaced_by_a_run(tmp_path, resume):
    begin(settings(tmp_path / "fold_1"))
    with pytest.raises(InputError, match="holds a cross-validation; add --fold, or choose another"):
        open_run(settings(tmp_path), resume=resume)
    assert open_run(settings(tmp_path / "fold_1"), resume=True)
    assert open_run(settings(tmp_path / "fold_0"), resume=True) is None


def test_resume_without_a_run_begins_one(tmp_path):
    assert open_run(settings(tmp_path / "new"), resume=True) is None


def test_the_record_alone_decides(tmp_path):
    """Log, copies and checkpoints may be moved away: settings and split are as they were."""
    record = begin(settings(tmp_path))
    for name in ("settings.toml", "split.json"):
        (tmp_path / name).unlink()
    with pytest.raises(InputError, match="--resume"):
        open_run(settings(tmp_path), resume=False)
    with pytest.raises(InputError, match=r"train\.seed"):
        open_run(settings(tmp_path, "train.seed=9"), resume=True)
    resumed = open_run(settings(tmp_path), resume=True)
    assert resumed == record
    again = choose_split(settings(tmp_path), [*IDS, "case_00099"], resumed)
    assert (list(again.train), list(again.held_out)) == (record.train, record.held_out)


@pytest.mark.parametrize(
    "override",
    [
        "train.seed=1",
        "data.split_seed=1",
        "train.epochs=7",
        "network.features=8",
        "preprocess.spacing_mm=2.5",
        "data.label_source=sample",
    ],
)
def test_resume_refuses_what_changes_numbers(tmp_path, override):
    begin(settings(tmp_path))
    with pytest.raises(InputError, match=override.split("=")[0]):
        open_run(settings(tmp_path, override), resume=True)


def test_equal_class_weights_have_one_meaning(tmp_path):
    """A run of a version in which three ones were the default goes on without them."""
    begin(settings(tmp_path, "sampling.class_weights=[1,1,1]"))
    assert open_run(settings(tmp_path), resume=True) is not None
    with pytest.raises(InputError, match=r"sampling\.class_weights = \[\], not \[1\.0, 2\.0"):
        open_run(settings(tmp_path, "sampling.class_weights=[1,2,1]"), resume=True)


def test_the_remedy_of_a_refusal_can_be_pasted(tmp_path):
    """A shell splits its words as they are meant, and `--set` reads lists, texts and tables."""
    labels = (
        'labels.names=["liver", "big tumor"]',
        'labels.evaluation={"all of it" = {labels=["liver", "big tumor"]}}',
    )
    asked = settings(tmp_path, *labels, "sampling.patch_shape=[64, 32, 32]", "data.held_out=2")
    begin(asked)
    with pytest.raises(InputError) as refused:
        open_run(settings(tmp_path), resume=True)
    remedy = str(refused.value).partition("resume it with ")[2].rpartition(", or choose")[0]
    flags, overrides = shlex.split(remedy)[::2], shlex.split(remedy)[1::2]
    assert set(flags) == {"--set"}
    assert len(overrides) == 4
    assert open_run(settings(tmp_path, *overrides), resume=True) is not None


def test_resume_shows_all_that_differs(tmp_path):
    begin(settings(tmp_path))
    asked = settings(tmp_path, "train.seed=1", "network.features=8", "data.workers=3")
    with pytest.raises(InputError) as refused:
        open_run(asked, resume=True)
    for words in (
        "network.features = 32, not 8, train.seed = 0, not 1;",
        "--set network.features=32 --set train.seed=0,",
    ):
        assert words in str(refused.value)
    assert "workers" not in str(refused.value)


@pytest.mark.parametrize(
    "override",
    ["sampling.threads=9", "predict.mirror=true", "data.workers=3", "network.remat=true",
     "train.checkpoint_minutes=5", "run.cpu_devices=4", "data.split=other.json"],
)  # fmt: skip
def test_resume_allows_what_changes_no_number(tmp_path, override):
    begin(settings(tmp_path))
    open_run(settings(tmp_path, override), resume=True)


def test_going_on_keeps_what_the_run_has_reached(tmp_path):
    asked = settings(tmp_path)
    reached = begin(asked).model_copy(update={"stage": "finished", "scored": "abc"})
    write_record(tmp_path, reached)
    other = settings(tmp_path, "predict.mirror=true")
    split = choose_split(other, IDS, reached)
    record = begin_run(other, split, (), reached)
    # Killed before its masks are made by the new settings, it still has to make them.
    assert (record.stage, record.scored) == ("predicting", "abc")
    assert record.settings == to_toml(other)
    assert read_record(tmp_path) == record


def test_an_older_run_is_adopted(tmp_path):
    """It had no `run.json`; what its settings lacked has the meaning of that time."""
    asked = settings(tmp_path, "preprocess.hu_range=[]")
    folder, record = make_older(asked)
    path = folder / "settings.toml"
    old = path.read_text().replace("hu_range = []\n", "").replace("split_seed = 0\n", "")
    path.write_text(old)
    with pytest.raises(InputError, match="--resume"):
        open_run(asked, resume=False)
    with pytest.raises(InputError, match=r"--set 'preprocess\.hu_range=\[\]'"):
        open_run(settings(tmp_path), resume=True)
    adopted = open_run(asked, resume=True)
    assert (adopted.train, adopted.held_out) == (record.train, record.held_out)
    assert (adopted.stage, adopted.versions) == ("training", {"jax": "0.1"})
    begin_run(asked, choose_split(asked, IDS, adopted), (), adopted)
    assert read_record(folder).stage == "training"
    assert not (folder / "versions.json").exists()


@pytest.mark.parametrize("part", ["metrics.jsonl", "checkpoints/12"])
@pytest.mark.parametrize("resume", [True, False])
def test_parts_of_a_run_alone_are_refused(tmp_path, part, resume):
    """Whose they are is not known, so nothing goes on from them, and nothing overwrites them."""
    (tmp_path / part).mkdir(parents=True)
    with pytest.raises(InputError, match=f"holds {part.split('/')[0]} of a run") as error:
        open_run(settings(tmp_path), resume)
    assert "\n" not in str(error.value)


def test_an_empty_checkpoint_folder_is_no_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    assert load_record(tmp_path) is None


def test_split_has_a_seed_of_its_own(tmp_path):
    """Runs of other seeds hold out the same cases, so that their models can be averaged."""
    splits = [
        choose_split(settings(tmp_path, f"train.seed={seed}"), IDS, None) for seed in range(3)
    ]
    assert splits == [split_cases(IDS, 3, 0)] * 3
    other = choose_split(settings(tmp_path, "data.split_seed=5"), IDS, None)
    assert other == split_cases(IDS, 3, 5) != splits[0]


def test_folds_need_a_choice(tmp_path):
    with pytest.raises(InputError, match=r"data.folds = 2: give --fold 0 to 1, or --fold all"):
        choose_split(settings(tmp_path, "data.folds=2"), IDS, None)


def test_given_split_is_taken(tmp_path):
    given = split_cases(IDS, 5, seed=99)
    write_split(tmp_path / "mine.json", given)
    asked = settings(tmp_path, f"data.split={tmp_path}/mine.json")
    assert choose_split(asked, IDS, None) == given


def test_a_split_without_its_cases_is_refused(tmp_path):
    record = begin(settings(tmp_path))
    with pytest.raises(InputError, match=f"{record.held_out[0]} is not in the data folder"):
        choose_split(settings(tmp_path), record.train, record)


def test_the_same_files_elsewhere_are_the_same(tmp_path, cases):
    record = begin(settings(tmp_path / "run"), cases)
    check_files(record, settings(tmp_path / "run"), cases)
    (tmp_path / "data").rename(tmp_path / "moved")
    moved = [
        Case(c.case_id, tmp_path / "moved" / c.case_id / "imaging.nii.gz",
             tmp_path / "moved" / c.case_id / "segmentation.nii.gz")
        for c in cases
    ]  # fmt: skip
    check_files(record, settings(tmp_path / "run"), moved)


def test_changed_files_are_refused_by_name(tmp_path, cases):
    asked = settings(tmp_path / "run")
    record = begin(asked, cases)
    cases[1].label.write_bytes(b"another label")
    with pytest.raises(InputError) as error:
        check_files(record, asked, cases)
    assert str(cases[1].label) in str(error.value)
    assert "13 bytes (" in str(error.value).partition("now")[0]
    assert "5 bytes (" in str(error.value).partition("now")[2]


def test_a_file_of_other_bytes_is_refused(tmp_path, cases):
    asked = settings(tmp_path / "run")
    record = begin(asked, cases)
    content = bytearray(cases[1].label.read_bytes())
    content[0] ^= 1
    cases[1].label.write_bytes(content)
    with pytest.raises(InputError, match=cases[1].label.name):
        check_files(record, asked, cases)


def test_files_are_hashed_once_at_each_start(tmp_path, cases, monkeypatch):
    hashed = []
    describe = run_files._describe_state
    monkeypatch.setattr(
        run_files, "_describe_state", lambda path: hashed.append(path) or describe(path)
    )
    asked = settings(tmp_path / "run")
    record = begin(asked, cases)
    names = sorted(path for case in cases for path in (case.image, case.label))
    assert sorted(hashed) == names
    hashed.clear()
    check_files(record, asked, cases)
    again = begin_run(asked, choose_split(asked, IDS, record), cases, record)
    assert sorted(hashed) == names
    assert again.files == record.files


def test_annotations_count_if_they_are_trained_on(tmp_path, cases):
    (annotation,) = (cases[0].folder / "segmentations").iterdir()
    majority, sample = (
        settings(tmp_path / source, f"data.label_source={source}")
        for source in ("majority", "sample")
    )
    records = [begin(asked, cases) for asked in (majority, sample)]
    annotation.write_bytes(b"changed")
    check_files(records[0], majority, cases)
    with pytest.raises(InputError, match=annotation.name):
        check_files(records[1], sample, cases)


def test_a_run_keeps_its_split_and_says_so(tmp_path, caplog):
    """The file may have been moved or be gone; one with other cases may be a mistake."""
    record = begin(settings(tmp_path / "run"))
    own = Split(tuple(record.train), tuple(record.held_out))
    write_split(tmp_path / "own.json", own)
    write_split(tmp_path / "other.json", Split(own.held_out, own.train))
    for name, notes in (("own.json", 0), ("gone.json", 0), ("other.json", 1)):
        asked = settings(tmp_path / "run", f"data.split={tmp_path / name}")
        assert choose_split(asked, IDS, open_run(asked, resume=True)) == own
        assert len(caplog.messages) == notes
    assert caplog.messages == [f"{tmp_path}/other.json: not the run's split, which it keeps"]
