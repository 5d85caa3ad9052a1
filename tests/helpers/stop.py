"""Stop a training as a user would."""

from salt.training import checkpoint


def stop_after_saving(patch, epoch):
    """Let a training stop as after Ctrl-C, once the checkpoint of this epoch is written."""
    save = checkpoint.save

    def stop(state, path):
        save(state, path)
        if state.epoch == epoch:
            raise KeyboardInterrupt

    patch.setattr(checkpoint, "save", stop)
