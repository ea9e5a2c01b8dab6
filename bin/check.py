"""Check the cases of a data set before training on them.

python bin/check.py --dataset /data/kits21 --output check/

Exit status: 0 without errors (warnings do not count), 1 with errors, 2 if nothing was checked.
"""

import time
from pathlib import Path

from kitsjax.command import add_dataset, exit_with, make_parser, run_command
from kitsjax.errors import InputError

ERROR_STATUS = 1
"""Exit status if a case has an error."""


def main() -> int:
    """Check the cases, write table and page, and print what is wrong."""
    parser = make_parser(__doc__)
    add_dataset(parser)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the page")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one for each core")
    args = parser.parse_args()
    if args.workers < 0:
        raise InputError("--workers: give a number of processes, or 0 for one for each core")

    from kitsjax.check.check_cases import check_cases
    from kitsjax.check.findings import ERROR
    from kitsjax.check.tables import describe_totals, fault_lines
    from kitsjax.check.write_check import PAGE_NAME, TABLE_NAME, write_check
    from kitsjax.data.open_dataset import open_dataset
    from kitsjax.data.require_files import note_other_folders
    from kitsjax.files import check_folder

    check_folder(args.output, "--output", (TABLE_NAME, PAGE_NAME))
    cases = open_dataset(args.dataset, args.layout, complete=False).cases
    note_other_folders(args.dataset, cases)
    start = time.perf_counter()
    checked = check_cases(cases, args.output, args.workers)
    seconds = time.perf_counter() - start
    page = write_check(checked, args.output, Path(args.dataset).resolve().name)
    print("\n".join(["", *fault_lines(checked), "", describe_totals(checked)]))
    print(f"{seconds / len(cases):.2g} s a case, {seconds:.0f} s in all; page: {page.resolve()}")
    return ERROR_STATUS if any(case.grade == ERROR for case in checked) else 0


if __name__ == "__main__":
    exit_with(run_command(main))
