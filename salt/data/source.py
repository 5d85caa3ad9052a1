"""Where the tiles of a run come from: the class that `data` names in the config, Salt's own or a user's."""

import copy
import io
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from salt.components import build_part, get_target
from salt.config import Data
from salt.data.amplitudes import BY_IMAGE, Scaling
from salt.data.archive import Checkup, File, Part
from salt.data.tiles import Dataset, Tiles
from salt.overrides import CONFIGS
from salt.runs.files import read_yaml
from salt.runs.stacks import Stack, as_stack

AS_THEY_ARE = Scaling(BY_IMAGE)


class Source:
    """Data of one kind at a place, `root`; a new kind needs `load` alone.

    Settings of its own are further arguments of its `__init__`.
    """

    wanted: ClassVar[str] = "data of this kind"  # what `root` should hold, for messages
    competition: ClassVar[str | None] = None  # of Kaggle, if it takes submissions for this data

    def __init__(self, root: str | Path):
        self.root = Path(root)

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Return whether a folder or file looks like this kind: `salt-data` has no config that names one."""
        return False

    def check(self) -> None:
        """Check quickly, without reading it, that the data exists.

        Raises:
            ValueError: it does not.
        """
        if not self.root.exists():
            raise ValueError(f"data.root: there is no {self.root}; expected {self.wanted}")

    def prepare(self) -> None:
        """Generate the data if this kind is generated. A dry run skips this, so `load` must work without it."""

    def load(self, scaling: Scaling) -> Dataset:
        """Read and check the data: training tiles with masks, and test tiles in the order of the submission, if any.

        `scaling` turns amplitudes into the grey values of `Tiles`.

        Raises:
            ValueError: something is missing, does not decode or does not fit together; the message names the file.
        """
        raise NotImplementedError

    def unlabelled(self, place: Path, scaling: Scaling) -> Tiles:
        """Return the test images of other data of this kind.

        Raises:
            ValueError: as `load`.
        """
        other = copy.copy(self)
        other.root = place
        return other.load(scaling).test

    def table(self, name: str) -> Path:
        """Return the place of a table that the user adds to the data: folds.csv or mosaic.csv."""
        return (self.root.parent if self.root.is_file() else self.root) / name

    def parts(self, found: Checkup, scaling: Scaling = AS_THEY_ARE) -> list[Part]:
        """Return the train and the test images, before anything is decoded; note problems in `found`."""
        try:
            data = self.load(scaling)
        except ValueError as error:
            found.add("error", str(error), "mend the data, or the settings that the message names")
            return []
        masks = None if data.train.masks is None else as_files(data.train.ids, with_nan(data.train))
        test = [Part("test", as_files(data.test.ids, data.test.images))] if data.test.ids else []
        return [Part("train", as_files(data.train.ids, data.train.images), masks), *test]

    def checked_parts(self, found: Checkup, scaling: Scaling = AS_THEY_ARE) -> list[Part]:
        """Return the parts, and note what lacks its partner."""
        parts = self.parts(found, scaling)
        for part in parts:
            part.check(found)
        return parts


def with_nan(tiles: Tiles) -> Stack:
    """Return masks with NaN at unknown pixels."""
    assert tiles.masks is not None
    if tiles.known is None:
        return tiles.masks
    return as_stack(
        [np.where(seen, mask, np.float32("nan")) for mask, seen in zip(tiles.masks, tiles.known, strict=True)]
    )


def as_files(ids: list[str], stack: Stack) -> dict[str, File]:
    """Return images (N H W, or N arrays) as files by id."""
    return {name: File(f"{name}.npy", partial(as_npy, pixels)) for name, pixels in zip(ids, stack, strict=True)}


def as_npy(pixels: Any) -> bytes:
    """Return an array in NumPy's own format."""
    stream = io.BytesIO()
    np.save(stream, pixels)
    return stream.getvalue()


def source_of(data: Data, root: str | None = None) -> Source:
    """Return the source that the settings name, at their place or another `root`; raise ValueError if it is none."""
    source_class(data.target)
    return build_part("data", data.source() if root is None else data.source() | {"root": root})


def source_class(target: str) -> type[Source]:
    """Return the class of this name; raise ValueError if there is none, or it is no source."""
    found = get_target("data", target)
    if not (isinstance(found, type) and issubclass(found, Source)):
        raise ValueError(f"data: expected {target} to be a class that inherits salt.data.source.Source")
    return found


def find_source(root: Path, options: Path | None = None) -> Source:
    """Return the source that recognises a folder or file, a user's of `options` or Salt's; raise ValueError if none."""
    if not root.exists():
        raise ValueError(f"there is no {root}")
    own = [] if options is None else sorted(options.glob("data/*.yaml"))
    if options is not None and not own:
        raise ValueError(f"--config-dir {options}: there is no {options}/data/NAME.yaml that names a class")
    wanted = []
    for file in (*own, *sorted(CONFIGS.glob("data/*.yaml"))):
        content = read_yaml(file)
        target = content.get("data", content).get("_target_")
        if target is None:  # it extends another one
            continue
        kind = source_class(target)
        if kind.recognises(root):
            return build_part("data", {"_target_": target, "root": str(root)})
        wanted.append(kind.wanted)
    raise ValueError(f"{root} holds no data set, expected {', or '.join(dict.fromkeys(wanted))}")
