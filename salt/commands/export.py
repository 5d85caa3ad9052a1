"""The command `salt-export RUN --to FORMAT`: a run's networks as one file for programs without Salt."""

from pathlib import Path

from salt.commands.common import check_new, make_parser, messages
from salt.runs.bundle import write_bundle
from salt.runs.rundir import RunDir

FORMAT_NAMES = ("onnx", "torchscript", "exported-program", "openvino")  # of salt.inference.formats, which imports torch
BUNDLE = "bundle"


def main() -> None:
    """Write the file, or one for each fold."""
    with messages("salt-export"):
        parser = make_parser("salt-export", "Write a run's networks as a file that runs without Salt.", "run")
        formats = (*FORMAT_NAMES, BUNDLE)
        parser.add_argument("--to", choices=formats, required=True, help="format; bundle: a zip for Salt")
        new = "a new file (default: RUN/model with the format's ending)"
        parser.add_argument("--out", type=Path, metavar="FILE", help=new)
        folds = "mean: one file with the folds' mean probability (default); each: FILE_fold_0 and so on"
        parser.add_argument("--folds", choices=("mean", "each"), default="mean", help=folds)
        size = "size of the images: the run's tiles (default), or any multiple of 32 from 64 on"
        parser.add_argument("--size", choices=("tile", "any"), default="tile", help=size)
        arguments = parser.parse_args()
        if arguments.to == BUNDLE:
            share(arguments.run, arguments.out)
            return
        export_all(arguments.run, arguments.to, arguments.out, arguments.folds == "each", arguments.size == "any")


def share(path: Path, out: Path | None) -> None:
    """Write a finished run as a bundle, which `salt.load`, `salt-predict`, `salt-blend` and `init` take."""
    file = out if out is not None else path / f"{path.resolve().name}.zip"
    check_new("--out", file, ".zip")
    write_bundle(RunDir(path), file)
    print(f"{file}: {file.stat().st_size / 1e6:.1f} MB; its README.md is the card, please check it before you share it")


def export_all(path: Path, kind: str, out: Path | None, each: bool, any_size: bool) -> None:
    """Write one file of all finished folds, or one of each; raise ValueError if an export fails, and leave no file."""
    from salt.inference.export import export
    from salt.inference.formats import EXPORT_FORMATS

    run = RunDir(path)
    score = run.read_score(run.read_config().data.n_folds)
    suffix = EXPORT_FORMATS[kind].suffix
    file = out if out is not None else run.path / f"model{suffix}"
    folds = [row["fold"] for row in score["folds"]]
    parts = {file.with_stem(f"{file.stem}_fold_{fold}"): [fold] for fold in folds} if each else {file: folds}
    written = [one for name in parts for one in EXPORT_FORMATS[kind].files(name)]
    for one in written:
        check_new("--out", one, one.suffix if one not in parts else suffix)
    try:
        for name, some in parts.items():
            facts = export(run, kind, name, some, any_size)
            print(
                f"{name}: {name.stat().st_size / 1e6:.1f} MB, folds {facts['folds']}; largest difference in "
                f"probability from torch {facts['largest_difference']:.1e}; threshold {facts['threshold']:g}"
            )
    except BaseException:  # all or none: the same command refuses files that exist
        for one in written:
            one.unlink(missing_ok=True)
        raise


if __name__ == "__main__":
    main()
