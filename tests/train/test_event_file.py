"""TensorBoard's event file: what is read back from it, and a disk that is full."""

import struct

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter

from kitsjax.train.event_file import EventFile


def read_events(folder):
    """Read all events of a folder: each has its length and two checksums beside it."""
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        while content:
            (size,) = struct.unpack("<Q", content[:8])
            yield Event.FromString(content[12 : 12 + size])
            content = content[16 + size :]


def write(folder, step, loss):
    file = EventFile(folder, step)
    file.add({"kind": "step", "step": step + 1, "loss": loss, "grad_norm": 1.5})
    file.add({"kind": "epoch", "epoch": 1, "step": step + 1, "seconds": 2.0, "unknown": None})
    file.close()


def test_scalars_are_read_back(tmp_path):
    """The second start drops what the first one has after its step."""
    write(tmp_path / "board", 0, 0.5)
    write(tmp_path / "board", 3, 0.25)
    found = list(read_events(tmp_path / "board"))
    scalars = [
        (event.step, value.tag, value.simple_value)
        for event in found
        for value in event.summary.value
    ]
    assert scalars == [
        (1, "step/loss", 0.5), (1, "step/grad_norm", 1.5), (1, "epoch/seconds", 2.0),
        (4, "step/loss", 0.25), (4, "step/grad_norm", 1.5), (4, "epoch/seconds", 2.0),
    ]  # fmt: skip
    starts = [event.step for event in found if event.session_log.status == SessionLog.START]
    assert starts == [1, 4]
    assert all(event.wall_time > 1e9 for event in found)


@pytest.mark.parametrize("method", ["write", "flush"])
def test_a_full_disk_is_told_once(tmp_path, monkeypatch, caplog, method):
    """Nothing waits, and nothing is raised: the training log has the numbers, too."""
    file = EventFile(tmp_path / "board", 0)

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(RecordWriter, method, fail)
    for step in range(1, 100):
        file.add({"kind": "step", "step": step, "loss": 0.5})
        file.flush()
    file.close()
    (record,) = caplog.records
    assert "board: cannot be written (No space left on device)" in record.getMessage()


def test_a_folder_that_cannot_be_made_is_told(tmp_path, caplog):
    (tmp_path / "board").write_text("a file")
    write(tmp_path / "board", 3, 0.5)
    assert "board: cannot be written (File exists)" in caplog.text
