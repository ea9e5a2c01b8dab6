"""Export a trained model: a model file for kitsjax, or StableHLO that needs no kitsjax.

python bin/export.py --model runs/phantom --output phantom.safetensors --dtype float16
python bin/export.py --model runs/phantom --format stablehlo --output exported/
"""

from pathlib import Path

from kitsjax.command import exit_with, make_parser, run_command
from kitsjax.errors import InputError
from kitsjax.files import check_file, check_folder


def main() -> int:
    """Write the model file or the exported model."""
    parser = make_parser(__doc__)
    parser.add_argument(
        "--model", required=True, nargs="+", metavar="PATH",
        help="run folder or model file; stablehlo averages several",
    )  # fmt: skip
    formats = {"bundle": ("float32", "float16"), "stablehlo": ("float32", "bfloat16")}
    parser.add_argument("--format", choices=formats, default="bundle", help="model or StableHLO")
    parser.add_argument("--output", required=True, type=Path, metavar="PATH", help="file or folder")
    parser.add_argument("--dtype", default="float32", help="bundle: float16; stablehlo: bfloat16")
    parser.add_argument("--mirror", action="store_true", help="stablehlo: average over mirrorings")
    args = parser.parse_args()
    if args.dtype not in formats[args.format]:
        wanted = " or ".join(formats[args.format])
        raise InputError(f"--dtype {args.dtype}: a {args.format} has {wanted}")
    if args.format == "bundle" and args.mirror:
        raise InputError("--mirror: add --format stablehlo, or set predict.mirror in predict.py")
    if args.format == "bundle" and len(args.model) > 1:
        raise InputError("a bundle holds one model; export each, and give predict.py all of them")
    if args.format == "bundle" and args.output.suffix != ".safetensors":
        raise InputError(f"--output {args.output}: a model file's name must end in .safetensors")

    from kitsjax.devices import start_devices
    from kitsjax.infer.bundle import make_model, read_bundle, save_bundle
    from kitsjax.infer.ensemble import read_ensemble
    from kitsjax.infer.export import DESCRIPTION_NAME, EXPORTED_NAME, save_exported_model
    from kitsjax.settings import RunSettings
    from kitsjax.train.provenance import read_provenance

    if args.format == "stablehlo":
        check_folder(args.output, "--output", (EXPORTED_NAME, DESCRIPTION_NAME))
        start_devices(RunSettings())
        read = read_ensemble(args.model, ["predict.mirror=true"] if args.mirror else [])
        models = [make_model(bundle.params, bundle.settings) for bundle in read]
        save_exported_model(args.output, models, dtype=args.dtype)
    else:
        check_file(args.output, "--output")
        bundle = read_bundle(args.model[0])
        provenance = bundle.provenance | read_provenance(args.model[0])
        save_bundle(args.output, bundle.params, bundle.settings, provenance, args.dtype)
    print(f"{args.format}: {args.output.resolve()}")
    return 0


if __name__ == "__main__":
    exit_with(run_command(main))
