import numpy as np

from salt.score import score_out_of_fold


def example(n=40, seed=0):
    rng = np.random.default_rng(seed)
    masks = (rng.random((n, 8, 8)) < rng.choice([0, 0.4], size=(n, 1, 1))).astype(np.uint8)
    probabilities = np.clip(masks * 0.6 + rng.random((n, 8, 8)) * 0.35, 0, 1)
    return np.array([f"t{i}" for i in range(n)]), probabilities, masks


def test_a_perfect_prediction_scores_one():
    ids, _, masks = example()
    result = score_out_of_fold(ids, masks.astype(np.float32), masks, np.arange(40) % 5, seed=0)
    assert (
        result.summary["map"] == result.summary["map_at_0.5"] == result.summary["iou"] == result.summary["empty"] == 1
    )
    assert [row["n"] for row in result.summary["folds"]] == [8] * 5
    assert result.summary["map_all_empty"] == (~masks.any(axis=(1, 2))).mean()


def test_rows_agree_with_the_summary():
    ids, probabilities, masks = example()
    folds = np.arange(40) % 5
    result = score_out_of_fold(ids, probabilities, masks, folds, seed=0)
    frame = result.table
    assert frame["score"].mean() == result.summary["map"]
    assert frame["coverage"].tolist() == masks.mean(axis=(1, 2)).tolist()
    for tile, mask, probability in zip(frame.itertuples(), masks, probabilities, strict=True):
        prediction = probability > tile.threshold
        union = (mask | prediction).sum()
        assert tile.iou == ((mask & prediction).sum() / union if union else 1)
    assert frame.groupby("fold")["threshold"].nunique().max() == 1


def test_a_single_fold_is_cross_fitted_on_random_halves():
    ids, probabilities, masks = example()
    result = score_out_of_fold(ids, probabilities, masks, np.full(40, 3), seed=0)
    assert [row["fold"] for row in result.summary["folds"]] == [3]
    assert result.summary["n"] == 40
