"""The progress of a fold: a line for each epoch, and the time that is left."""

from salt.training.state import Ahead, State
from salt.words import duration


def epoch_line(state: State, ahead: Ahead) -> str:
    """Return one line about the newest epoch."""
    row = state.rows[-1]
    parts = [f"epoch {row['epoch']}", f"loss {row['loss']:.4f}", f"lr {row['lr']:.3g}"]
    if row["map_at_0.5"] is not None:
        parts.append(f"map {row['map_at_0.5']:.4f} at threshold 0.5")
    if row["iou"] is not None:
        parts.append(f"IoU {row['iou']:.4f} of tiles with salt")
    if row["empty"] is not None:
        parts.append(f"{row['empty']:.1%} of empty tiles found")
    return ", ".join([*parts, f"{state.clock.images_per_second:.1f} images/s", time_left(state, ahead)])


def time_left(state: State, ahead: Ahead) -> str:
    """Return how long the fold, the run and the sweep will still take, by the mean time of the epochs so far."""
    each = state.clock.seconds / state.epoch
    fold, whole = each * (state.epochs - state.epoch), each * state.epochs
    run = fold + whole * ahead.in_run
    text = f"{duration(fold)} left"
    if ahead.in_run:
        text += f", {duration(run)} for all folds"
    if ahead.in_sweep:
        text += f", {duration(run + whole * ahead.in_sweep)} for the sweep"
    return text
