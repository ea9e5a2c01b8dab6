"""Parts that the commands in bin/ share: settings, notes on files, errors in one line."""

import argparse
import atexit
import errno
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn, get_args

from tqdm import tqdm

from kitsjax.config import load_settings, to_toml
from kitsjax.data.case import Case
from kitsjax.errors import USAGE_STATUS, InputError
from kitsjax.files import remove_unfinished
from kitsjax.huge_pages import use_huge_pages
from kitsjax.labels import LabelScheme
from kitsjax.processes import Shard, end_now
from kitsjax.settings import Layout, Settings
from kitsjax.signals import STOPPED_STATUSES, Stopped, ignore_signals, stop_on_signals

_ADVICE = {
    **dict.fromkeys((errno.ENOSPC, errno.EROFS, errno.EDQUOT), "choose a folder with room"),
    # Writing is tested by `files.check_folder` before.
    **dict.fromkeys((errno.EACCES, errno.EPERM), "make it readable"),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "move it away, or choose another folder"
    ),
}
"""Advice for each error number with which the system refuses to read or write."""

PIPE_STATUS = 141
"""Exit status when the reader of the output has gone, as shells report it (128 + SIGPIPE)."""


def make_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser that shows its description with the line breaks that it has."""
    return argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def settings_parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser with --config, --set and --print-config."""
    parser = make_parser(description)
    parser.add_argument("--config", metavar="FILE", help="settings in TOML; configs/ has presets")
    parser.add_argument(
        "--set", metavar="SECTION.FIELD=VALUE", action="append", default=[], dest="overrides",
        help="override one setting; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved settings and exit"
    )
    return parser


def add_shard(parser: argparse.ArgumentParser) -> None:
    """Add --shard, for array jobs of SLURM and indexed jobs of Kubernetes."""
    parser.add_argument(
        "--shard", metavar="I/N", type=_parse_shard, default=(0, 1),
        help="do only the I-th of N equal shares of the cases, I from 0 to N - 1: "
        "--shard $SLURM_ARRAY_TASK_ID/100 in an array job of 100",
    )  # fmt: skip


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Add --profile, whose value is a list of overrides as --set takes them."""
    parser.add_argument(
        "--profile", metavar="STEPS", type=_parse_profile, default=[],
        help="write a trace of so many training steps, after the first three, to profile/ in "
        "run.folder; Perfetto and xprof open it",
    )  # fmt: skip


def make_dataset_parser(doc: str | None) -> argparse.ArgumentParser:
    """Make a parser with the arguments of commands that read a data set without a run.

    `doc` is the command's docstring, as in `make_parser`.
    """
    parser = make_parser(doc)
    parser.add_argument("--dataset", required=True, metavar="FOLDER", help="folder of the cases")
    layout = "layout of the data set"
    parser.add_argument("--layout", choices=get_args(Layout), default="auto", help=layout)
    parser.add_argument(
        "--config", metavar="FILE",
        help="settings whose [labels] name the labels, and whose spacing check.py tests; default: "
        "the labels of the data set, or KiTS's, and 1.99 mm",
    )  # fmt: skip
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one for each core")
    return parser


def open_cases(args: argparse.Namespace) -> tuple[list[Case], LabelScheme]:
    """List the cases of the data set that `make_dataset_parser` asked for, and make its scheme.

    Raises:
        InputError: The data set or the settings cannot be read, they name other labels, or the
            number of workers is negative.
    """
    if args.workers < 0:
        raise InputError("--workers: give a number of processes, or 0 for one for each core")
    from kitsjax.data.open_dataset import open_dataset, resolve_scheme

    labels = load_settings(args.config).labels
    found = open_dataset(args.dataset, args.layout, complete=False)
    return found.cases, resolve_scheme(labels, found)


def _parse_shard(text: str) -> Shard:
    index, slash, count = text.partition("/")
    if not slash or not (index.isdecimal() and count.isdecimal() and int(index) < int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}: write I/N with I from 0 to N - 1, as in 0/8")
    return int(index), int(count)


def _parse_profile(text: str) -> list[str]:
    if not (text.isdecimal() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of training steps, from 1")
    return [f"run.profile_steps={int(text)}"]


def resolve_settings(args: argparse.Namespace) -> Settings:
    """Load the settings that the arguments ask for; with --print-config, print them and exit.

    Raises:
        InputError: The file or an override is not valid.
    """
    settings = load_settings(args.config, args.overrides)
    if args.print_config:
        print(to_toml(settings), end="")
        sys.exit(0)
    return settings


def report_failures(messages: Iterable[str]) -> int:
    """Print what failed, a line each, and return the exit status that it makes."""
    failed = list(messages)
    for message in failed:
        print(f"failed: {message}", file=sys.stderr)
    return USAGE_STATUS if failed else 0


class _NotePrinter(logging.Handler):
    """Print what the package logs, such as a note on a file, above any progress bar.

    A file that is read several times makes the same note each time, which is printed once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        try:
            note = record.getMessage()
            if note not in self._printed:
                self._printed.add(note)
                tqdm.write(f"note: {note}", file=sys.stderr)
        except Exception:
            self.handleError(record)


@contextmanager
def _printed_notes() -> Iterator[None]:
    """Print the package's notes to the terminal meanwhile, a line each."""
    logger, printer = logging.getLogger("kitsjax"), _NotePrinter()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(printer)
    try:
        yield
    finally:
        logger.removeHandler(printer)
        logger.propagate = propagate


def run_command(main: Callable[[], int], *, huge_pages: bool = False) -> int:
    """Run a command and return its exit status.

    A user's mistake, or a disk that is full or not writable, gives one line and status 2; what a
    repetition may mend gives one line and status 75 (`errors.RetryError`). A reader
    that closes the output early (`| head`) is no mistake: nothing is printed. SIGTERM gives status
    143 and Ctrl-C 130, after temporary files are removed and worker processes have ended.

    Args:
        main: does the work and returns an exit status.
        huge_pages: start the command again, if need be, so that large arrays lie in huge pages.
    """
    if huge_pages:
        use_huge_pages()
    # XLA and absl report their own workings at WARNING and below; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    # What is done stays done, while the libraries are unloaded.
    atexit.register(ignore_signals)
    # A file's name may hold bytes that are no UTF-8, or characters that the terminal lacks.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        with _printed_notes(), stop_on_signals():
            status = main()
        # It is None where the shell closed it (>&-).
        if sys.stdout:
            sys.stdout.flush()
        return status
    except InputError as error:
        message, status = str(error), error.status
    except BrokenPipeError:
        # Python flushes the output again at exit; without this it would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_STATUS
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        message = f"{error.filename or 'output'}: {error.strerror}; {advice}"
        status = USAGE_STATUS
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        return stopped.status
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return STOPPED_STATUSES[signal.SIGINT]
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    return status


def exit_with(status: int) -> NoReturn:
    """End the process of a command with the status of `run_command`.

    Where a signal stopped the command, Python's own clean-up is left out: it crashes in JAX if the
    signal came while JAX compiled, and waits for threads that read, which may hang. Threads that
    write are not waited for either, so their temporary files are removed here.
    """
    if status in STOPPED_STATUSES.values():
        remove_unfinished()
        end_now(status)
    sys.exit(status)
