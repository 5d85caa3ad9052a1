"""The command `salt-predict RUN FILES --out DIR`: a run's networks applied to images and lines of any size."""

import filecmp
import os
import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from salt.commands.common import PREDICTION, announce, finite_number, make_parser, messages, settings_from
from salt.commands.predict_survey import add_survey_flags, find_surveys, predict_surveys, survey_options
from salt.inference.claims import claim_results, facts_of, record_results
from salt.inference.settings import PredictionSettings
from salt.paths import id_of, on_disk, printable
from salt.runs.ensemble import Ensemble, read_ensemble
from salt.runs.files import first_line, locked, read_json, write_json, write_text
from salt.words import duration, plural

if TYPE_CHECKING:
    from salt.inference.model import Model
    from salt.inference.stream import Stream

TABLE, RECORD, SOURCES = "masks.csv", "run.json", "sources.json"  # in the folder of the predictions


def main() -> None:
    """Predict every file; exit with code 1 if one fails, after all others are done."""
    with messages("salt-predict"):
        description = "Predict images, SEG-Y lines and 3-D surveys of any size."
        parser = make_parser("salt-predict", description, "run", *PREDICTION, "--overlap")
        parser.add_argument(
            "files", type=Path, nargs="+", metavar="FILE", help="PNG, TIFF, JPEG, NPY, SEG-Y, or folders"
        )
        parser.add_argument("--out", type=Path, metavar="DIR", required=True, help="folder for the results")
        nodata = "amplitude of missing pixels (default: the run's data.nodata)"
        parser.add_argument("--nodata", type=finite_number, metavar="VALUE", help=nodata)
        parser.add_argument("--depth", type=finite_number, help="survey depth in feet, if the network sees it")
        parser.add_argument("--spread", action="store_true", help="write the deviation over the networks too")
        parser.add_argument("--fast", action="store_const", dest="mirror", const=False, help="same as --no-mirror")
        add_survey_flags(parser)
        parser.set_defaults(engine="auto")
        arguments = parser.parse_args()
        settings, out = settings_from(arguments), arguments.out
        files = find_files(arguments.files)
        if out.resolve() in {path.resolve().parent for path in files}:
            raise ValueError(f"--out {out} holds the files to predict; choose another folder for the results")
        if out.exists() and not out.is_dir():
            raise ValueError(f"--out {out} is a file, expected a folder")
        options = survey_options(arguments)
        ensemble = read_ensemble(arguments.run)
        check_depth(ensemble, arguments.depth)
        surveys = find_surveys(ensemble, files, options)
        lines = [path for path in files if path not in surveys]
        out.mkdir(parents=True, exist_ok=True)
        begun = time.monotonic()
        failed = predict_lines(ensemble, settings, lines, arguments) if lines else 0
        failed += predict_surveys(ensemble, surveys, options, arguments)
        print(f"{plural(len(files), 'file')} in {duration(time.monotonic() - begun)}", file=sys.stderr)
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


def predict_lines(ensemble: Ensemble, settings: PredictionSettings, lines: list[Path], arguments: Namespace) -> int:
    """Predict images and lines, and return how many failed.

    Raises:
        ValueError: the folder holds other results, or another process uses it.
    """
    from salt.inference.stream import Stream

    out = arguments.out
    with locked(out, "predict"):
        facts = facts_of(ensemble, settings, {"nodata": arguments.nodata, "depth": arguments.depth})
        settings = claim_results(out / RECORD, facts, settings)
        claim_names(out, lines)
        stream = Stream(ensemble, settings, out, arguments.depth, arguments.nodata, arguments.spread)
        return predict_all(stream, lines, facts)


def predict_all(stream: "Stream", files: list[Path], facts: dict[str, Any]) -> int:
    """Predict the files that are not done yet, and write the table of all masks; return how many failed."""
    from salt.data import rle

    out, masks = stream.out, read_run_lengths(stream.out)
    found = {path: done_mask(path, out, stream.spread) for path in files}
    done = {path: rle.encode(mask) for path, mask in found.items() if mask is not None}
    todo = [path for path in files if path not in done]
    if done:
        print(f"{len(done)} of {len(files)} files are done already")
    failed = 0

    def loaded(model: "Model") -> None:
        record_results(out / RECORD, facts, model.made_with)
        announce(model)

    results = stream.run(todo, loaded) if todo else iter(())
    for path in tqdm(todo, "salt-predict", unit="file", disable=None):
        result = next(results)
        if isinstance(result, str):
            done[path] = result
            continue
        failed += 1
        if os.path.exists(path):  # else the mask of its id comes from another file
            masks.pop(id_of(path), None)
        tqdm.write(f"{printable(path)}: {first_line(result)}", file=sys.stderr)
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


def done_mask(path: Path, out: Path, spread: bool) -> NDArray[np.generic] | None:
    """Return the mask of a file whose results are complete, readable and not older than the file; else None."""
    from salt.inference.files import check_result_names, read_amplitudes, result_paths

    places = result_paths(path, out, spread)
    try:
        check_result_names(path, out)
        newest = path.stat().st_mtime
        done = all(place.stat().st_mtime >= newest for place in places.values())
        return read_amplitudes(places["mask"]) if done else None
    except (OSError, ValueError):
        return None


if __name__ == "__main__":
    main()
