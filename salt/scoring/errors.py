"""What kind of error a tile's predicted mask makes, so that tiles which fail in one way can be looked at together."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from salt.scoring.metrics import score_counts

KINDS = {
    "perfect": "full score: the mask overlaps the truth by more than 95 %, or both are empty",
    "boundary": "most wrong pixels lie near the outline of the true salt",
    "missed salt": "most wrong pixels far from the outline are salt that was not found, or none was found at all",
    "invented salt": "most wrong pixels far from the outline are salt that is not there",
}
NEAR = 0.05  # of the tile's side (the root of its area): what is this near to the true outline is boundary


@dataclass(frozen=True)
class Errors:
    """The kind of error (of `KINDS`), and the missed and invented salt in pixels."""

    kind: str
    missed: int
    invented: int


def classify(truth: NDArray[Any], prediction: NDArray[Any]) -> Errors:
    """Compare a predicted mask (H W) with the true one."""
    truth, prediction = truth != 0, prediction != 0
    missed, invented = truth & ~prediction, prediction & ~truth
    counts = int(missed.sum()), int(invented.sum())
    sizes = (np.array([int(mask.sum())]) for mask in (truth & prediction, truth, prediction))
    if score_counts(*sizes)[0] == 1:
        return Errors("perfect", *counts)
    if not truth.any():
        return Errors("invented salt", *counts)
    if not prediction.any():
        return Errors("missed salt", *counts)
    far = distance_to_outline(truth) > NEAR * truth.size**0.5
    far_missed, far_invented = int((missed & far).sum()), int((invented & far).sum())
    if 2 * (far_missed + far_invented) < sum(counts):
        return Errors("boundary", *counts)
    return Errors("missed salt" if far_missed >= far_invented else "invented salt", *counts)


def distance_to_outline(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Distance in pixels of each pixel (H W) to the nearest one on the other side of the outline; large if none is."""
    inside, outside = (
        cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for side in (mask, ~mask)
    )
    distance: NDArray[np.float32] = inside + outside
    return distance
