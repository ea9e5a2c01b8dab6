"""Damaged checkpoints are moved away, since the run will use their numbers again.

Unfinished ones, which a killed save left, are removed.
"""

import logging
import shutil
from collections.abc import Mapping
from pathlib import Path

from kitsjax.errors import InputError
from kitsjax.hosts import barrier, is_main
from kitsjax.train.checkpoint_record import Progress

_logger = logging.getLogger(__name__)

_UNFINISHED = ".orbax-checkpoint-tmp"
"""Orbax writes a checkpoint to a folder with this behind its number, and renames that at the end.

Its own option `cleanup_tmp_directories` fails every later save if one of them cannot be removed.
"""


def remove_unfinished(folder: Path) -> None:
    """Remove the checkpoints that killed saves left unfinished, as far as the system lets it.

    All processes of the run may call it before their first save, which waits for the main process;
    that one removes. Nobody else writes there: the run folder's lock belongs to the run.
    """
    for path in folder.glob(f"*{_UNFINISHED}*") if is_main() else ():
        shutil.rmtree(path, ignore_errors=True)


def set_aside(folder: Path, damaged: Mapping[int, InputError], used: int, good: Progress) -> None:
    """Move damaged checkpoints to `<folder>.damaged`, and report each with its outcome.

    All processes of the run call it; the main process moves.

    Args:
        folder: folder of the checkpoints.
        damaged: what is wrong with each, by number.
        used: number of the checkpoint that the run goes on from.
        good: where the run stood then.
    """
    barrier("damaged checkpoints are known")
    aside = folder.with_name(f"{folder.name}.damaged")
    later = f"the run goes on from step {good.step}, so that later steps are made again"
    older = "if it was the best one, the best of the others takes its place"
    for number, error in damaged.items() if is_main() else ():
        place = _free_name(aside / str(number))
        aside.mkdir(exist_ok=True)
        (folder / str(number)).rename(place)
        _logger.warning("%s; moved to %s; %s", error, place, later if number > used else older)
    barrier("damaged checkpoints are moved")


def _free_name(path: Path) -> Path:
    """Return the path, or one with a number behind it if something is there already."""
    names = (path.with_name(f"{path.name}-{n}") if n else path for n in range(10_000))
    return next(name for name in names if not name.exists())
