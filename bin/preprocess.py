"""Preprocess the cases of a data set that are missing or out of date.

python bin/preprocess.py --config configs/kits21_paper.toml --set data.root=/data/kits21
python bin/preprocess.py --config configs/kits21_paper.toml --shard $SLURM_ARRAY_TASK_ID/100
"""

from kitsjax.command import (
    add_shard,
    exit_with,
    report_failures,
    resolve_settings,
    run_command,
    settings_parser,
)


def main() -> int:
    """Run the command and return its exit status."""
    parser = settings_parser(__doc__)
    add_shard(parser)
    args = parser.parse_args()
    settings = resolve_settings(args)

    from kitsjax.prepare import describe_preparation, prepare_data

    data_set = prepare_data(
        settings.data, settings.phantom, settings.preprocess, args.shard, settings.labels
    )
    print(describe_preparation(data_set))
    return report_failures(f"{case}: {message}" for case, message in data_set.report.failures)


if __name__ == "__main__":
    exit_with(run_command(main))
