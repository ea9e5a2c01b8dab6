"""Preprocess the cases of a KiTS folder that are missing or out of date.

python bin/preprocess.py --config configs/kits21_paper.toml --set data.root=/data/kits21
"""

from kitsjax.command import (
    exit_with,
    report_failures,
    resolve_settings,
    run_command,
    settings_parser,
)


def main() -> int:
    """Run the command and return its exit status."""
    settings = resolve_settings(settings_parser(__doc__).parse_args())

    from kitsjax.prepare import describe_preparation, prepare_data

    data_set = prepare_data(settings.data, settings.phantom, settings.preprocess)
    print(describe_preparation(data_set))
    return report_failures(f"{case}: {message}" for case, message in data_set.report.failures)


if __name__ == "__main__":
    exit_with(run_command(main))
