"""The command `salt-blend RUN RUN... --out RUN`: several finished runs as one, with weights chosen out of fold."""

import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import yaml
from numpy.typing import NDArray

from salt.commands.common import add_root, make_parser, messages
from salt.runs.files import locked, read_json, write_json, write_text
from salt.runs.results import read_tiles, write_results
from salt.runs.rundir import BLEND, RunDir

if TYPE_CHECKING:  # at run time it is imported when it is needed, for it brings torch
    from salt.inference.blend import Member


def main() -> None:
    """Write the blended run; exit code 1 and one message if it fails."""
    with messages("salt-blend"):
        parser = make_parser("salt-blend", "Average finished runs, with weights chosen on out-of-fold predictions.")
        parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="runs of the same data and folds")
        parser.add_argument("--out", type=Path, metavar="RUN", required=True, help="the new run directory")
        add_root(parser)
        arguments = parser.parse_args()
        logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
        print(blend_runs(arguments.runs, arguments.out, arguments.root))


def blend_runs(paths: list[Path], out: Path, root: str | None) -> str:
    """Write the blended run in `out`, without a submission; returns its weights and scores in words.

    Raises:
        ValueError: the runs do not fit together, or `out` holds something else.
    """
    from salt.data.folds import read_folds
    from salt.data.load import load_data_of_run
    from salt.inference import blend

    if out.exists() and not (out / BLEND).exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"--out {out}: this folder holds something else; name a new one")
    members = [blend.read_member(path) for path in paths]
    blend.check_members(members)
    first = members[0]
    data = load_data_of_run(RunDir(first.path), first.config, root).train
    assert data.masks is not None
    position = {name: i for i, name in enumerate(data.ids)}
    index = np.array([position[name] for name in first.ids])
    folds = read_folds(first.path / "folds.csv", data.ids, first.config.data.n_folds)[index]
    tiles = read_tiles(first.path / "oof.csv").loc[first.ids]
    sections = tiles["section"].to_numpy() if "section" in tiles else None
    weights, probabilities, result = blend.blend(members, data.masks[index], folds, sections)

    out.mkdir(parents=True, exist_ok=True)
    with locked(out, "collect"):
        for name in ("submission.json", "submission.csv", "test.npz", "report.html"):  # of other weights than these
            (out / name).unlink(missing_ok=True)
        missing = first.score["missing_folds"]
        score = result.summary | {"partial": bool(missing), "missing_folds": missing}
        write_json(out / BLEND, blend.describe(out, members, weights))
        config = first.config.model_dump(mode="json", by_alias=True) | {"name": out.resolve().name}
        write_text(out / "config.yaml", yaml.safe_dump(config, sort_keys=False, allow_unicode=True))
        begun = read_json(first.path / "environment.json", "data_sha256")
        of_one = ("command", "changes", "resumed")  # of the first run alone
        write_json(out / "environment.json", {key: value for key, value in begun.items() if key not in of_one})
        shutil.copyfile(first.path / "folds.csv", out / "folds.csv")
        write_results(out, np.array(first.ids), probabilities, result.table, score)
    return in_words(out, members, weights, score["map"])


def in_words(out: Path, members: "Sequence[Member]", weights: NDArray[np.float64], score: float) -> str:
    """Weights and scores of the runs, the score of the blend in `out`, and whether one run alone scores more."""
    lines = [f"{w:5.2f}  {m.path}  (map {m.score['map']:.4f})" for w, m in zip(weights, members, strict=True)]
    best = max(members, key=lambda member: float(member.score["map"]))
    less = best.score["map"] - score
    more = f", {less:.4f} less than {best.path} alone (salt-compare tells if that is resolved)" if less >= 5e-5 else ""
    return "\n".join([*lines, f"{out}: out-of-fold map {score:.4f}{more}; salt-submit {out} writes its submission"])


if __name__ == "__main__":
    main()
