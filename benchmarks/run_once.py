"""Work that is done once: its result is kept, and with it what the result depends on."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kitsjax.files import write_text


def run_once(folder: Path, name: str, asked: dict[str, Any], work: Callable[[], Any]) -> Any:
    """Return what `work` returns; if it ran to its end before, what it returned then.

    Args:
        folder: folder of the work's outputs. It is made empty before the work begins.
        name: file of the folder that keeps the result.
        asked: what the result depends on. If it differs from what it was, the work is done anew.
        work: returns what JSON can keep.
    """
    path = folder / name
    if path.exists():
        kept = json.loads(path.read_text())
        if kept["asked"] == asked:
            return kept["result"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    result = work()
    write_text(path, json.dumps({"asked": asked, "result": result}, indent=1) + "\n")
    return result
