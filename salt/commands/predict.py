"""The command `salt-predict RUN FILES --out DIR`: a run's networks applied to images and lines of any size."""

import filecmp
import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.commands.common import PREDICTION, finite_number, make_parser, messages, settings_from
from salt.data.names import id_of, printable
from salt.inference.settings import PredictionSettings
from salt.paths import on_disk
from salt.runs.ensemble import Ensemble, read_ensemble
from salt.runs.files import first_line, locked, read_json, write_json, write_text

TABLE, RECORD, SOURCES = "masks.csv", "run.json", "sources.json"  # in the folder of the predictions


def main() -> None:
    """Predict every file; exit with code 1 if one fails, after all others are done."""
    with messages("salt-predict"):
        description = "Predict images and SEG-Y lines of any size. Writes probability, mask and overlay of each."
        parser = make_parser("salt-predict", description, "run", *PREDICTION)
        parser.add_argument(
            "files", type=Path, nargs="+", metavar="FILE", help="PNG, TIFF, JPEG, NPY, SEG-Y, or folders"
        )
        parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for the results")
        nodata = "amplitude of missing pixels (default: the run's data.nodata)"
        parser.add_argument("--nodata", type=finite_number, metavar="VALUE", help=nodata)
        parser.add_argument("--depth", type=finite_number, help="survey depth in feet, if the network sees it")
        arguments = parser.parse_args()
        settings, out = settings_from(arguments), arguments.out
        files = find_files(arguments.files)
        if out.resolve() in {path.resolve().parent for path in files}:
            raise ValueError(f"--out {out} holds the files to predict; choose another folder for the results")
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is a file, expected a folder")
        ensemble = read_ensemble(arguments.run)
        check_depth(ensemble, arguments.depth)
        out.mkdir(parents=True, exist_ok=True)
        with locked(out, "predict"):
            claim_folder(out, ensemble, {"nodata": arguments.nodata, "depth": arguments.depth})
            claim_names(out, files)
            failed = predict_all(ensemble, files, out, settings, arguments.depth, arguments.nodata)
        if failed:
            sys.exit(f"salt-predict: {failed} of {len(files)} files failed")


def find_files(given: list[Path]) -> list[Path]:
    """Return the named files, also missing ones, and the images and lines in the named folders.

    Skip hidden files in a folder: macOS writes `._line.sgy` beside `line.sgy`.

    Raises:
        ValueError: none is there, or two results would have one name.
    """
    from salt.inference.files import INPUT_SUFFIXES

    if not any(os.path.exists(place) for place in given):  # Path.exists raises an error if the name is too long
        raise ValueError(f"there is no file {printable(given[0])}")
    files: dict[str, Path] = {}
    for place in given:
        inside = [place]
        if os.path.isdir(place):
            visible = [path for path in sorted(place.iterdir()) if not path.name.startswith(".")]
            inside = [path for path in visible if path.suffix.lower() in INPUT_SUFFIXES]
        if not inside:
            raise ValueError(f"{place} holds no image or line, expected files that end in {', '.join(INPUT_SUFFIXES)}")
        for path in inside:
            other = files.setdefault(id_of(path), path)
            if other.resolve() != path.resolve():
                raise ValueError(f"{printable(other)} and {printable(path)} have one name; use two folders")
    return list(files.values())


def check_depth(ensemble: Ensemble, depth: float | None) -> None:
    """Check that the caller gives a depth if the network sees it.

    Raises:
        ValueError: it is missing, or the network does not see it.
    """
    if depth is not None and not ensemble.sees_depth:
        raise ValueError(f"--depth {depth:g}: the network of {ensemble.path} does not see the depth; leave it out")
    if depth is None and ensemble.sees_depth:
        raise ValueError(f"the network of {ensemble.path} sees the survey depth: give it in feet, with --depth FEET")


def claim_folder(out: Path, ensemble: Ensemble, given: dict[str, float | None]) -> None:
    """Record which weights, threshold and options the results in a folder come from.

    Raises:
        ValueError: the results in it come from others.
    """
    origin = ensemble.origin | {key: value for key, value in given.items() if value is not None}
    record = out / RECORD
    if record.exists() and (found := read_json(record)) != origin:
        changed = [f"--{key}" for key in given if found.get(key) != origin.get(key)]
        other = f"made with another {' and '.join(changed)}" if changed else "of another run"
        raise ValueError(f"{out} holds predictions {other}; choose another --out")
    write_json(record, origin)


def claim_names(out: Path, files: list[Path]) -> None:
    """Record which file each result in a folder comes from.

    Raises:
        ValueError: a result comes from another file of the same name.
    """
    from salt.inference.files import check_result_names, result_paths

    record = out / SOURCES
    sources = read_json(record) if record.exists() else {}
    for path in files:
        try:
            check_result_names(path, out)
        except ValueError:  # `predict_all` reports it
            continue
        if not path.exists():
            continue
        before = Path(on_disk(sources.get(id_of(path), str(path))))
        if is_other(before, path) and result_paths(path.with_suffix(before.suffix), out)["mask"].exists():
            raise ValueError(f"{out} holds the results of {before}, not of {path}; choose another --out")
        sources[id_of(path)] = os.path.abspath(path)
    write_json(record, sources)


def is_other(before: Path, path: Path) -> bool:
    """Return whether two paths of one id are two files; the earlier one may be gone, then only its format counts."""
    try:
        return before.suffix != path.suffix or not (before.samefile(path) or filecmp.cmp(before, path, shallow=False))
    except OSError:
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
    from salt.inference.files import check_result_names, read_amplitudes, write_prediction
    from salt.inference.model import load_networks
    from salt.scoring.metrics import is_salt

    masks = read_run_lengths(out)
    done = {path: rle.encode(mask) for path in files if (mask := done_mask(path, out)) is not None}
    todo = [path for path in files if path not in done]
    if done:
        print(f"{len(done)} of {len(files)} files are done already")
    model = load_networks(ensemble, settings) if todo else None
    failed = 0
    for path in tqdm(todo, "salt-predict", unit="file", disable=None):
        assert model is not None
        try:
            check_result_names(path, out)
            scaling = model.scaling if nodata is None else Scaling(model.scaling.amplitudes, nodata)
            grey = scaling(read_amplitudes(path))
            for line in remarks(grey, "--nodata"):
                tqdm.write(f"{printable(path)}: {line}", file=sys.stderr)
            probability = model.predict_grey([grey], depth, progress=True)[0]
            mask = is_salt(probability, model.threshold)
            write_prediction(path, out, grey.levels, probability, mask)
            done[path] = rle.encode(mask)
        except (ValueError, MemoryError) as error:
            failed += 1
            if os.path.exists(path):  # else the mask of its id comes from another file
                masks.pop(id_of(path), None)
            tqdm.write(f"{printable(path)}: {first_line(error)}", file=sys.stderr)
    masks |= {id_of(path): runs for path, runs in done.items()}
    table = pd.DataFrame(sorted(masks.items()), columns=["id", "rle_mask"])
    write_text(out / TABLE, table.to_csv(index=False, lineterminator="\n"))
    print(f"{printable(out)}: {len(masks)} predictions, and {TABLE} with their masks as run lengths")
    return failed


def read_run_lengths(out: Path) -> dict[str, str]:
    """Return the run lengths of the folder's table by id, without those whose files were deleted.

    Raises:
        ValueError: the table is damaged.
    """
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
    """Return the mask of a file whose results are complete, readable and not older than the file; else None."""
    from salt.inference.files import check_result_names, read_amplitudes, result_paths

    places = result_paths(path, out)
    try:
        check_result_names(path, out)
        newest = path.stat().st_mtime
        done = all(place.stat().st_mtime >= newest for place in places.values())
        return read_amplitudes(places["mask"]) if done else None
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()
