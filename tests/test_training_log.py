import json

import pytest

from kitsjax.errors import InputError
from kitsjax.training_log import read_rows

ROWS = [
    {"kind": "step", "step": 1, "loss": 0.5},
    {"kind": "epoch", "epoch": 1, "step": 1, "pseudo_dice": float("inf"), "validation_loss": None},
    {"kind": "step", "step": 2, "loss": -1},
]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.mark.parametrize("end", ["", '{"kind": "st', '{"kind": "step", "step": 3'])
def test_half_a_last_line_is_left_out(tmp_path, end):
    path = tmp_path / "metrics.jsonl"
    path.write_text(LINES + end)
    assert read_rows(path) == ROWS
    path.write_text(LINES[:-1])
    assert read_rows(path) == ROWS
    assert read_rows(tmp_path / "nowhere") == []


@pytest.mark.parametrize(
    "line",
    [
        b"garbage", b"", b"[1, 2]", b"5", b"null", b"\xff\x00", b'{"step": 1}', b"[" * 9999,
        b'{"kind": "epoch", "epoch": "x"}', b'{"kind": "epoch", "step": 1}',
        b'{"kind": "step", "step": null}', b'{"kind": "step", "step": 1, "loss": "bad"}',
        b'{"kind": "step", "step": 1, "loss": 1' + 400 * b"0" + b"}", b"{}",
        b'{"kind": ["step"], "step": 1}', b'{"kind": "note", "note": 1}',
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_wherever_it_is(tmp_path, line):
    path = tmp_path / "metrics.jsonl"
    lines = LINES.encode().splitlines()
    for place in range(4):
        path.write_bytes(b"\n".join([*lines[:place], line, *lines[place:], b""]))
        with pytest.raises(InputError, match=rf"metrics\.jsonl, line {place + 1}: ") as error:
            read_rows(path)
        assert "\n" not in str(error.value)


def test_a_log_that_is_a_folder_is_one_line(tmp_path):
    with pytest.raises(InputError, match="cannot read the training log"):
        read_rows(tmp_path)
