"""The rules of the layout: which room may import which, and how large things may be."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]

# A layer may import itself and every layer of a lower rank.
RANK = {
    "errors": 0, "labels": 0, "settings": 0, "types": 0, "config": 1, "files": 1, "parallel": 1,
    "devices": 2, "training_log": 2, "image": 3, "data": 4, "model": 4, "phantom": 5,
    "evaluate": 5, "infer": 5, "report": 6, "prepare": 6, "train": 8, "plan": 9, "command": 10,
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


def test_only_top_rooms_see_all_settings():
    allowed = {"config.py", "command.py", "bundle.py"}
    for path in sorted((ROOT / "kitsjax").rglob("*.py")):
        if path.parent.name in ("train", "plan") or path.name in allowed:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module == "kitsjax.settings":
                assert "Settings" not in {alias.name for alias in node.names}, path


def test_commands_are_short():
    for path in (ROOT / "bin").glob("*.py"):
        assert len(path.read_text().splitlines()) <= 60, path


def test_host_rooms_load_no_jax():
    code = (
        "import sys, kitsjax.command, kitsjax.evaluate.evaluation, kitsjax.prepare;"
        "import kitsjax.report.report;"
        "sys.exit('jax' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
