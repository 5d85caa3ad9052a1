"""Read a folder of your own images and masks with the same names, of any size and usual format."""

import logging
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from salt.data import image
from salt.data.amplitudes import Grey, Scaling, find_range, remarks, sample_type
from salt.data.archive import File, decode_files, open_folder
from salt.data.checkup import Checkup, FirstError, Part
from salt.data.image import salt_value, several_values, to_mask
from salt.data.names import id_of, is_utf8, printable
from salt.data.picture import Pixels
from salt.data.source import Source
from salt.data.tables import check_runs, depths_of, table_by_id
from salt.data.tiles import Dataset, Tiles
from salt.runs.stacks import Stack, as_stack, sizes_of

N_SAMPLED = 10_000  # pixels of each image from which the survey's percentiles are taken

log = logging.getLogger("salt")


class Folder(Source):
    """Your own images and masks of any size, and images to predict in test."""

    wanted = "the folders images and masks, with files of the same names, and test for images without a mask"

    @classmethod
    def recognises(cls, root: Path) -> bool:
        """Return whether there is a folder images."""
        return (root / "images").is_dir()

    def check(self) -> None:
        """Check that there is a folder of images.

        Raises:
            ValueError: there is none.
        """
        if not self.recognises(self.root):
            kind = "there is no folder" if not self.root.exists() else "there is no folder images in"
            raise ValueError(f"data.root: {kind} {self.root}; expected {self.wanted}")

    def parts(self, found: Checkup) -> list[Part]:
        """Return the train images, and the test images if there are any."""
        self.check()
        tables = open_folder(self.root)
        table = table_by_id(tables, "train.csv", ["id", "rle_mask"], found)
        depths = table_by_id(tables, "depths.csv", ["id", "z"], found)
        images, masks = (list_images(self.root / kind, found) for kind in ("images", "masks"))
        if not images:
            found.add("error", "the folder images holds no image", "add the images and their masks")
        parts = [Part("train", images, masks, table, depths)]
        if test_folder(self.root).is_dir():
            test = list_images(test_folder(self.root), found)
            if not test:
                found.add("error", "the folder test holds no image", "remove the folder, or add the images")
            parts += [Part("test", test, None, None, depths)] if test else []
        return parts

    def load(self, scaling: Scaling) -> Dataset:
        """Read and check the folder.

        Raises:
            ValueError: something is missing, does not decode or does not fit together; the message names the file.
        """
        label = str(self.root)
        train, *others = self.checked_parts(FirstError(label))
        test = others[0] if others else Part("test", {})
        scaling = with_survey_range(scaling, [*train.images.values(), *test.images.values()])
        tiles = scaled_tiles(train, scaling, label)
        assert train.masks is not None
        files = [train.masks[name] for name in tiles.ids]
        masks = read_masks(files)
        for file, size, other in zip(files, sizes_of(tiles.images), sizes_of(masks), strict=True):
            if size != other:
                expected = f"expected {size[0]}x{size[1]}, as its image"
                raise ValueError(f"{file.label}: is {other[0]}x{other[1]} pixels, {expected}")
        if train.table is not None:
            check_runs(train.table, masks, f"{label}/train.csv")
        nothing = Tiles([], tiles.images[:0], None, tiles.depths[:0])
        test_tiles = scaled_tiles(test, scaling, label) if test.images else nothing
        return Dataset(replace(tiles, masks=masks), test_tiles, scaling.amplitudes.limits)

    def unlabelled(self, place: Path, scaling: Scaling) -> Tiles:
        """Return the images of a folder without a mask: from test/images or test, or else from the folder itself.

        Raises:
            ValueError: there are none, or one does not decode.
        """
        found = FirstError(str(place))
        images = list_images(test_folder(place) if test_folder(place).is_dir() else place, found)
        if not images:
            found.add("error", "holds no image", "name a folder of images")
        part = Part("test", images, depths=table_by_id(open_folder(place), "depths.csv", ["id", "z"], found))
        part.check(found)
        return scaled_tiles(part, with_survey_range(scaling, list(images.values())), str(place))


def test_folder(root: Path) -> Path:
    """Return the place of images without a mask: test/images or test."""
    inner = root / "test" / "images"
    return inner if inner.is_dir() else root / "test"


def list_images(folder: Path, found: Checkup) -> dict[str, File]:
    """Return the image files of a folder by id, in the order of their names, without hidden files."""
    files: dict[str, File] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        name = id_of(path)
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in image.EXTENSIONS:
            known = ", ".join(image.EXTENSIONS)
            found.add(
                "error", "unknown extension", f"convert to one of {known}, or move the file away", printable(path)
            )
        elif not is_utf8(name):
            found.add("error", "file names that are not UTF-8", "rename them", printable(path))
        elif name in files:
            found.add("error", "two files of one name", "keep one of them", printable(path))
        else:
            files[name] = File(str(path), path.read_bytes)
    return files


def scaled_tiles(part: Part, scaling: Scaling, label: str) -> Tiles:
    """Read images as tiles without masks, and warn if their amplitudes look wrong."""
    ids = list(part.images if part.table is None else part.table.index)
    files, title = [part.images[name] for name in ids], f"{part.name} images"
    greys: list[Grey] = decode_files(files, scaling, title, mask=False)
    odd = [(file.label, lines[0]) for file, grey in zip(files, greys, strict=True) if (lines := remarks(grey))]
    if odd:
        log.warning("%s: %s (%d of %d %s are odd; salt-data check lists them)", *odd[0], len(odd), len(greys), title)
    missing = as_stack([grey.missing for grey in greys]) if any(grey.missing.any() for grey in greys) else None
    return Tiles(ids, as_stack([grey.levels for grey in greys]), None, depths_of(part.depths, ids, label), missing)


def read_masks(files: list[File]) -> Stack:
    """Read masks (N H W) with the values 0 and 1, and warn if the value of salt differs between them."""
    pixels: list[tuple[NDArray[np.uint8], float | None]] = decode_files(
        files, lambda p: (to_mask(p), salt_value(p)), "masks", mask=True
    )
    named = zip(reversed(pixels), reversed(files), strict=True)
    values = {value: PurePath(file.label).name for (_, value), file in named if value is not None}
    if len(values) > 1:
        log.warning("masks: %s", several_values(values))
    return as_stack([mask for mask, _ in pixels])


def with_survey_range(scaling: Scaling, files: list[File]) -> Scaling:
    """Return the scaling with the range of all images together, if it asks for the survey's; 8-bit images have none.

    Raises:
        ValueError: the images have several types of samples, whose amplitudes cannot be compared.
    """
    amplitudes = scaling.amplitudes
    if amplitudes.per == "image" or amplitudes.limits is not None:
        return scaling

    def sample(pixels: Pixels) -> Pixels:
        known = scaling.split(pixels)[1]
        return np.random.default_rng(0).choice(known, N_SAMPLED) if known.size else known

    parts = decode_files(files, sample, "amplitudes", mask=False)
    kinds = {sample_type(part): file for part, file in zip(reversed(parts), reversed(files), strict=True)}
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({PurePath(file.label).name})" for kind, file in kinds.items())
        raise ValueError(
            f"data.amplitudes.per=survey: the images have several types of samples, {found}; expected one, or per=image"
        )
    if "uint8" in kinds:
        return scaling
    limits = list(find_range(np.concatenate(parts), amplitudes.pair))
    return Scaling(amplitudes.model_copy(update={"range": limits}), scaling.nodata)
