"""What the commands in bin/ share: settings on the command line, and errors in one line."""

import argparse
import errno
import os
import sys
from collections.abc import Callable

from kitsjax.config import load_settings, to_toml
from kitsjax.errors import InputError
from kitsjax.settings import Settings

USAGE_STATUS = 2
"""Exit status for a user's mistake, as argparse has it."""

_ADVICE = {
    **dict.fromkeys(
        (errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT), "choose a folder with room"
    ),
    **dict.fromkeys(
        (errno.ENOTDIR, errno.EEXIST, errno.EISDIR), "move it away, or choose another folder"
    ),
}
"""By what the system refused with."""

PIPE_STATUS = 141
"""Of a command whose reader went away, as a shell tells it of Unix tools (128 + SIGPIPE)."""


def settings_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with --config, --set and --print-config."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", metavar="FILE", help="settings in TOML, see configs/")
    parser.add_argument(
        "--set", metavar="SECTION.FIELD=VALUE", action="append", default=[], dest="overrides",
        help="override one setting; may be given several times",
    )  # fmt: skip
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved settings and exit"
    )
    return parser


def resolve_settings(args: argparse.Namespace) -> Settings:
    """The settings that the arguments ask for; prints them and exits for --print-config.

    Raises:
        InputError: see `load_settings`.
    """
    settings = load_settings(args.config, args.overrides)
    if args.print_config:
        print(to_toml(settings), end="")
        sys.exit(0)
    return settings


def run_command(main: Callable[[], int]) -> int:
    """Run a command: a user's mistake, or a full or forbidden disk, is one line and status 2.

    A reader of its output that has enough (`| head`) is no mistake: nothing is said.
    """
    # XLA and absl report their own workings at WARNING and below; errors still show.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    try:
        status = main()
        # None where it was closed (>&-).
        if sys.stdout:
            sys.stdout.flush()
        return status
    except InputError as error:
        message = str(error)
    except BrokenPipeError:
        # What is still to be flushed at exit goes nowhere, without another complaint.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_STATUS
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0)
        if advice is None:
            raise
        message = f"{error.filename or 'output'}: {error.strerror}; {advice}"
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"{os.path.basename(sys.argv[0])}: {message}", file=sys.stderr)
    return USAGE_STATUS
