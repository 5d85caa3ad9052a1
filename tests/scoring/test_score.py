import numpy as np
import pytest

from salt.scoring import metrics
from salt.scoring.score import best_threshold, score_out_of_fold, split_in_halves


def example(n=40, seed=0):
    rng = np.random.default_rng(seed)
    masks = (rng.random((n, 8, 8)) < rng.choice([0, 0.4], size=(n, 1, 1))).astype(np.uint8)
    probabilities = np.clip(masks * 0.6 + rng.random((n, 8, 8)) * 0.35, 0, 1)
    return probabilities, masks


def difficult_example(n=40):
    """Tiles whose best thresholds differ."""
    rng = np.random.default_rng(1)
    masks = example(n)[1]
    level = rng.uniform(0, 0.5, size=(n, 1, 1))
    return np.clip(level + masks * 0.25 + rng.random(masks.shape) * 0.3, 0, 1), masks


def test_a_perfect_prediction_scores_one():
    masks = example()[1]
    result = score_out_of_fold(masks.astype(np.float32), masks, np.arange(40) % 5)
    assert (
        result.summary["map"] == result.summary["map_at_0.5"] == result.summary["iou"] == result.summary["empty"] == 1
    )
    assert [row["n"] for row in result.summary["folds"]] == [8] * 5
    assert result.summary["map_all_empty"] == (~masks.any(axis=(1, 2))).mean()


def test_rows_agree_with_the_summary():
    probabilities, masks = example()
    folds = np.arange(40) % 5
    result = score_out_of_fold(probabilities, masks, folds)
    frame = result.table
    assert frame["score"].mean() == result.summary["map"]
    assert frame["coverage"].tolist() == masks.mean(axis=(1, 2)).tolist()
    for tile, mask, probability in zip(frame.itertuples(), masks, probabilities, strict=True):
        prediction = probability > tile.threshold
        union = (mask | prediction).sum()
        assert tile.iou == ((mask & prediction).sum() / union if union else 1)
    assert frame.groupby("fold")["threshold"].nunique().max() == 1


def score_by_definition(mask, prediction):
    union = (mask | prediction).sum()
    iou = (mask & prediction).sum() / union if union else 1.0
    return iou, np.mean([iou > t / 100 for t in range(50, 100, 5)])


def test_every_number_of_the_summary_by_its_definition():
    probabilities, masks = difficult_example()
    folds = np.array([0] * 7 + [2] * 15 + [5] * 18)
    masks[:7] = 0  # a fold without salt
    masks[7, :] = masks[8, 0, 0] = 1  # the largest and the smallest body
    result = score_out_of_fold(probabilities, masks, folds)
    frame, summary, truth = result.table, result.summary, masks.astype(bool)
    assert frame["fold"].tolist() == folds.tolist()

    def scores(thresholds):
        predictions = probabilities > np.reshape(thresholds, (-1, 1, 1))
        return np.array([score_by_definition(t, p) for t, p in zip(truth, predictions, strict=True)]).T

    def best(tiles):
        means = [np.mean(scores(np.full(40, t))[1][tiles]) for t in metrics.THRESHOLDS]
        ties = [t for t, m in zip(metrics.THRESHOLDS, means, strict=True) if m > max(means) - 1e-9]
        return min(ties, key=lambda t: abs(t - 0.5))

    assert summary["gains"]["threshold"]["used"]
    assert summary["threshold"] == best(folds >= 0)
    expected = np.select([folds == f for f in (0, 2, 5)], [best(folds != f) for f in (0, 2, 5)])
    assert frame["threshold"].tolist() == expected.tolist() and len(set(expected)) > 1
    iou, score = scores(expected)
    at_half = scores(np.full(40, 0.5))[1]
    salt = truth.any(axis=(1, 2))
    np.testing.assert_allclose(frame[["iou", "score"]].to_numpy().T, [iou, score])
    predicted_empty = ~(probabilities > expected[:, None, None]).any(axis=(1, 2))
    wanted = [score.mean(), at_half.mean(), iou[salt].mean(), predicted_empty[~salt].mean(), (~salt).mean()]
    keys = ("map", "map_at_0.5", "iou", "empty", "map_all_empty")
    np.testing.assert_allclose([summary[key] for key in keys], wanted)
    assert summary["n"] == 40 and [row["fold"] for row in summary["folds"]] == [0, 2, 5]
    for row in summary["folds"]:
        here = folds == row["fold"]
        assert row["n"] == here.sum()
        assert row["map"] == pytest.approx(score[here].mean())
        assert row["map_at_0.5"] == pytest.approx(at_half[here].mean())
        assert row["iou"] == (pytest.approx(iou[here & salt].mean()) if (here & salt).any() else None)


def test_a_single_fold_is_cross_fitted_on_random_halves():
    n = 120
    probabilities, masks = difficult_example(n)
    groups = []
    for seed in range(8):
        result = score_out_of_fold(probabilities, masks, np.full(n, 3), seed=seed)
        assert [row["fold"] for row in result.summary["folds"]] == [3]
        assert result.summary["n"] == n
        chosen = result.table["threshold"].to_numpy()
        table = metrics.score_table(probabilities, masks)
        used = result.summary["gains"]["threshold"]["used"]
        assert used or (chosen == 0.5).all()
        for threshold in set(chosen) if len(set(chosen)) > 1 else ():  # both halves may choose the same
            mine = chosen == threshold
            assert mine.sum() == n // 2 and metrics.THRESHOLDS[best_threshold(table[~mine])] == threshold
            groups.append(mine.tobytes())
    assert len(set(groups)) >= 4


def test_a_section_lies_in_one_half():
    sections = np.random.default_rng(0).integers(0, 30, 200)
    half = split_in_halves(200, sections, seed=0)
    assert set(half) == {0, 1} and all(len(set(half[sections == s])) == 1 for s in range(30))
    assert np.bincount(split_in_halves(200, None, seed=0)).tolist() == [100, 100]
    assert set(split_in_halves(9, np.zeros(9, dtype=np.int64), seed=0)) == {0, 1}  # one section has to be divided
