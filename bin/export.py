"""Export a trained model: a bundle to predict with, or a program that needs JAX and NumPy alone.

python bin/export.py --model runs/phantom --format bundle --output phantom.safetensors
python bin/export.py --model runs/phantom --format stablehlo --output program/
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from kitsjax.command import run_command
from kitsjax.errors import InputError


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--model", required=True, nargs="+", metavar="PATH",
        help="run folder, or bundle; a program averages several",
    )  # fmt: skip
    parser.add_argument("--format", choices=("bundle", "stablehlo"), default="bundle")
    parser.add_argument(
        "--output", required=True, metavar="PATH", help=".safetensors file, or a program's folder"
    )
    dtypes = ("float32", "bfloat16")
    parser.add_argument("--dtype", choices=dtypes, default="float32", help="of an exported model")
    parser.add_argument("--mirror", action="store_true", help="average over the eight mirrorings")
    args = parser.parse_args()
    if args.format == "bundle" and (args.mirror or args.dtype != "float32"):
        raise InputError("--mirror and --dtype are of a program; of a bundle, predict.py decides")

    from kitsjax.infer.bundle import load_model, read_bundle, save_bundle
    from kitsjax.infer.export import save_exported_model
    from kitsjax.train.run_folder import describe_run

    output = Path(args.output)
    if args.format == "stablehlo":
        models = [load_model(path) for path in args.model]
        mirroring = models[0].predict.model_copy(update={"mirror": args.mirror})
        models[0] = replace(models[0], predict=mirroring)
        save_exported_model(output, models, dtype=args.dtype)
    elif len(args.model) > 1:
        raise InputError("a bundle holds one model: export each, and give predict.py all of them")
    elif output.suffix != ".safetensors":
        raise InputError(f"--output {output}: let a bundle's name end in .safetensors")
    else:
        bundle = read_bundle(args.model[0])
        provenance = bundle.provenance
        if Path(args.model[0]).is_dir():
            provenance |= describe_run(args.model[0])
        save_bundle(output, bundle.params, bundle.settings, provenance)
    print(f"{args.format}: {output.resolve()}")
    return 0


if __name__ == "__main__":
    sys.exit(run_command(main))
