"""Notebooks run from top to bottom, and the committed files are complete, clean and small."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FLAG_OF_THE_TESTS = "--xla_force_host_platform_device_count=8"
MOST_BYTES = 1_000_000
RUN_S = 900

# Two names or more from the root of a disk on, not part of a URL, a relative path or a tag.
A_PATH = re.compile(r"(?<![\w.~:/<-])/[\w.-]+/[\w.-]+|\b[A-Z]:\\\w+")
AN_ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")

every_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The documented command on a copy of the notebooks, as on a machine of its own."""
    environment = os.environ | {
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "").replace(FLAG_OF_THE_TESTS, "").strip(),
        # No kernels, profile or start-up files of the person who runs the tests.
        "IPYTHONDIR": str(folder.parent / "ipython"),
        "JUPYTER_DATA_DIR": str(folder.parent / "jupyter"),
    }
    command = [sys.executable, str(folder / "run.py"), *arguments]
    return subprocess.run(
        command, env=environment, timeout=RUN_S, capture_output=True, text=True, check=False
    )


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def texts(output) -> list[str]:
    """What an output says, in each of its formats but images."""
    data = {kind: text for kind, text in output.get("data", {}).items() if "image" not in kind}
    return [str(text) for text in (*data.values(), output.get("text", ""))]


def check_saved(path: Path) -> None:
    """What holds for every notebook as committed, and as the command leaves it."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert path.stat().st_size < MOST_BYTES, "figures of fewer dots, please"
    assert notebook.metadata == {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }, "run notebooks/run.py, which leaves the machine's metadata out"
    assert all(cell.metadata == {} for cell in notebook.cells)
    title = notebook.cells[0]
    assert title.cell_type == "markdown"
    assert title.source.startswith("# ")
    cells = code_cells(notebook)
    counts = [cell.execution_count for cell in cells]
    assert counts == list(range(1, len(cells) + 1)), "run notebooks/run.py: not run in one go"
    outputs = [output for cell in cells for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs), "no figure"
    for output in outputs:
        assert output.output_type != "error"
        assert output.get("name") != "stderr"
        for text in texts(output):
            assert not A_PATH.search(text), A_PATH.search(text)
            assert not AN_ADDRESS.search(text), "not the same in the next run"


@pytest.fixture
def copied(tmp_path):
    """The notebooks' folder elsewhere, with nothing of the checkout around it."""
    return shutil.copytree(FOLDER, tmp_path / "notebooks")


def write_notebook(path: Path, *sources: str) -> Path:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    nbformat.write(notebook, path)
    return path


@every_notebook
def test_committed_notebook_is_clean(path):
    check_saved(path)


@pytest.mark.slow
@every_notebook
def test_notebook_runs_from_top_to_bottom(path, copied):
    before = sorted(copied.rglob("*"))
    done = run(copied, str(copied / path.name))
    assert done.returncode == 0, done.stderr
    check_saved(copied / path.name)
    sources = [
        [cell.source for cell in nbformat.read(folder / path.name, as_version=4).cells]
        for folder in (FOLDER, copied)
    ]
    assert sources[0] == sources[1]
    assert sorted(copied.rglob("*")) == before, "a notebook writes to temporary folders only"


def test_failing_cell_is_named_nothing_saved(copied):
    path = write_notebook(copied / "bad.ipynb", "x = 1", "y = x / 0  # here", "z = 1")
    before = path.read_bytes()
    done = run(copied, str(path))
    assert done.returncode == 1
    assert "bad.ipynb, cell 1" in done.stderr
    assert "y = x / 0  # here" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert path.read_bytes() == before


def test_a_name_without_a_notebook_is_one_line(copied):
    done = run(copied, "inference")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "inference: no such notebook; give its path, with .ipynb" in done.stderr


def test_a_cell_that_hangs_is_stopped(copied):
    path = write_notebook(copied / "slow.ipynb", "import time; time.sleep(100)  # here")
    done = run(copied, str(path), "--timeout", "1")
    assert done.returncode == 1
    assert "time.sleep(100)  # here" in done.stderr


def test_a_dead_kernel_is_named(copied):
    path = write_notebook(copied / "dead.ipynb", "import os; os._exit(3)  # here")
    done = run(copied, str(path))
    assert done.returncode == 1
    assert "the kernel died in\nimport os; os._exit(3)  # here" in done.stderr


def test_saved_notebook_is_reproducible(copied):
    """What is saved is the same in every run and names nothing of the machine."""
    path = write_notebook(
        copied / "twice.ipynb",
        "import sys, warnings\nprint('\\rcase 1/2', file=sys.stderr)\nwarnings.warn('mind this')",
        "print('kept')",
    )
    saved = []
    for _ in range(2):
        done = run(copied, str(path))
        assert "mind this" in done.stderr
        saved.append(path.read_text())
    assert saved[0] == saved[1]
    assert "kept" in saved[0]
    assert '"stderr"' not in saved[0]
    assert "version" not in saved[0]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("written to /" + "home/ann/x.nii.gz", True),
        ("PosixPath('/" + "data/kits21')", True),
        (r"C:\Users", True),
        ("<td>0.5</td><td>1/2</td>", False),
        ("https://arxiv.org/abs/1", False),
        ("majority/individual 0.9/0.8", False),
        ("report/figure_4.png", False),
    ],
)
def test_paths_of_a_machine_are_told_from_others(text, found):
    assert bool(A_PATH.search(text)) == found
