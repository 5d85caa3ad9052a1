"""Read a folder of your own images and masks with the same names, of any size and usual format."""

import logging
from dataclasses import replace
from pathlib import Path, PurePath

from salt.config import Labels
from salt.data import image
from salt.data.amplitudes import Grey, Scaling, remarks, sample_type
from salt.data.archive import Checkup, File, FirstError, Part, decode_files, open_folder
from salt.data.image import salt_value, several_values, to_labels
from salt.data.source import AS_THEY_ARE, Source
from salt.data.tables import check_runs, depths_of, table_by_id
from salt.data.tiles import Dataset, Tiles
from salt.paths import id_of, is_utf8, printable
from salt.runs.stacks import Stack, as_stack, sizes_of
from salt.survey.line import SEGY_SUFFIXES

log = logging.getLogger("salt")


class Folder(Source):
    """Your own images and masks of any size, and images to predict in test."""

    wanted = "the folders images and masks, with files of the same names, and test for images without a mask"

    @classmethod
    def recognises(cls, root: Path) -> bool:
        return (root / "images").is_dir()

    def check(self) -> None:
        """Raise ValueError if there is no folder of images."""
        if not self.recognises(self.root):
            kind = "there is no folder" if not self.root.exists() else "there is no folder images in"
            raise ValueError(f"data.root: {kind} {self.root}; expected {self.wanted}")

    def parts(self, found: Checkup, scaling: Scaling = AS_THEY_ARE) -> list[Part]:
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
        """Read and check the folder; raise ValueError that names the first wrong file."""
        label = str(self.root)
        train, *others = self.checked_parts(FirstError(label))
        test = others[0] if others else Part("test", {})
        scaling = with_survey_range(scaling, [*train.images.values(), *test.images.values()])
        tiles = scaled_tiles(train, scaling, label)
        assert train.masks is not None
        files = [train.masks[name] for name in tiles.ids]
        masks, known = read_masks(files, scaling.labels)
        for file, size, other in zip(files, sizes_of(tiles.images), sizes_of(masks), strict=True):
            if size != other:
                expected = f"expected {size[0]}x{size[1]}, as its image"
                raise ValueError(f"{file.label}: is {other[0]}x{other[1]} pixels, {expected}")
        if train.table is not None:
            check_runs(train.table, masks, f"{label}/train.csv")
        nothing = Tiles([], tiles.images[:0], None, tiles.depths[:0])
        test_tiles = scaled_tiles(test, scaling, label) if test.images else nothing
        return Dataset(replace(tiles, masks=masks, known=known), test_tiles, scaling.amplitudes.limits)

    def unlabelled(self, place: Path, scaling: Scaling) -> Tiles:
        """Return the images without a mask: from test/images or test, or else from the folder itself."""
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
        if path.suffix.lower() not in (*image.EXTENSIONS, *SEGY_SUFFIXES):
            known = ", ".join((*image.EXTENSIONS, *SEGY_SUFFIXES))
            advice = f"convert to one of {known}, or move the file away"
            found.add("error", "unknown extension", advice, printable(path))
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


def read_masks(files: list[File], labels: Labels) -> tuple[Stack, Stack]:
    """Read masks (N H W) as 0 and 1, and which pixels are known; warn if the value of salt differs between them."""
    pixels = decode_files(files, lambda p: (to_labels(p, labels), salt_value(p, labels)), "masks", mask=True)
    named = zip(reversed(pixels), reversed(files), strict=True)
    values = {value: PurePath(file.label).name for (_, value), file in named if value is not None}
    if len(values) > 1:
        log.warning("masks: %s", several_values(values))
    return as_stack([labelled.salt for labelled, _ in pixels]), as_stack([labelled.known for labelled, _ in pixels])


def with_survey_range(scaling: Scaling, files: list[File]) -> Scaling:
    """Return the scaling, if it asks for the survey's range with the range of all images; 8-bit images have none."""
    amplitudes = scaling.amplitudes
    if amplitudes.per == "image" or amplitudes.limits is not None:
        return scaling

    parts = decode_files(files, scaling.sample, "amplitudes", mask=False)
    kinds = {sample_type(part): file for part, file in zip(reversed(parts), reversed(files), strict=True)}
    if len(kinds) > 1:
        found = ", ".join(f"{kind} ({PurePath(file.label).name})" for kind, file in kinds.items())
        several = f"the images have several types of samples, {found}"
        raise ValueError(f"data.amplitudes.per=survey: {several}; expected one, or per=image")
    if "uint8" in kinds:
        return scaling
    return scaling.by_samples(parts)
