"""Measure kitsjax beside its baselines on this machine: a table in Markdown and JSON.

python -m pip install -e '.[bench]'
python bin/benchmark.py --output benchmark/
python bin/benchmark.py --output benchmark/ --only resample score
"""

import sys
from pathlib import Path

# The benchmarks lie beside the package and are not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from kitsjax.command import exit_with, make_parser, run_command


def main() -> int:
    """Read the options and run the benchmarks; return the exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--output", metavar="FOLDER", help="folder of the tables and figures")
    only = "run only these benchmarks, in this order"
    parser.add_argument("--only", nargs="+", metavar="BENCHMARK", help=only)
    parser.add_argument("--list", action="store_true", help="list the benchmarks, and exit")
    parser.add_argument(
        "--size", choices=("small", "full"),
        help="small: sizes for two CPU cores; full: the paper's sizes; default: full on an "
        "accelerator, small elsewhere",
    )  # fmt: skip
    rounds = "times that kitsjax and its baselines take turns, learn: number of seeds; default: 3"
    parser.add_argument("--rounds", type=int, default=3, help=rounds)
    parser.add_argument(
        "--work", metavar="FOLDER",
        help="folder of inputs and outputs, kept for another run; learn needs it; default: a "
        "temporary folder",
    )  # fmt: skip
    parser.add_argument("--config", metavar="FILE", help="learn, forms: settings of a run")
    parser.add_argument(
        "--set", metavar="SECTION.FIELD=VALUE", action="append", default=[], dest="overrides",
        help="learn, forms: override a setting, such as data.root=/data/kits21; can be repeated",
    )  # fmt: skip
    parser.add_argument("--test", metavar="FOLDER", help="learn: more cases to test on")
    rates = "learn: learning rates of nnU-Net; default: its own, 0.01"
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01], help=rates)
    args = parser.parse_args()
    if not args.output and not args.list:
        parser.error("--output is needed, or --list")

    from benchmarks.learn_task import LearnOptions
    from benchmarks.suite import list_benchmarks, run_suite

    if args.list:
        print(list_benchmarks())
        return 0
    learn = LearnOptions(args.config, args.overrides, args.test, args.rates)
    print(run_suite(args.output, args.only, args.size, args.rounds, args.work, learn))
    return 0


if __name__ == "__main__":
    exit_with(run_command(main))
