import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from salt.runs.stacks import as_stack
from salt.scoring.errors import bias, calibration_error, reliability


@pytest.mark.parametrize("mixed", [False, True])
def test_it_is_the_curve_of_scikit_learn(mixed):
    rng = np.random.default_rng(0)
    shapes = [(11, 7 + i * mixed) for i in range(20)]
    probabilities = [rng.beta(0.5, 0.7, shape).astype(np.float16) for shape in shapes]
    masks = [(rng.random(p.shape) < p**2).astype(np.uint8) for p in probabilities]
    bins = reliability(as_stack(probabilities), as_stack(masks))
    p, truth = (np.concatenate([part.ravel() for part in parts]) for parts in (probabilities, masks))
    salt, mean = calibration_curve(truth, p.astype(np.float64), n_bins=10)
    np.testing.assert_allclose(bins["salt"], salt)
    np.testing.assert_allclose(bins["probability"], mean)
    assert bins["share"].sum() == pytest.approx(1)
    number = np.maximum(np.ceil(p.astype(np.float64) * 10) - 1, 0)
    expected = sum(
        abs(p[number == i].mean(dtype=np.float64) - truth[number == i].mean()) * (number == i).mean() for i in range(10)
    )
    assert calibration_error(bins) == pytest.approx(expected, rel=1e-6)


def test_certain_pixels_and_bins_without_a_pixel():
    probabilities = np.array([[[0.0, 1.0], [1.0, 0.55]]])
    bins = reliability(probabilities, np.array([[[0, 1], [0, 1]]]))
    assert bins["salt"].tolist() == [0, 1, 0.5] and bins["share"].tolist() == [0.25, 0.25, 0.5]
    assert bins["probability"].tolist() == pytest.approx([0, 0.55, 1], abs=1e-3)
    assert calibration_error(bins) == pytest.approx(0.25 * 0.45 + 0.5 * 0.5, abs=1e-3)
    assert bias(bins, 0.1, 0.9) == pytest.approx(-0.45, abs=1e-3) and bias(bins, 0.1, 0.5) is None
