"""The command `salt-predict RUN FILES --out DIR`: a run's networks applied to images and lines of any size."""

import filecmp
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from salt.commands.common import (
    add_prediction_options,
    add_run,
    finite_number,
    make_parser,
    messages,
    settings_from,
)
from salt.data.names import id_of, printable
from salt.inference.settings import PredictionSettings
from salt.paths import on_disk
from salt.runs.ensemble import Ensemble, read_ensemble
from salt.runs.files import first_line, locked, read_json, write_json, write_text

TABLE, RECORD, SOURCES = "masks.csv", "run.json", "sources.json"  # in the folder of the predictions


def main() -> None:
    """Predict every file; exit code 1 if one of them fails, after all others are done."""
    with messages("salt-predict"):
        parser = make_parser(
            "salt-predict", "Write probability, mask and overlay of images and SEG-Y lines of any size."
        )
        add_run(parser)
        parser.add_argument(
            "files", type=Path, nargs="+", metavar="FILE", help="PNG, TIFF, JPEG, NPY, SEG-Y, or folders"
        )
        parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="where the results are written")
        parser.add_argument(
            "--nodata",
            type=finite_number,
            metavar="VALUE",
            help="amplitude that marks missing pixels (default: as in the run's data)",
        )
        parser.add_argument("--depth", type=finite_number, help="survey depth in feet, for a network that sees it")
        add_prediction_options(parser)
        arguments = parser.parse_args()
        settings = settings_from(arguments)
        files = find_files(arguments.files)
        if arguments.out.resolve() in {path.resolve().parent for path in files}:
            raise ValueError(f"--out {arguments.out} holds the files to predict; choose another folder for the results")
        if arguments.out.exists() and not arguments.out.is_dir():
            raise ValueError(f"--out {arguments.out} is a file, expected a folder")
        ensemble = read_ensemble(arguments.run)
        check_depth(ensemble, arguments.depth)
        arguments.out.mkdir(parents=True, exist_ok=True)
        with locked(arguments.out, "predict"):
            claim(arguments.out, ensemble, {"nodata": arguments.nodata, "depth": arguments.depth})
            claim_names(arguments.out, files)
            failed = predict_all(ensemble, files, arguments.out, settings, arguments.depth, arguments.nodata)
        if failed:
            sys.exit(f"salt-predict: {failed} of {len(files)} files failed")


def find_files(given: list[Path]) -> list[Path]:
    """Return the files named, also those that are not there, and the images and lines in the folders named.

    Hidden files in a folder do not count: macOS writes `._line.sgy` beside `line.sgy`.

    Raises:
        ValueError: none is there, or two results would have one name.
    """
    from salt.inference.files import FORMATS

    if not any(os.path.exists(place) for place in given):  # Path.exists raises an error if the name is too long
        raise ValueError(f"there is no file {printable(given[0])}")
    files: dict[str, Path] = {}
    for place in given:
        inside = [place]
        if os.path.isdir(place):
            visible = [path for path in sorted(place.iterdir()) if not path.name.startswith(".")]
            inside = [path for path in visible if path.suffix.lower() in FORMATS]
        if not inside:
            raise ValueError(f"{place} holds no image or line, expected files that end in {', '.join(FORMATS)}")
        for path in inside:
            name = id_of(path)
            if name in files and files[name].resolve() != path.resolve():
                raise ValueError(
                    f"{printable(files[name])} and {printable(path)} have one name; predict them into two folders"
                )
            files[name] = path
    return list(files.values())


def check_depth(ensemble: Ensemble, depth: float | None) -> None:
    """Make sure that a depth is given to a network that sees it, and to no other.

    Raises:
        ValueError: it is missing, or given to another one.
    """
    if depth is not None and not ensemble.sees_depth:
        raise ValueError(f"--depth {depth:g}: the network of {ensemble.path} does not see the depth; leave it out")
    if depth is None and ensemble.sees_depth:
        raise ValueError(f"the network of {ensemble.path} sees the survey depth: give it in feet, with --depth FEET")


def claim(out: Path, ensemble: Ensemble, given: dict[str, float | None]) -> None:
    """Note from which weights, threshold and options the results in a folder come.

    Raises:
        ValueError: those that are there come from others.
    """
    origin = ensemble.origin | {key: value for key, value in given.items() if value is not None}
    record = out / RECORD
    if record.exists() and (found := read_json(record)) != origin:
        changed = [f"--{key}" for key in given if found.get(key) != origin.get(key)]
        other = f"made with another {' and '.join(changed)}" if changed else "of another run"
        raise ValueError(f"{out} holds predictions {other}; choose another --out")
    write_json(record, origin)


def claim_names(out: Path, files: list[Path]) -> None:
    """Note of which file each result in a folder is.

    Raises:
        ValueError: one is of another file of the same name, and would be replaced.
    """
    from salt.inference.files import check_name, outputs

    record = out / SOURCES
    sources = read_json(record) if record.exists() else {}
    for path in files:
        try:
            check_name(path, out)
        except ValueError:  # it fails alone, when its turn comes
            continue
        if not path.exists():  # likewise; the results of its name are of another file
            continue
        before = Path(on_disk(sources.get(id_of(path), str(path))))
        if is_other(before, path) and outputs(path.with_suffix(before.suffix), out)["mask"].exists():
            raise ValueError(
                f"{out} holds the results of {before}, which those of {path} would replace; choose another --out"
            )
        sources[id_of(path)] = os.path.abspath(path)
    write_json(record, sources)


def is_other(before: Path, path: Path) -> bool:
    """Return whether two paths of one id are of two files; the one before may have been moved or changed since."""
    try:
        return before.suffix != path.suffix or not (before.samefile(path) or filecmp.cmp(before, path, shallow=False))
    except OSError:  # one of them is gone
        return False


def predict_all(
    ensemble: Ensemble,
    files: list[Path],
    out: Path,
    settings: PredictionSettings,
    depth: float | None,
    nodata: float | None,
) -> int:
    """Predict the files that are not done yet, and write the table of all masks; return how many failed."""
    from salt.data import rle
    from salt.data.amplitudes import Scaling, remarks
    from salt.inference.files import check_name, read, write
    from salt.inference.model import load_networks
    from salt.scoring.metrics import is_salt

    masks = read_table(out)
    done = {path: rle.encode(mask) for path in files if (mask := done_mask(path, out)) is not None}
    todo = [path for path in files if path not in done]
    if done:
        print(f"{len(done)} of {len(files)} files are done already")
    model = load_networks(ensemble, settings) if todo else None
    failed = 0
    for path in tqdm(todo, "salt-predict", unit="file", disable=None):
        assert model is not None
        try:
            check_name(path, out)
            scaling = model.scaling if nodata is None else Scaling(model.scaling.amplitudes, nodata)
            grey = scaling(read(path))
            for line in remarks(grey, "--nodata"):
                tqdm.write(f"{printable(path)}: {line}", file=sys.stderr)
            probability = model.predict_grey([grey], depth, progress=True)[0]
            mask = is_salt(probability, model.threshold)
            write(path, out, grey.levels, probability, mask)
            done[path] = rle.encode(mask)
        except (ValueError, MemoryError) as error:
            failed += 1
            if os.path.exists(path):  # else the results of its name are of another file
                masks.pop(id_of(path), None)
            tqdm.write(f"{printable(path)}: {first_line(error)}", file=sys.stderr)
    masks |= {id_of(path): runs for path, runs in done.items()}
    table = pd.DataFrame({"id": sorted(masks), "rle_mask": [masks[name] for name in sorted(masks)]})
    write_text(out / TABLE, table.to_csv(index=False, lineterminator="\n"))
    print(f"{printable(out)}: {len(masks)} predictions, and {TABLE} with their masks as run lengths")
    return failed


def read_table(out: Path) -> dict[str, str]:
    """Return the run lengths in the folder's table, by id, without those of results that were deleted."""
    if not (out / TABLE).is_file():
        return {}
    try:
        table = pd.read_csv(out / TABLE, dtype=str, keep_default_na=False)
        masks = dict(zip(table["id"], table["rle_mask"], strict=True))
    except (ValueError, KeyError) as error:
        raise ValueError(f"{out / TABLE} is damaged: {error}; delete it and predict all files again") from None
    there = {id_of(path).removesuffix("_mask") for path in out.iterdir()}
    return {name: mask for name, mask in masks.items() if name in there}


def done_mask(path: Path, out: Path) -> NDArray[np.generic] | None:
    """Return the mask of a file whose results are all there, readable, and not older than the file, else None."""
    from salt.inference.files import check_name, outputs, read

    places = outputs(path, out)
    try:
        check_name(path, out)
        newest = path.stat().st_mtime
        done = all(place.stat().st_mtime >= newest for place in places.values())
        return read(places["mask"]) if done else None
    except (OSError, ValueError):  # one is missing or damaged: it is made again
        return None


if __name__ == "__main__":
    main()
