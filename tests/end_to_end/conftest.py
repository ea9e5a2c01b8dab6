"""One tiny run that all tests of this folder share, and a way to run commands without a process."""

import fcntl
import runpy
import subprocess
import sys

import pytest
from tiny_run import ROOT, run, write_tiny_settings


@pytest.fixture(scope="session")
def finished(tmp_path_factory, worker_id):
    """A folder with `tiny.toml`, its data and one unbroken run in `run/`, and what the run printed.

    Tests in several processes share it, so they change nothing in it.
    """
    base = tmp_path_factory.getbasetemp()
    # Workers of pytest-xdist have a folder each; the first to come makes the run for all of them.
    shared = base if worker_id == "master" else base.parent
    folder = shared / "tiny"
    printed = folder / "printed.txt"
    with (shared / "tiny.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            folder.mkdir()
            write_tiny_settings(folder)
            done = run("train", "--config", folder / "tiny.toml", "--profile", 2)
            assert done.returncode == 0, done.stderr
            printed.write_text(done.stdout)
    assert printed.exists(), "another worker's run failed"
    return folder, printed.read_text()


@pytest.fixture
def held_out(finished):
    """The mask of the run's held-out case, and its CT."""
    folder, _ = finished
    (mask,) = (folder / "run" / "predictions").iterdir()
    case_id = mask.name.removesuffix(".nii.gz")
    return mask, folder / "data" / "phantom" / case_id / "imaging.nii.gz"


@pytest.fixture
def run_here(capsys, monkeypatch):
    """Run a command in this process: for what does not depend on having a process of its own."""

    def run_script(name, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / "bin" / f"{name}.py"), run_name="__main__")
        output = capsys.readouterr()
        return subprocess.CompletedProcess(sys.argv, end.value.code, output.out, output.err)

    return run_script
