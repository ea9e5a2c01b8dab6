"""Score a folder of predicted masks against a KiTS21, KiTS23 or KiTS19 folder.

python bin/evaluate.py --predictions masks/ --dataset /data/kits21 --output scores/
"""

import argparse
import sys
from pathlib import Path

from kitsjax.command import USAGE_STATUS, guarded
from kitsjax.data.kits import find_cases, read_split
from kitsjax.evaluate.evaluation import BOTH, evaluate
from kitsjax.evaluate.results import INDIVIDUAL, MAJORITY, write_evaluation
from kitsjax.report.table import to_text
from kitsjax.report.tables import score_table


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--predictions", required=True, metavar="FOLDER", help="<case id>.nii.gz")
    parser.add_argument("--dataset", required=True, metavar="FOLDER", help="folder of case_XXXXX")
    parser.add_argument("--output", required=True, metavar="FOLDER", help="where the tables go")
    parser.add_argument(
        "--against", choices=[MAJORITY, INDIVIDUAL, "both"], default="both",
        help="the majority label, the official annotation samples, or both (default)",
    )  # fmt: skip
    parser.add_argument(
        "--split", metavar="FILE", help="score the held-out cases of a run's split.json only"
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="score what is there, and say how many"
    )
    parser.add_argument(
        "--write-samples", metavar="FOLDER", help="write the annotation samples as files, too"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes (0: one a core)")
    args = parser.parse_args()

    cases = find_cases(args.dataset, images=False)
    if args.split:
        held_out = read_split(args.split, [case.case_id for case in cases]).held_out
        cases = [case for case in cases if case.case_id in held_out]
    against = BOTH if args.against == "both" else (args.against,)
    found = evaluate(cases, args.predictions, against, args.workers, args.write_samples)
    if found.scores:
        write_evaluation(args.output, found)
        print(f"\n{to_text(score_table(found))}\n")
    print(f"{len(found.case_ids)} of {len(cases)} cases scored: {Path(args.output).resolve()}")
    failed = [message for _, message in found.failures]
    if not args.allow_missing:
        failed += [f"{case}: no prediction; --allow-missing goes without" for case in found.missing]
    for message in failed:
        print(f"failed: {message}", file=sys.stderr)
    return USAGE_STATUS if failed or not found.scores else 0


if __name__ == "__main__":
    sys.exit(guarded(main))
