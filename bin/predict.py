"""Segment CTs with a trained model: a file, a folder of files, a data set or a DICOM folder.

python bin/predict.py --input scan.nii.gz --output masks/ [--model runs/phantom]
"""

import sys
from pathlib import Path

from kitsjax.command import add_shard, exit_with, make_parser, report_failures, run_command
from kitsjax.config import load_settings, to_toml
from kitsjax.errors import InputError


def main() -> int:
    """Write a mask for every CT; return 2 if one of them failed."""
    parser, work = make_parser(__doc__), "--print-config" not in sys.argv
    which = "runs, folders of folds or model files, averaged; default: synthetic"
    parser.add_argument("--model", default=["synthetic"], nargs="+", metavar="PATH", help=which)
    parser.add_argument("--input", required=work, metavar="PATH", help="CT file, or folder of CTs")
    parser.add_argument("--output", required=work, metavar="FOLDER", help="folder for the masks")
    parser.add_argument("--probabilities", action="store_true", help="also write probabilities")
    parser.add_argument("--series", metavar="NUMBER", help="number or UID of the DICOM series")
    parser.add_argument("--dicom-seg", action="store_true", help="also write DICOM SEG")
    parser.add_argument("--continue", action="store_true", dest="keep", help="keep current masks")
    parser.add_argument("--set", metavar="predict.FIELD=VALUE", action="append", default=[],
        dest="overrides", help="override a setting; can be repeated")  # fmt: skip
    parser.add_argument("--print-config", action="store_true", help="print the settings and exit")
    add_shard(parser)
    args = parser.parse_args()
    if wrong := [o for o in args.overrides if not o.startswith(("predict.", "run."))]:
        raise InputError(f"--set {wrong[0]}: only [predict] and [run] can change after training")
    from kitsjax.devices import start_devices
    from kitsjax.files import check_folder
    from kitsjax.infer.bundle import make_model
    from kitsjax.infer.ensemble import read_ensemble
    from kitsjax.infer.find_inputs import find_inputs
    from kitsjax.infer.predict_files import best_cpu_devices, predict_files
    from kitsjax.processes import take_shard

    if work:
        check_folder(args.output, "--output")
    # The model's own [run] describes the machine that trained it; this one may differ.
    own = [f"run.cpu_devices={best_cpu_devices()}", *(o for o in args.overrides if o[:4] == "run.")]
    start_devices(here := load_settings(overrides=own).run)
    read = read_ensemble(args.model, [o for o in args.overrides if o[:4] != "run."])
    settings = read[0].settings.model_copy(update={"run": here})
    if args.print_config:
        print(to_toml(settings), end="")
        return 0
    found = find_inputs(args.input, args.output, args.probabilities, args.series, args.dicom_seg)
    files, models = take_shard(found, args.shard), [make_model(o.params, o.settings) for o in read]
    what = settings.predict, args.probabilities, args.keep, True, args.dicom_seg
    failures = predict_files(models, files, *what)
    whole = f"{len(files) - len(failures)} of {len(files)} masks are whole"
    print(f"{whole}: {Path(args.output).resolve()}")
    return report_failures(message for _, message in failures)


if __name__ == "__main__":
    exit_with(run_command(main, huge_pages=True))
