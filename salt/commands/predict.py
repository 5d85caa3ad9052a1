"""The command `salt-predict RUN FILES --out DIR`: a run's networks applied to images and lines of any size."""

import sys
from pathlib import Path

import pandas as pd
from tqdm import tqdm

import salt
from salt.commands.common import make_parser, messages
from salt.runs.files import locked, read_json, write_json, write_text
from salt.runs.rundir import RunDir

TABLE, RECORD = "masks.csv", "run.json"  # in the folder of the predictions


def main() -> None:
    """Predict every file; exit code 1 if one of them fails, after all others are done."""
    with messages("salt-predict"):
        parser = make_parser(
            "salt-predict", "Write probability, mask and overlay of images and SEG-Y lines of any size."
        )
        parser.add_argument("run", type=Path, metavar="RUN", help="run directory, such as runs/baseline")
        parser.add_argument(
            "files", type=Path, nargs="+", metavar="FILE", help="PNG, TIFF, JPEG, NPY, SEG-Y, or folders"
        )
        parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="where the results are written")
        parser.add_argument("--depth", type=float, help="survey depth in feet, for a network that sees it")
        parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
        parser.add_argument("--batch-size", type=int, help="windows predicted at once (default: as in training)")
        arguments = parser.parse_args()
        if arguments.batch_size is not None and arguments.batch_size < 1:
            raise ValueError(f"--batch-size {arguments.batch_size}: expected 1 or more")
        files = find_files(arguments.files)
        if arguments.out.resolve() in {path.resolve().parent for path in files}:
            raise ValueError(f"--out {arguments.out} holds the files to predict; choose another folder for the results")
        arguments.out.mkdir(parents=True, exist_ok=True)
        with locked(arguments.out, "predict"):
            claim(arguments.out, arguments.run)
            failed = predict_all(
                arguments.run, files, arguments.out, arguments.device, arguments.batch_size, arguments.depth
            )
        if failed:
            sys.exit(f"salt-predict: {failed} of {len(files)} files failed")


def find_files(given: list[Path]) -> list[Path]:
    """The files named, and the images and lines in the folders named.

    Raises:
        ValueError: one is not there, or two results would have one name.
    """
    from salt.inference.files import FORMATS

    files: dict[str, Path] = {}
    for place in given:
        if not place.exists():
            raise ValueError(f"there is no file {place}")
        inside = (
            [path for path in sorted(place.iterdir()) if path.suffix.lower() in FORMATS] if place.is_dir() else [place]
        )
        if not inside:
            raise ValueError(f"{place} holds no image or line, expected files that end in {', '.join(FORMATS)}")
        for path in inside:
            if path.stem in files and files[path.stem].resolve() != path.resolve():
                raise ValueError(f"{files[path.stem]} and {path} have one name; predict them into two folders")
            files[path.stem] = path
    return list(files.values())


def claim(out: Path, run: Path) -> None:
    """Note from which weights and threshold the results in a folder come.

    Raises:
        ValueError: those that are there come from others.
    """
    from salt.inference.submission import origin_of

    directory = RunDir(run.expanduser())
    origin = origin_of(directory, directory.read_score(directory.read_config().data.n_folds))
    record = out / RECORD
    if record.exists() and read_json(record) != origin:
        raise ValueError(f"{out} holds the predictions of another run; choose another --out")
    write_json(record, origin)


def predict_all(
    run: Path, files: list[Path], out: Path, device: str, batch_size: int | None, depth: float | None
) -> int:
    """Predict the files that are not done yet, and write the table of all masks; returns how many failed."""
    from salt.data import rle
    from salt.inference.files import outputs, read, write
    from salt.scoring.metrics import is_salt

    todo = [path for path in files if not is_done(path, outputs(path, out))]
    if len(todo) < len(files):
        print(f"{len(files) - len(todo)} of {len(files)} files are done already")
    model = salt.load(run, device, batch_size) if todo else None
    failed = []
    for path in tqdm(todo, "salt-predict", unit="file", disable=None):
        assert model is not None
        try:
            grey = model.grey(read(path)[None])[0]
            probability = model.predict(grey, depth, progress=True)
            write(path, out, grey, probability, is_salt(probability, model.threshold))
        except ValueError as error:
            failed.append(path)
            tqdm.write(f"{path}: {error}", file=sys.stderr)
    done = [path for path in files if path not in failed]
    masks = [rle.encode(read(outputs(path, out)["mask"])) for path in done]
    table = pd.DataFrame({"id": [path.stem for path in done], "rle_mask": masks})
    write_text(out / TABLE, table.to_csv(index=False, lineterminator="\n"))
    print(f"{out}: {len(done)} predictions, and {TABLE} with their masks as run lengths")
    return len(failed)


def is_done(path: Path, places: dict[str, Path]) -> bool:
    """Whether all results of a file are there, and not older than the file."""
    newest = path.stat().st_mtime
    return all(place.exists() and place.stat().st_mtime >= newest for place in places.values())


if __name__ == "__main__":
    main()
