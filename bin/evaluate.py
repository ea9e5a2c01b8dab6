"""Score a folder of predicted masks against a KiTS21, KiTS23 or KiTS19 folder.

python bin/evaluate.py --predictions masks/ --dataset /data/kits21 --output scores/
"""

import argparse
import sys
from pathlib import Path

from kitsjax.command import USAGE_STATUS, report_failures, run_command
from kitsjax.errors import InputError


def main() -> int:
    """Score the predictions, write the tables and print the means."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--predictions", required=True, metavar="FOLDER", help="masks named <case id>.nii.gz")
    add("--dataset", required=True, metavar="FOLDER", help="folder of case_XXXXX folders")
    add("--output", required=True, metavar="FOLDER", help="folder to write the tables to")
    add("--against", choices=("both", "majority", "individual"), default="both", help="true labels")
    add("--split", metavar="FILE", help="score only the held-out cases of this split.json")
    add("--allow-missing", action="store_true", help="accept cases without a prediction")
    add("--write-samples", metavar="FOLDER", help="folder to write the annotation samples to")
    add("--workers", type=int, default=0, help="number of processes; 0 starts one for each core")
    args = parser.parse_args()
    if args.workers < 0:
        raise InputError("--workers: give a number of processes, or 0 for one for each core")

    from kitsjax.data.kits import find_cases
    from kitsjax.data.split import read_split
    from kitsjax.evaluate.evaluation import BOTH, evaluate
    from kitsjax.evaluate.write_results import write_evaluation
    from kitsjax.files import check_folder
    from kitsjax.report.result_tables import score_table
    from kitsjax.report.table_format import to_text

    for folder in filter(None, (args.output, args.write_samples)):
        check_folder(folder)
    cases = find_cases(args.dataset, images=False)
    ids = [case.case_id for case in cases]
    asked = read_split(args.split, ids).held_out if args.split else ids
    cases = [case for case in cases if case.case_id in asked]
    against = BOTH if args.against == "both" else (args.against,)
    found = evaluate(cases, args.predictions, against, args.workers, args.write_samples, ids)
    place = Path(args.output).resolve() if found.scores else "nothing is written"
    if found.scores:
        write_evaluation(args.output, found)
        print(f"\n{to_text(score_table(found))}\n")
    print(f"{len(found.case_ids)} of {sum(c.has_truth for c in cases)} cases scored: {place}")
    failed = [message for _, message in found.failures]
    if not args.allow_missing:
        advice = "no prediction; predict it, or pass --allow-missing"
        failed += [f"{case}: {advice}" for case in found.missing]
    return report_failures(failed) if found.scores else report_failures(failed) or USAGE_STATUS


if __name__ == "__main__":
    sys.exit(run_command(main))
