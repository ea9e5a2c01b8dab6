"""The command over a local server: its output, its exit status, and signals in the middle."""

import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import served

from kitsjax.download.catalog import DATA_SETS

ROOT = Path(__file__).parents[2]

# The command as it is, with the addresses of the local server.
CODE = """
import runpy, signal, sys
# Where the tests run in the background, Ctrl-C is ignored, and a command would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
from dataclasses import replace
from kitsjax.download import catalog
url = sys.argv.pop(1)
catalog.DATA_SETS["kits21"] = replace(
    catalog.DATA_SETS["kits21"], imaging=(url + "/a/{case}",), label=url + "/label/{case}"
)
runpy.run_path("bin/download.py", run_name="__main__")
"""


def start(server, *options):
    return subprocess.Popen(
        [sys.executable, "-c", CODE, server.url, *map(str, options)],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def run(server, *options):
    process = start(server, *options)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def publish(server):
    for case in (0, 160):
        server.add(f"/a/{case}", served.packed_nifti(case))
        server.add(f"/label/{case}", served.packed_nifti(case + 1))


def test_command_downloads_and_says_so(tmp_path, server):
    publish(server)
    code, out, err = run(server, "--output", tmp_path / "data", "--cases", "0,160")
    assert code == 0, err
    assert out.startswith(f"4 of 4 files are whole, 4 of them new: {tmp_path / 'data'}\n")
    assert "clone https://github.com/neheller/kits21 and copy kits21/data/case_*/segm" in out
    assert "note: case_00160: its scan has 252 x 512 x 796 voxels" in err
    assert "download: 100%" in err
    code, out, err = run(server, "--output", tmp_path / "data", "--cases", "0,160")
    assert (code, "4 of 4 files are whole, 0 of them new" in out) == (0, True)


def test_command_fails_with_a_line_a_reason(tmp_path, server):
    publish(server)
    del server.files["/label/160"]
    code, out, err = run(server, "--output", tmp_path, "--cases", "0,160")
    assert code == 2
    assert out.startswith("3 of 4 files are whole")
    (line,) = [line for line in err.splitlines() if line.startswith("failed: ")]
    assert "case_00160/aggregated_MAJ_seg.nii.gz" in line
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--cases", "0-300"], "kits21 has no case_00300"),
        (["--workers", "0"], "--workers: give a number"),
        (["--dataset", "kits20"], "invalid choice"),
    ],
)
def test_wrong_options(options, reason, tmp_path, server):
    code, _, err = run(server, "--output", tmp_path, *options)
    assert (code, reason in err, "Traceback" in err) == (2, True, False)
    assert list(tmp_path.iterdir()) == []


def test_every_published_data_set_can_be_chosen(monkeypatch, capsys):
    monkeypatch.setitem(DATA_SETS, "new", DATA_SETS["kits21"])
    monkeypatch.setattr(sys, "argv", ["download.py", "--help"])
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "bin" / "download.py"))["main"]()
    assert f"--dataset {{{','.join(DATA_SETS)}}}" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_signal_in_the_middle(number, tmp_path, server):
    """What had arrived stays, and the next run asks for the rest alone."""
    publish(server)
    file = server.files["/a/0"]
    file.faults.extend([None, served.hang_within])
    half = len(file.body) // 2
    process = start(server, "--output", tmp_path, "--cases", "0")
    try:
        deadline = time.monotonic() + 60
        while not (sizes := [p.stat().st_size for p in tmp_path.glob("*/.imaging*")]) or (
            sizes[0] < half - 2**13
        ):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == (-9 if number == signal.SIGKILL else 128 + number)
    assert "Traceback" not in err
    assert not (tmp_path / "case_00000" / "imaging.nii.gz").exists()
    (kept,) = (p.stat().st_size for p in tmp_path.glob("*/.imaging*"))
    file.asked.clear()
    code, out, err = run(server, "--output", tmp_path, "--cases", "0")
    assert (code, "2 of 2 files are whole" in out) == (0, True), err
    assert file.asked == ["bytes=0-0", f"bytes={kept}-"]
    assert (tmp_path / "case_00000" / "imaging.nii.gz").read_bytes() == file.body
