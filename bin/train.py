"""Train on a KiTS folder, then segment and score the held-out cases.

python bin/train.py --config configs/phantom.toml
python bin/train.py --config configs/kits21_paper.toml --set data.root=/data/kits21 --resume
"""

import sys

from kitsjax.command import guarded, resolve_settings, settings_parser


def main() -> int:
    parser = settings_parser(__doc__)
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in run.folder, exactly"
    )
    args = parser.parse_args()
    settings = resolve_settings(args)
    # Worker processes import this file anew: what loads JAX stays inside main.
    from kitsjax.train.run import run

    return run(settings, resume=args.resume)


if __name__ == "__main__":
    sys.exit(guarded(main))
