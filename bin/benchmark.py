"""Measure kitsjax beside its peers on this machine: a table in Markdown and JSON.

python -m pip install -e '.[bench]'
python bin/benchmark.py --output benchmark/
python bin/benchmark.py --output benchmark/ --only resample score
"""

import argparse
import signal
import sys
from pathlib import Path

from kitsjax.command import run_command


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", metavar="FOLDER", help="where the tables and figures go")
    parser.add_argument("--only", nargs="+", metavar="PART", help="these parts, in this order")
    parser.add_argument("--list", action="store_true", help="say what each part does, and exit")
    parser.add_argument(
        "--size", choices=("small", "full"),
        help="small: what two CPU cores can do; full: the paper's sizes; default: full on an "
        "accelerator, small elsewhere",
    )  # fmt: skip
    parser.add_argument(
        "--rounds", type=int, default=3, help="times that the sides take turns; default: 3"
    )
    parser.add_argument(
        "--work", metavar="FOLDER",
        help="for what the sides read and write, kept for another run; default: a temporary folder",
    )  # fmt: skip
    args = parser.parse_args()
    if not args.output and not args.list:
        parser.error("--output is needed, or --list")

    # A scheduler's time limit: as an interrupt, lest the peers go on without us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # The benchmarks lie beside the package and are not installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from benchmarks.benchmark import list_parts, run_benchmark

    if args.list:
        print(list_parts())
        return 0
    print(run_benchmark(args.output, args.only, args.size, args.rounds, args.work))
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
