"""Score a folder of predicted masks against the labels of a data set.

python bin/evaluate.py --predictions masks/ --dataset /data/kits21 --output scores/
"""

from pathlib import Path

from kitsjax.command import add_dataset, exit_with, make_parser, report_failures, run_command
from kitsjax.errors import USAGE_STATUS, InputError


def main() -> int:
    """Score the predictions, write the tables and print the means."""
    parser = make_parser(__doc__)
    parser.add_argument("--predictions", required=True, metavar="FOLDER", help="<case id>.nii.gz")
    add_dataset(parser)
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the tables")
    truths = ("both", "majority", "individual")
    parser.add_argument("--against", choices=truths, default="both", help="true labels")
    parser.add_argument("--split", metavar="FILE", help="score only this split's held-out cases")
    parser.add_argument("--allow-missing", action="store_true", help="score what is there")
    parser.add_argument("--write-samples", metavar="FOLDER", help="folder for annotation samples")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one for each core")
    args = parser.parse_args()
    if args.workers < 0:
        raise InputError("--workers: give a number of processes, or 0 for one for each core")

    from kitsjax.data.open_dataset import open_dataset
    from kitsjax.data.split import read_split
    from kitsjax.evaluate.evaluation import BOTH, evaluate
    from kitsjax.evaluate.write_results import FILE_NAMES, write_evaluation
    from kitsjax.files import check_folder
    from kitsjax.report.result_tables import score_table
    from kitsjax.report.table_format import to_text

    check_folder(args.output, "--output", FILE_NAMES)
    if samples := args.write_samples:
        check_folder(samples, "--write-samples")
    cases = open_dataset(args.dataset, args.layout, complete=False).cases
    ids = [case.case_id for case in cases]
    asked = read_split(args.split, ids).held_out if args.split else ids
    cases = [case for case in cases if case.case_id in asked]
    against = BOTH if args.against == "both" else (args.against,)
    found = evaluate(cases, args.predictions, against, args.workers, samples, ids, args.output)
    place = Path(args.output).resolve() if found.scores else "nothing is written"
    if found.scores:
        write_evaluation(args.output, found)
        print(f"\n{to_text(score_table(found))}\n")
    print(f"{len(found.case_ids)} of {sum(c.has_truth for c in cases)} cases scored: {place}")
    failed = [message for _, message in found.failures]
    if not args.allow_missing:
        advice = "no prediction; predict it, or pass --allow-missing"
        failed += [f"{case}: {advice}" for case in found.missing]
    return report_failures(failed) or (0 if found.scores else USAGE_STATUS)


if __name__ == "__main__":
    exit_with(run_command(main))
