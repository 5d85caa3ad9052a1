"""What kind of error a tile's predicted mask makes."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from salt.scoring.metrics import score_counts

ERROR_KINDS = {
    "perfect": "full score: the mask overlaps the truth by more than 95 %, or both are empty",
    "boundary": "most wrong pixels lie near the outline of the true salt",
    "missed salt": "most wrong pixels far from the outline are salt that was not found, or none was found at all",
    "invented salt": "most wrong pixels far from the outline are salt that is not there",
}
NEAR = 0.05  # of the tile's side (the root of its area): pixels this near to the true outline are boundary


@dataclass(frozen=True)
class Errors:
    """The kind of error (of `ERROR_KINDS`), and the missed and invented salt in pixels."""

    kind: str
    missed: int
    invented: int


def classify(truth: NDArray[Any], prediction: NDArray[Any]) -> Errors:
    """Compare a predicted mask (H W) with the true one."""
    truth, prediction = truth != 0, prediction != 0
    missed, invented = truth & ~prediction, prediction & ~truth
    far = distance_to_outline(truth) > NEAR * truth.size**0.5
    far_missed, far_invented = np.count_nonzero(missed & far), np.count_nonzero(invented & far)
    counts = int(np.count_nonzero(missed)), int(np.count_nonzero(invented))
    sizes = (np.array([np.count_nonzero(mask)]) for mask in (truth & prediction, truth, prediction))
    if score_counts(*sizes)[0] == 1:
        kind = "perfect"
    elif truth.any() and prediction.any() and 2 * (far_missed + far_invented) < sum(counts):
        kind = "boundary"
    else:
        kind = "missed salt" if truth.any() and far_missed >= far_invented else "invented salt"
    return Errors(kind, *counts)


def distance_to_outline(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return the distance of each pixel (H W) to the nearest one of the other class; large if the mask has only one."""
    inside, outside = (
        cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) for side in (mask, ~mask)
    )
    distance: NDArray[np.float32] = inside + outside
    return distance
