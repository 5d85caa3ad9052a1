"""Images turned and mirrored as their files say, so that a pixel lies where a viewer shows it."""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

TAG = 274  # of TIFF and EXIF; 1 is upright


def oriented(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels (H W) as displayed: stored row 0 and column 0 lie where the orientation, 1 to 8, says.

    Other numbers mean nothing and count as upright. Source: TIFF 6.0, Orientation.
    """
    if orientation in (5, 6, 7, 8):  # rows are stored as columns
        pixels = pixels.T
    if orientation in (3, 4, 7, 8):  # from the bottom
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):  # from the right
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def exif_orientation(content: bytes) -> int:
    """Return the orientation in the EXIF block of a file, or 1 if it says none or is damaged."""
    exif = Image.Exif()
    try:
        exif.load(content)
        return int(exif.get(TAG, 1))
    except Exception:  # of many classes; viewers pass over a damaged block too
        return 1
