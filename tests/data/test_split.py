"""Splits of a data set: drawn from a seed, or read from a file and checked."""

import json

import pytest

from kitsjax.data.split import read_split, split_cases, write_split
from kitsjax.errors import InputError

IDS = [f"case_{n:05d}" for n in range(300)]


def test_split_is_seeded_disjoint_and_complete():
    split = split_cases(IDS, 60, seed=0)
    assert (len(split.train), len(split.held_out)) == (240, 60)
    assert sorted(split.train + split.held_out) == IDS
    # The order in which the file system lists the cases must not matter.
    assert split == split_cases(IDS[::-1], 60, seed=0)
    assert split != split_cases(IDS, 60, seed=1)


def test_split_must_leave_something_to_train_on():
    with pytest.raises(InputError, match="held_out"):
        split_cases(IDS[:5], 5, seed=0)


def test_split_file_round_trip(tmp_path):
    path = tmp_path / "split.json"
    split = split_cases(IDS, 60, seed=3)
    write_split(path, split)
    assert read_split(path, IDS) == split


def test_a_byte_order_mark_is_no_split(tmp_path):
    path = tmp_path / "split.json"
    path.write_text('{"train": ["case_00001"], "held_out": []}', encoding="utf-8-sig")
    assert read_split(path).train == ("case_00001",)


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"train": ["case_00000"], "held_out": ["case_00000"]}, "case_00000 is in both"),
        ({"train": [*IDS[:2], IDS[1]], "held_out": []}, "case_00001 is in train twice"),
        ({"train": IDS[:1], "held_out": IDS[1:3] * 2}, "case_00001 is in held_out twice"),
        ({"train": ["case_99999"], "held_out": []}, "case_99999 is not in the data folder"),
        ({"train": [], "held_out": ["case_00000"]}, "no case to train on"),
        ({"train": ["case_00000"]}, "not a split"),
        ({"train": [0], "held_out": []}, "not a split"),
        ({"train": "case_00000", "held_out": []}, "not a split"),
        (["case_00000"], "not a split"),
    ],
)
def test_bad_split_is_refused_in_one_line(tmp_path, tree, problem):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(InputError, match=rf"split\.json: {problem}") as caught:
        read_split(path, IDS)
    assert "\n" not in str(caught.value)


def test_unreadable_split_is_refused(tmp_path):
    path = tmp_path / "split.json"
    with pytest.raises(InputError, match=r"split\.json: cannot read the split"):
        read_split(path, IDS)
    for content in (b'{"train": [', b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"split\.json: not a split"):
            read_split(path, IDS)
