"""Jobs, folds and states for tests that train without a command."""

from pathlib import Path

from salt.build import Network, build_network
from salt.data.folds import assign_folds
from salt.data.load import fill_from_data, load_data
from salt.job import Job
from salt.machine.device import choose_runtime
from salt.runs.rundir import RunDir


def make_job(config, path=Path("nowhere"), data=None, folds=None, model=None, runtime=None):
    """A job as `preflight` makes it, but without its checks."""
    data = data or load_data(config)
    runtime = runtime or choose_runtime(config.trainer)
    return Job(
        config=fill_from_data(config, data),
        data=data,
        folds=assign_folds(config, data.train) if folds is None else folds,
        directory=RunDir(path),
        runtime=runtime,
        network=build_network(config, runtime) if model is None else Network(model, model),
    )
