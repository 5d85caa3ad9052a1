"""Lines that show how far a fold is, and how long it still takes."""

from salt.training.state import Ahead, FoldState
from salt.words import duration


def step_line(state: FoldState, images_per_second: float) -> str:
    """Return the end of the progress bar; the first loss is known one step later."""
    loss = f"loss {state.current.mean_loss:.4f}, " if state.current.losses else ""
    return f"{loss}lr {state.current.lr:.2e}, {images_per_second:.0f} images/s"


def epoch_line(state: FoldState, ahead: Ahead) -> str:
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


def time_left(state: FoldState, ahead: Ahead) -> str:
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
