"""Choose the post-processing of a run's models by the predictions of its held-out cases.

python bin/postprocess.py --run runs/kits21
python bin/postprocess.py --run runs/kits21 --apply
"""

from kitsjax.command import exit_with, make_parser, report_failures, run_command
from kitsjax.errors import InputError


def main() -> int:
    """Try the steps, print what they change, and store them with --apply."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--run", required=True, metavar="FOLDER", help="folder of a finished run, or of all folds"
    )
    parser.add_argument("--apply", action="store_true", help="store the choice in the model files")
    parser.add_argument("--dataset", default="", metavar="FOLDER", help="data set, if it has moved")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one for each core")
    args = parser.parse_args()
    if args.workers < 0:
        raise InputError("--workers: give a number of processes, or 0 for one for each core")

    from kitsjax.report.table_format import to_text
    from kitsjax.tune.choose_steps import LEAST_CASES, trial_table
    from kitsjax.tune.tune_run import apply_steps, tune_run

    found = tune_run(args.run, args.dataset, args.workers)
    print(f"\n{to_text(trial_table(found.rounds, found.cases, found.scheme))}\n")
    if found.cases < LEAST_CASES:
        print(f"no step is chosen: {found.cases} cases are too few to tell from chance")
    elif not found.steps:
        print("no step is chosen: none raises the scores beyond chance")
    else:
        steps = ", ".join(f"predict.{name} = {value}" for name, value in found.steps.items())
        low, high = found.gain.low, found.gain.high
        print(f"chosen: {steps} ({found.gain.mean:+.4f}, 95 % {low:+.4f} to {high:+.4f})")
    if args.apply and found.steps:
        apply_steps(found)
        print(f"stored in {len(found.runs)} model file(s); bin/train.py --resume predicts with it")
    elif found.steps:
        print("nothing is stored; add --apply")
    return report_failures(found.failures)


if __name__ == "__main__":
    exit_with(run_command(main))
