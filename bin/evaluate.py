"""Score a folder of predicted masks against a KiTS21, KiTS23 or KiTS19 folder.

python bin/evaluate.py --predictions masks/ --dataset /data/kits21 --output scores/
"""

import argparse
import sys
from pathlib import Path

from kitsjax.command import USAGE_STATUS, run_command
from kitsjax.errors import InputError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", required=True, metavar="FOLDER", help="<case id>.nii.gz")
    parser.add_argument("--dataset", required=True, metavar="FOLDER", help="folder of case_XXXXX")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the tables go")
    parser.add_argument("--against", choices=("majority", "individual", "both"), default="both")
    parser.add_argument("--split", metavar="FILE", help="held-out cases of a split.json only")
    parser.add_argument("--allow-missing", action="store_true", help="score what is there")
    parser.add_argument("--write-samples", metavar="FOLDER", help="write the samples as files, too")
    parser.add_argument("--workers", type=int, default=0, help="processes (0: one a core)")
    args = parser.parse_args()
    if args.workers < 0:
        raise InputError("--workers: give a number of processes, or 0 for one a core")

    from kitsjax.data.kits import find_cases
    from kitsjax.data.split import read_split
    from kitsjax.evaluate.evaluation import BOTH, evaluate
    from kitsjax.evaluate.results import write_evaluation
    from kitsjax.files import check_folder
    from kitsjax.report.result_tables import score_table
    from kitsjax.report.table_format import to_text

    for folder in filter(None, (args.output, args.write_samples)):
        check_folder(folder)
    cases = find_cases(args.dataset, images=False)
    ids = [case.case_id for case in cases]
    if args.split:
        held_out = read_split(args.split, ids).held_out
        cases = [case for case in cases if case.case_id in held_out]
    against = BOTH if args.against == "both" else (args.against,)
    found = evaluate(cases, args.predictions, against, args.workers, args.write_samples, ids)
    place = str(Path(args.output).resolve()) if found.scores else "nothing is written"
    if found.scores:
        write_evaluation(args.output, found)
        print(f"\n{to_text(score_table(found))}\n")
    print(f"{len(found.case_ids)} of {sum(c.has_truth for c in cases)} cases scored: {place}")
    failed = [message for _, message in found.failures]
    if not args.allow_missing:
        failed += [f"{case}: no prediction; --allow-missing goes without" for case in found.missing]
    for message in failed:
        print(f"failed: {message}", file=sys.stderr)
    return USAGE_STATUS if failed or not found.scores else 0


if __name__ == "__main__":
    sys.exit(run_command(main))
