"""Run notebooks from top to bottom in fresh kernels and save them with their outputs.

python notebooks/run.py
python notebooks/run.py notebooks/report.ipynb

Two runs on one machine give the same file: times, progress bars and the machine's own metadata are
left out. A notebook whose cell fails is left as it was, the cell and its error are printed, and the
exit status is 1.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from traitlets.config import Config

from kitsjax.command import exit_with, run_command
from kitsjax.errors import InputError
from kitsjax.files import check_file, write_text

TIMEOUT_S = 600
"""Seconds that a cell may take."""

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("notebooks", nargs="*", type=Path, help="default: all of this folder")
    parser.add_argument("--timeout", type=int, default=TIMEOUT_S, help="seconds a cell may take")
    args = parser.parse_args()

    failed = False
    for path in args.notebooks or sorted(Path(__file__).parent.glob("*.ipynb")):
        print(path, flush=True)
        if not path.is_file():
            raise InputError(f"{path}: no such notebook; give its path, with .ipynb")
        check_file(path, "a copy of the notebooks")
        if message := run_notebook(path, args.timeout):
            print(f"failed: {path}, {message}", file=sys.stderr)
            failed = True
    return int(failed)


def run_notebook(path: Path, timeout_s: int) -> str:
    """Run a notebook in its own folder and save it; returns what went wrong, "" if nothing did."""
    notebook = nbformat.read(path, as_version=4)
    reached: list[int] = []
    with tempfile.TemporaryDirectory() as sockets:
        # Through files, so that no network is needed, not even the machine's own.
        talk = {"transport": "ipc", "ip": f"{sockets}/kernel"}
        client = NotebookClient(
            notebook,
            kernel_name="python3",
            config=Config({"KernelManager": talk}),
            timeout=timeout_s,
            record_timing=False,
            coalesce_streams=True,
            resources={"metadata": {"path": str(path.resolve().parent)}},
            on_cell_execute=lambda cell, cell_index: reached.append(cell_index),
        )
        try:
            client.execute()
        except (CellExecutionError, CellTimeoutError) as error:
            return f"cell {reached[-1]}: {error}"
        except DeadKernelError:
            return f"cell {reached[-1]}: the kernel died in\n{notebook.cells[reached[-1]].source}"
    clean_notebook(notebook)
    nbformat.validate(notebook)
    write_text(path, nbformat.writes(notebook) + "\n")
    return ""


def clean_notebook(notebook: nbformat.NotebookNode) -> None:
    """Take out what is of this machine or this hour alone; print the warnings among it."""
    notebook.metadata = nbformat.from_dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            errors = [output for output in cell.outputs if output.get("name") == "stderr"]
            cell.outputs = [output for output in cell.outputs if output not in errors]
            # Progress bars rewrite their line; a warning should not go unseen.
            for line in "".join(output.text for output in errors).split("\n"):
                if line and "\r" not in line:
                    print(line, file=sys.stderr)


if __name__ == "__main__":
    exit_with(run_command(main))
