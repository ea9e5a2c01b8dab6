"""Download a KiTS data set: CTs and labels, checked, and resumed after an interruption.

python bin/download.py --output /data/kits21
python bin/download.py --output /data/kits23 --dataset kits23 --cases 0-9,12
"""

from kitsjax.command import exit_with, make_parser, report_failures, run_command
from kitsjax.download.catalog import DATA_SETS, parse_cases
from kitsjax.errors import InputError


def main() -> int:
    """Download what is missing; return 2 if a file could not be had."""
    parser = make_parser(__doc__)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the cases")
    parser.add_argument("--cases", metavar="LIST", help="numbers such as 0-9,12; default: all")
    names = tuple(DATA_SETS)
    parser.add_argument("--dataset", choices=names, default=names[0], help="default: kits21")
    parser.add_argument("--workers", type=int, default=4, help="files at once; default: 4")
    args = parser.parse_args()
    if args.workers < 1:
        raise InputError("--workers: give a number of files to download at once, 1 or more")

    from kitsjax.download.download import download

    data_set = DATA_SETS[args.dataset]
    done = download(args.output, data_set, parse_cases(args.cases, data_set), args.workers)
    whole, place = done.there + done.new, done.output.resolve()
    failed = sum(map(len, done.failures.values()))
    print(f"{whole} of {whole + failed} files are whole, {done.new} of them new: {place}")
    if data_set.annotations:
        print(
            f"{data_set.name}'s individual annotations are not among them: clone "
            f"{data_set.clone} and copy {data_set.folder}/case_*/{data_set.annotations}"
        )
    return report_failures(done.describe_failures())


if __name__ == "__main__":
    exit_with(run_command(main))
