"""The command `salt-predict RUN FILES --out DIR`: a run's networks applied to images and lines of any size."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
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
        if arguments.out.exists() and not arguments.out.is_dir():
            raise ValueError(f"--out {arguments.out} is a file, expected a folder")
        check_depth(arguments.run, arguments.depth)
        arguments.out.mkdir(parents=True, exist_ok=True)
        with locked(arguments.out, "predict"):
            claim(arguments.out, arguments.run)
            failed = predict_all(
                arguments.run, files, arguments.out, arguments.device, arguments.batch_size, arguments.depth
            )
        if failed:
            sys.exit(f"salt-predict: {failed} of {len(files)} files failed")


def find_files(given: list[Path]) -> list[Path]:
    """The files named, also those that are not there, and the images and lines in the folders named.

    Raises:
        ValueError: none is there, or two results would have one name.
    """
    from salt.inference.files import FORMATS

    if not any(place.exists() for place in given):
        raise ValueError(f"there is no file {given[0]}")
    files: dict[str, Path] = {}
    for place in given:
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


def check_depth(run: Path, depth: float | None) -> None:
    """Make sure that a depth is given to a network that sees it, and to no other.

    Raises:
        ValueError: it is missing, or given to another one.
    """
    sees_depth = RunDir(run.expanduser()).read_config().input.channels == "depth_z"
    if depth is not None and not sees_depth:
        raise ValueError(f"--depth {depth:g}: the network of {run} does not see the depth; leave it out")
    if depth is None and sees_depth:
        raise ValueError(f"the network of {run} sees the depth in the survey: give it in feet, with --depth FEET")


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
    from salt.inference.files import read, write
    from salt.scoring.metrics import is_salt

    masks = read_table(out)
    done = {path: rle.encode(mask) for path in files if (mask := done_mask(path, out)) is not None}
    todo = [path for path in files if path not in done]
    if done:
        print(f"{len(done)} of {len(files)} files are done already")
    model = salt.load(run, device, batch_size) if todo else None
    failed = 0
    for path in tqdm(todo, "salt-predict", unit="file", disable=None):
        assert model is not None
        try:
            grey = model.grey(read(path)[None])[0]
            probability = model.predict(grey, depth, progress=True)
            mask = is_salt(probability, model.threshold)
            write(path, out, grey, probability, mask)
            done[path] = rle.encode(mask)
        except ValueError as error:
            failed += 1
            masks.pop(path.stem, None)
            tqdm.write(f"{path}: {error}", file=sys.stderr)
    masks |= {path.stem: runs for path, runs in done.items()}
    table = pd.DataFrame({"id": sorted(masks), "rle_mask": [masks[name] for name in sorted(masks)]})
    write_text(out / TABLE, table.to_csv(index=False, lineterminator="\n"))
    print(f"{out}: {len(masks)} predictions, and {TABLE} with their masks as run lengths")
    return failed


def read_table(out: Path) -> dict[str, str]:
    """The run lengths in the folder's table, by id; of results that were deleted they are left out."""
    if not (out / TABLE).is_file():
        return {}
    try:
        table = pd.read_csv(out / TABLE, dtype=str, keep_default_na=False)
        masks = dict(zip(table["id"], table["rle_mask"], strict=True))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{out / TABLE} is damaged: {error}; delete it and predict all files again") from None
    there = {path.stem.removesuffix("_mask") for path in out.iterdir()}
    return {name: mask for name, mask in masks.items() if name in there}


def done_mask(path: Path, out: Path) -> NDArray[np.generic] | None:
    """The mask of a file whose results are all there, readable, and not older than the file; None for another."""
    from salt.inference.files import outputs, read

    places = outputs(path, out)
    if not path.exists():
        return None
    newest = path.stat().st_mtime
    if not all(place.exists() and place.stat().st_mtime >= newest for place in places.values()):
        return None
    try:
        return read(places["mask"])
    except ValueError:  # damaged: it is made anew
        return None


if __name__ == "__main__":
    main()
