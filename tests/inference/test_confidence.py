"""How sure a network is of a mask."""

import numpy as np
import pytest

from salt.inference.pseudo import confidence


def test_confidence_is_the_iou_with_the_probabilities_or_how_low_they_are():
    p = np.array([[[0.9, 0.8], [0.2, 0.1]], [[0.1, 0.3], [0.0, 0.2]], [[1.0, 1.0], [0.0, 0.0]]], dtype=np.float32)
    masks = p > 0.5
    soft = np.minimum(p, masks).sum((1, 2)) / np.maximum(p, masks).sum((1, 2))
    np.testing.assert_allclose(confidence(p, masks), [soft[0], 0.7, 1.0], rtol=1e-6)
    assert confidence(p.astype(np.float16), masks) == pytest.approx([soft[0], 0.7, 1.0], abs=1e-3)
