import json

import pytest

from kitsjax.errors import InputError
from kitsjax.run_record import FORMAT, KeptEpoch, RunRecord, read_record, write_record

RECORD = RunRecord(
    stage="predicting", settings="[data]\n", versions={"jax": "1"}, train=["case_00000"],
    held_out=["case_00001"], files={"case_00000": {"imaging.nii.gz": "7 bytes"}},
    kept=KeptEpoch(epoch=3, pseudo_dice_average=0.1 + 0.2), scored="abc",
)  # fmt: skip


def test_round_trip_is_exact(tmp_path):
    write_record(tmp_path, RECORD)
    assert read_record(tmp_path) == RECORD


def test_a_folder_without_a_record_has_none(tmp_path):
    assert read_record(tmp_path) is None
    assert read_record(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "change",
    [{"stage": "dreaming"}, {"train": "case_00000"}, {"format": "1"}, {"kept": {"epoch": 1.5}}],
)
def test_a_damaged_record_is_one_line(tmp_path, change):
    content = RECORD.model_dump() | change
    (tmp_path / "run.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"run\.json: damaged") as error:
        read_record(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\x00", b"null"])
def test_a_file_that_is_no_record_is_one_line(tmp_path, content):
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(InputError, match=r"run\.json: damaged"):
        read_record(tmp_path)


def test_a_newer_record_is_refused(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"format": FORMAT + 1, "other": 1}))
    with pytest.raises(InputError, match="newer kitsjax"):
        read_record(tmp_path)
