"""The rules of the layout: which package may import which, and how large things may be."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# A layer may import itself and every layer of a lower rank.
RANK = {
    "cores": 0, "errors": 0, "huge_pages": 0, "labels": 0, "processes": 0, "settings": 0,
    "types": 0, "files": 1, "failures": 1, "input_file": 1, "make_scheme": 1, "signals": 1,
    "config": 2, "devices": 2, "host_end": 2, "hosts": 2, "process_pool": 2, "run_lock": 2,
    "run_record": 2, "training_log": 2, "host_watch": 3, "image": 3, "data": 4, "dicom": 4,
    "model": 4, "phantom": 5, "download": 5, "evaluate": 5, "infer": 5, "report": 6, "prepare": 6,
    "check": 7, "tune": 7, "train": 8, "plan": 9, "command": 10,
}  # fmt: skip


def imports(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def layer(module: str) -> str:
    return module.split(".")[1]


def test_imports_go_downward_only():
    for path in sorted((ROOT / "kitsjax").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts == ("kitsjax", "__init__"):
            continue
        own = parts[1]
        for name in imports(path):
            if name.startswith("kitsjax."):
                other = layer(name)
                assert other == own or RANK[other] < RANK[own], f"{path} imports {name}"


def test_only_top_packages_see_all_settings():
    allowed = {"config.py", "command.py", "bundle.py"}
    for path in sorted((ROOT / "kitsjax").rglob("*.py")):
        if path.parent.name in ("train", "plan") or path.name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "kitsjax.settings":
                assert "Settings" not in {alias.name for alias in node.names}, path


KITS_IN = {
    "kitsjax/config.py": "the labels of a data set that names none",
    "kitsjax/make_scheme.py": "the same",
    "kitsjax/prepare.py": "the same; and individual annotations are KiTS21's",
    "kitsjax/data/cache.py": "names of folders from before there were other schemes",
    "kitsjax/data/preprocess_case.py": "the default of an argument",
    "kitsjax/data/preprocess_cases.py": "the default of an argument",
    "kitsjax/data/instances.py": "individual annotations are KiTS21's",
    "kitsjax/data/annotation_samples.py": "individual annotations are KiTS21's",
    "kitsjax/data/paint_instances.py": "individual annotations are KiTS21's",
    "kitsjax/model/losses.py": "the default of an argument, for a reader's own loop",
    "kitsjax/data/dataset_json.py": "labels of KiTS's names have KiTS's evaluation classes",
    "kitsjax/data/open_dataset.py": "the labels of a data set that names none",
    "kitsjax/model/unet.py": "the default of an argument, for a reader's own loop",
    "kitsjax/train/step.py": "the default of an argument, for a reader's own loop",
    "kitsjax/infer/trained_model.py": "the default of an argument",
    "kitsjax/evaluate/evaluation.py": "the default of an argument",
    "kitsjax/evaluate/hu_threshold.py": "the default of an argument",
    "kitsjax/evaluate/score_volumes.py": "the default of an argument",
    "kitsjax/evaluate/results.py": "the default of an attribute",
    "kitsjax/evaluate/read_results.py": "scores from before there were other schemes",
    "kitsjax/report/definitions.py": "tolerances that KiTS21 publishes",
    "kitsjax/report/mean_scores.py": "scores that were published of KiTS21",
    "kitsjax/report/result_tables.py": "the default of an argument",
    "kitsjax/report/slices.py": "the paper's colors in words",
    "kitsjax/check/check_cases.py": "the default of an argument",
    "kitsjax/check/write_check.py": "the default of an argument",
}
"""Modules that know KiTS's label scheme, and why; the others of these rooms take a scheme."""

OWN_TO_KITS = {"KIDNEY", "TUMOR", "CYST"}
"""Names of `kitsjax.labels` that are true of KiTS alone."""


def test_rooms_know_no_labels():
    """From the settings to the report the labels come from a scheme."""
    rooms = [
        "settings",
        "config",
        "make_scheme",
        "prepare",
        "data",
        "model",
        "infer",
        "train",
        "tune",
        "plan",
        "evaluate",
        "report",
        "check",
        "dicom",
    ]
    paths = [p for room in rooms for p in (ROOT / "kitsjax").glob(f"{room}.py")]
    paths += [p for room in rooms for p in (ROOT / "kitsjax" / room).rglob("*.py")]
    users = set()
    for path in sorted(paths):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "kitsjax.labels":
                names = {alias.name for alias in node.names}
                assert not names & OWN_TO_KITS, path
                users |= {path.relative_to(ROOT).as_posix()} if "KITS" in names else set()
    assert users == set(KITS_IN)


def test_commands_are_short():
    for path in (ROOT / "bin").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path


def test_host_packages_load_no_jax():
    code = (
        "import sys, kitsjax.command, kitsjax.evaluate.evaluation, kitsjax.prepare;"
        "import kitsjax.report.report, kitsjax.download.download;"
        "import kitsjax.report.report, kitsjax.check.write_check, kitsjax.check.check_cases;"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


MOST_LINES, MOST_CODE = 250, 40
LONGER = {"settings.py"}  # every setting in one place


def code_lines(function: ast.FunctionDef, lines: list[str]) -> int:
    """Count the lines of a function without its docstring, blank lines and comments."""
    first = function.body[0]
    documented = ast.get_docstring(function) is not None
    docstring = range(first.lineno, (first.end_lineno or 0) + 1) if documented else range(0)
    numbers = range(function.lineno, (function.end_lineno or 0) + 1)
    texts = (lines[n - 1].strip() for n in numbers if n not in docstring)
    return sum(bool(text) and not text.startswith("#") for text in texts)


def test_files_hold_one_concept_and_functions_fit():
    """A file has at most 250 lines and a function 40, which is about a screen."""
    for folder in ("kitsjax", "bin", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            lines = path.read_text().splitlines()
            assert len(lines) <= MOST_LINES or path.name in LONGER, path
            for node in ast.walk(ast.parse("\n".join(lines))):
                if isinstance(node, ast.FunctionDef):
                    assert code_lines(node, lines) <= MOST_CODE, f"{path}: {node.name}"


def test_readme_fits_and_starts_with_its_commands():
    """A visitor finds what it is, a picture and the two commands on the first screen."""
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 140
    commands = [line for line in lines[:20] if line.startswith("python -m pip install")]
    assert [("train.py" in line, "pytest" in line) for line in commands] == [
        (True, False), (False, True),
    ]  # fmt: skip
    assert any(line.startswith("![") for line in lines[:10])


def test_names_of_tests_are_short():
    """A test's name has at most 45 characters; its reason is its docstring."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                assert len(node.name) <= 45, f"{path}: {node.name}"
