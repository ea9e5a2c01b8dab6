"""Train on a data set, then segment and score the held-out cases.

python bin/train.py --config configs/phantom.toml
python bin/train.py --config configs/kits21_paper.toml --set data.root=/data/kits21 --resume
python bin/train.py --config configs/kits21.toml --set data.folds=5 --fold all --resume
python bin/train.py --config configs/kits21_paper.toml --plan --target h100
"""

from kitsjax.command import add_profile, exit_with, resolve_settings, run_command, settings_parser


def main() -> int:
    """Run the command and return its exit status."""
    parser = settings_parser(__doc__)
    parser.add_argument(
        "--resume", action="store_true",
        help="go on with the run in run.folder; its numbers are those of an unbroken run",
    )  # fmt: skip
    parser.add_argument(
        "--fold", metavar="K|all", help="train fold K of data.folds, or all: in run.folder/fold_K"
    )
    parser.add_argument(
        "--plan", action="store_true",
        help="train nothing; print whether the run fits in memory and a bound on its speed; exit "
        "status 1 if it does not fit",
    )  # fmt: skip
    parser.add_argument(
        "--target", metavar="DEVICES",
        help="with --plan: the TPU slice or GPUs to plan for, such as v5e:2x2, h100 or h100x8, "
        "which need not be in this machine; needs their compiler and takes minutes",
    )  # fmt: skip
    add_profile(parser)
    args = parser.parse_args()
    if args.target is not None and not args.plan:
        parser.error("--target goes with --plan")
    if args.plan and (args.resume or args.fold is not None or args.profile):
        parser.error("--plan trains nothing: leave out --resume, --fold and --profile")
    args.overrides += args.profile
    settings = resolve_settings(args)
    # Worker processes import this file again, so modules that load JAX are imported in main.
    from kitsjax.plan.describe import describe_plan, describe_run

    if args.plan:
        from kitsjax.plan.forecast import forecast
        from kitsjax.signals import end_at_once_on_signals

        with end_at_once_on_signals():
            found = forecast(settings, args.target)
        print(describe_plan(found, settings))
        return 0 if found.fits else 1
    from kitsjax.train.fold_runs import run_folds
    from kitsjax.train.run import run

    if args.fold is not None:
        return run_folds(settings, args.fold, resume=args.resume, describe_run=describe_run)
    return run(settings, resume=args.resume, describe_run=describe_run)


if __name__ == "__main__":
    exit_with(run_command(main, huge_pages=True))
