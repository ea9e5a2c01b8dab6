"""Report scored predictions: tables, figures and one HTML page.

python bin/report.py --scores scores/ --output report/ --compare paper
"""

import os
from pathlib import Path

from kitsjax.command import exit_with, make_parser, run_command
from kitsjax.training_log import LOG_NAME, read_epochs


def main() -> int:
    """Write the report and print Table 1; return the exit status."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--scores", required=True, metavar="FOLDER", help="folder that evaluate.py wrote"
    )
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the report")
    parser.add_argument("--compare", choices=("paper",), help="add the published scores to Table 1")
    parser.add_argument(
        "--run", metavar="FOLDER",
        help=f"run folder whose {LOG_NAME} Figure 2 draws; default: the folder above --scores",
    )  # fmt: skip
    parser.add_argument("--predictions", metavar="FOLDER", help="predictions, if they have moved")
    parser.add_argument("--dataset", metavar="FOLDER", help="data set, if it has moved")
    args = parser.parse_args()

    from kitsjax.errors import InputError
    from kitsjax.evaluate.read_results import read_evaluation
    from kitsjax.files import check_folder
    from kitsjax.report.report import write_report
    from kitsjax.report.result_tables import score_table
    from kitsjax.report.table_format import to_text
    from kitsjax.run_record import read_record

    check_folder(args.output, "--output")
    evaluation = read_evaluation(args.scores)
    run = Path(args.run or os.path.dirname(os.path.realpath(args.scores)))
    log = run / LOG_NAME
    if args.run and not log.is_file():
        raise InputError(f"{log}: no such training log; give --run the folder of a training run")
    epochs = read_epochs(log)
    record = read_record(run)
    kept = record.kept if record else None
    *_, page = write_report(
        evaluation, args.output, epochs, args.compare, args.predictions, args.dataset, kept
    )
    print(f"{to_text(score_table(evaluation, args.compare))}\n\nreport: {page.resolve()}")
    return 0


if __name__ == "__main__":
    exit_with(run_command(main))
