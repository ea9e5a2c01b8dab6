"""Check the cases of a data set before training on them.

python bin/check.py --dataset /data/kits21 --output check/

Exit status: 0 without errors (warnings do not count), 1 with errors, 2 if nothing was checked.
"""

import time
from pathlib import Path

from kitsjax.command import exit_with, make_dataset_parser, open_cases, run_command

ERROR_STATUS = 1
"""Exit status if a case has an error."""


def main() -> int:
    """Check the cases, write table and page, and print what is wrong."""
    parser = make_dataset_parser(__doc__)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the page")
    args = parser.parse_args()

    from kitsjax.check.check_cases import check_cases
    from kitsjax.check.findings import ERROR
    from kitsjax.check.tables import describe_totals, fault_lines
    from kitsjax.check.write_check import PAGE_NAME, TABLE_NAME, write_check
    from kitsjax.config import load_settings
    from kitsjax.data.require_files import note_unused
    from kitsjax.files import check_folder

    check_folder(args.output, "--output", (TABLE_NAME, PAGE_NAME))
    cases, scheme = open_cases(args)
    note_unused(args.dataset, cases)
    spacing_mm = load_settings(args.config).preprocess.spacing_mm
    start = time.perf_counter()
    checked = check_cases(cases, args.output, args.workers, scheme=scheme, spacing_mm=spacing_mm)
    seconds = time.perf_counter() - start
    page = write_check(checked, args.output, Path(args.dataset).resolve().name, scheme)
    print("\n".join(["", *fault_lines(checked), "", describe_totals(checked)]))
    print(f"{seconds / len(cases):.2g} s a case, {seconds:.0f} s in all; page: {page.resolve()}")
    return ERROR_STATUS if any(case.grade == ERROR for case in checked) else 0


if __name__ == "__main__":
    exit_with(run_command(main))
