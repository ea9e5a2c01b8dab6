"""Score a folder of predicted masks against the labels of a data set.

python bin/evaluate.py --predictions masks/ --dataset /data/kits21 --output scores/
"""

from dataclasses import replace
from pathlib import Path

from kitsjax.command import exit_with, make_dataset_parser, open_cases, report_failures, run_command
from kitsjax.errors import USAGE_STATUS, InputError


def main() -> int:
    """Score the predictions, write the tables and print the means."""
    parser = make_dataset_parser(__doc__)
    parser.add_argument("--predictions", required=True, metavar="FOLDER", help="<case id>.nii.gz")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="folder for the tables")
    truths = ("both", "majority", "individual")
    parser.add_argument("--against", choices=truths, default="both", help="true labels")
    parser.add_argument("--split", metavar="FILE", help="score only this split's held-out cases")
    parser.add_argument("--allow-missing", action="store_true", help="score what is there")
    parser.add_argument("--write-samples", metavar="FOLDER", help="folder for annotation samples")
    args = parser.parse_args()

    from kitsjax.data.split import read_split
    from kitsjax.evaluate.evaluation import BOTH, evaluate
    from kitsjax.evaluate.write_results import FILE_NAMES, write_evaluation
    from kitsjax.files import check_folder
    from kitsjax.report.result_tables import score_table
    from kitsjax.report.table_format import to_text

    check_folder(args.output, "--output", FILE_NAMES)
    if samples := args.write_samples:
        check_folder(samples, "--write-samples")
    cases, scheme = open_cases(args)
    ids = [case.case_id for case in cases]
    asked = read_split(args.split, ids).held_out if args.split else ids
    if not asked:
        raise InputError(f"{args.split or args.dataset}: holds out no case, so none is scored")
    cases = [case for case in cases if case.case_id in asked]
    against = BOTH if args.against == "both" else (args.against,)
    wanted = against, args.workers, samples, ids, args.output, scheme
    found = replace(evaluate(cases, args.predictions, *wanted), layout=args.layout)
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
