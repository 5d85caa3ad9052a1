"""The command `salt-export RUN --to FORMAT`: a run's networks as one file for programs without Salt."""

from pathlib import Path

from salt.commands.common import add_run, make_parser, messages
from salt.runs.rundir import RunDir

KINDS = ("onnx", "torchscript", "exported-program")


def main() -> None:
    """Write the file, or one for each fold; exit code 1 and one message if it fails."""
    with messages("salt-export"):
        parser = make_parser("salt-export", "Write a run's networks as one file that other programs run without Salt.")
        add_run(parser)
        parser.add_argument("--to", choices=KINDS, required=True, help="format of the file")
        parser.add_argument(
            "--out", type=Path, metavar="FILE", help="a new file (default: RUN/model with the format's ending)"
        )
        parser.add_argument(
            "--folds",
            choices=("mean", "each"),
            default="mean",
            help="mean: one file, of all folds' mean probability (default); each: FILE with _fold_0 and so on",
        )
        parser.add_argument(
            "--size",
            choices=("tile", "any"),
            default="tile",
            help="of the images: as the run's tiles (default), or any whose sides are multiples of 32, from 64 on",
        )
        arguments = parser.parse_args()
        export_all(arguments.run, arguments.to, arguments.out, arguments.folds == "each", arguments.size == "any")


def export_all(path: Path, kind: str, out: Path | None, each: bool, any_size: bool) -> None:
    """Write one file of all finished folds, or one of each.

    Raises:
        ValueError: the run is not finished, a name does not fit or is taken, or the export fails.
    """
    from salt.inference.export import export
    from salt.inference.formats import EXPORT_FORMATS

    run = RunDir(path)
    score = run.read_score(run.read_config().data.n_folds)
    suffix = EXPORT_FORMATS[kind].suffix
    file = out if out is not None else run.path / f"model{suffix}"
    if file.suffix != suffix:
        raise ValueError(f"--out {file}: expected a name that ends in {suffix}")
    if not file.parent.is_dir():
        raise ValueError(f"--out {file}: there is no folder {file.parent}")
    folds = [row["fold"] for row in score["folds"]]
    parts = {file.with_stem(f"{file.stem}_fold_{fold}"): [fold] for fold in folds} if each else {file: folds}
    for name in parts:
        if name.exists():
            raise ValueError(f"{name} exists already; nothing was written")
    done: list[Path] = []
    try:
        for name, some in parts.items():
            facts = export(run, kind, name, some, any_size)
            done.append(name)
            print(
                f"{name}: {name.stat().st_size / 1e6:.1f} MB, folds {facts['folds']}; largest difference in "
                f"probability from torch {facts['largest_difference']:.1e}; threshold {facts['threshold']:g}"
            )
    except BaseException:  # all or none: the same command refuses files that exist
        for name in done:
            name.unlink()
        raise


if __name__ == "__main__":
    main()
