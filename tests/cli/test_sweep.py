"""What is checked, and named, before a sweep begins."""

import shlex
import signal
import subprocess
import sys

import pytest
from conftest import TINY, salt

from salt.runs.results import find_points

NO_DATA = "data.root=nowhere"


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_points_with_slashes_lie_flat_in_the_folder(tmp_path):
    values = "null,a/b.pth,a%2Fb.pth,'/a/b.pth'"
    result = salt(tmp_path, "-m", "name=s", f"encoder.weights={values}", "data.root=nowhere")
    assert result.returncode == 1 and "there is no folder nowhere" in result.stderr
    names = ["'%2Fa%2Fb.pth'", "a%252Fb.pth", "a%2Fb.pth", "null"]
    points = find_points(tmp_path / "runs/s")
    assert sorted(point.name for point in points) == sorted(f"encoder.weights={name}" for name in names)
    assert all((point / "error.txt").is_file() for point in points)


OWN = """# @package _global_
hydra:
  mode: MULTIRUN
  sweeper:
    params:
      data.root: "x/y,z"
"""


@pytest.mark.parametrize("arguments", [["-m", "data.root=x/y,z"], ["--config-dir=own", "ablation=own"]])
def test_the_data_folder_may_vary(tmp_path, arguments):
    (tmp_path / "own/ablation").mkdir(parents=True)
    (tmp_path / "own/ablation/own.yaml").write_text(OWN)
    salt(tmp_path, *arguments, "name=s")
    assert [point.name for point in find_points(tmp_path / "runs/s")] == ["data.root=x%2Fy", "data.root=z"]


def test_points_of_experiments_with_names_of_their_own_lie_in_the_folder_too(tmp_path):
    salt(tmp_path, "-m", "experiment=cpu,toy", "name=s", "data=tgs", NO_DATA)
    assert everything(tmp_path / "runs") == [
        "s",
        *[f"s/experiment={name}{file}" for name in ("cpu", "toy") for file in ("", "/error.txt")],
        "s/multirun.yaml",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["loss=[bce,dice]"], "salt-train -m loss=bce,dice"),
        (["deep-supervision=[none,multiscale]"], "salt-train -m deep-supervision=none,multiscale"),
        (["-m", "loss=bce,[bce,dice]"], "salt-train -m loss=bce,dice"),
        (["ablation=stem", "encoder.stem=stride1"], "varies encoder.stem=default,no_maxpool,stride1"),
        (["-m", "seed=0,1", "seed=3"], "seed=3 would leave one point of a sweep that varies seed=0,1"),
        (["-m", "name=../x", "seed=0,1"], "name: expected at most 255 letters"),
        (["name=../x"], "name: expected at most 255 letters"),
        (["ablation=stem", "name=../x"], "name: expected at most 255 letters"),
        ([f"name={'a' * 256}"], "at most 255 letters"),
        (["-m", "name=../x", "seed=0,1", "dry_run=true"], "name: expected at most 255 letters"),
        (["seed=0,1", "-m", "trainer.epochs=3,-1"], "trainer.epochs=-1: the config has a problem"),
    ],
)
def test_refused_before_anything_is_made(tmp_path, arguments, message):
    folder = tmp_path / "here"
    folder.mkdir()
    result = salt(folder, *arguments, NO_DATA)
    assert result.returncode == 1 and message in result.stderr and "Traceback" not in result.stderr, result.stderr
    assert everything(tmp_path) == ["here"]


def test_a_point_whose_name_is_too_long_is_one_message(tmp_path):
    result = salt(tmp_path, "-m", f"encoder.weights=null,{'a' * 300}", NO_DATA)
    assert result.returncode == 1 and "File name too long" in result.stderr and "Traceback" not in result.stderr


def test_an_ablation_may_be_narrowed_and_a_list_is_a_value(tmp_path):
    salt(tmp_path, "ablation=placement", "attention.encoder=[],[1,2]", "attention.decoder=all,[]", NO_DATA)
    assert len(find_points(tmp_path / "runs/ablation_placement")) == 4


@pytest.mark.slow
def test_a_dry_sweep_leaves_nothing_and_keeps_what_is_there(tmp_path, synthetic_root):
    arguments = ["-m", *TINY, f"data.root={synthetic_root}", "name=s", "loss=bce,dice", "dry_run=true"]
    result = salt(tmp_path, *arguments, "hydra/launcher=joblib")
    assert result.returncode == 0 and result.stdout.count("M parameters on cpu") == 2, result.stderr
    assert everything(tmp_path) == []
    point = tmp_path / "runs/s/loss=dice"
    (point / "fold_0").mkdir(parents=True)  # of an unknown config: neither a run nor a dry run may continue
    before = everything(tmp_path)
    result = salt(tmp_path, *arguments)
    assert result.returncode == 1 and f"{point} holds results but lacks config.yaml" in result.stderr
    assert everything(tmp_path) == before


MULTIRUN = """
hydra:
  callbacks: {sweep: {_target_: salt.cli.sweep.Sweep}}
  sweeper: {params: %s}
  overrides: {task: [%s]}
"""


def make(folder, *files):
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("{}")


def make_sweep(folder, task="'loss=bce,dice'", params="null"):
    make(folder, "multirun.yaml")
    (folder / "multirun.yaml").write_text(MULTIRUN % (params, task))


def make_run(folder):
    make(folder, "config.yaml", "environment.json", "fold_0/done")


SWEPT = "runs/s is the folder of a sweep"
INSIDE = "which is a run or a sweep"
ALL_FOLDS = "-m folds=[0],[1]"


@pytest.mark.parametrize(
    ("layout", "words", "message"),
    [
        ({"runs/s": make_sweep}, "name=s", SWEPT),  # none of its points has begun
        ({"runs/s": lambda s: make_sweep(s, "name=s", "{loss: 'bce,dice'}")}, "name=s", SWEPT),  # an ablation
        ({"runs/s/loss=bce": make_run}, "name=s", SWEPT),  # multirun.yaml is lost
        ({"runs/s": make_sweep}, f"{ALL_FOLDS} name=s", SWEPT),
        ({"runs/s": make_sweep}, "hydra.run.dir=runs/s/mine", INSIDE),
        ({"runs/a": make_run}, "hydra.run.dir=runs/a/fold_0/mine", INSIDE),
        ({"runs/a": make_run}, "-m name=a loss=bce,dice", "runs/a is a run"),
        ({"runs/s": make_sweep}, "-m hydra.sweep.dir=runs/s/more loss=bce,dice", INSIDE),
    ],
)
@pytest.mark.parametrize("dry", ["false", "true"])
def test_a_run_in_the_folder_of_another_is_refused(tmp_path, layout, words, message, dry):
    for place, maker in layout.items():
        maker(tmp_path / place)
    before = everything(tmp_path)
    result = salt(tmp_path, *words.split(), NO_DATA, f"dry_run={dry}")
    assert result.returncode == 1 and message in result.stderr and result.stderr.count("\n") == 1, result.stderr
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        ({"runs/s": make_sweep}, "-m name=s loss=bce,dice"),
        ({"runs/s": make_sweep, "runs/s/loss=bce": make_run}, "-m name=s loss=bce,dice"),
        ({"runs/s": make_sweep, "runs/s/loss=bce": make_run}, "'hydra.run.dir=\"runs/s/loss=bce\"'"),
        ({"runs/s": make_sweep}, "name=t"),
        ({"runs/a": lambda a: make_sweep(a, "'folds=[0],[1]'")}, "name=a"),
        ({"runs/a": make_run}, f"{ALL_FOLDS} name=a"),
        ({"runs/a": make_run}, "name=a"),
        ({"": lambda here: make(here, "config.yaml", "multirun.yaml")}, "name=a"),  # of other programs
    ],
)
def test_runs_and_points_resume_in_their_own_folders(tmp_path, layout, words):
    for place, maker in layout.items():
        maker(tmp_path / place)
    result = salt(tmp_path, *shlex.split(words), NO_DATA)
    assert result.returncode == 1 and "there is no folder nowhere" in result.stderr, result.stderr


def test_ctrl_c_on_points_side_by_side_is_one_line():
    code = "import os, signal; from salt.cli.sweep import leave_points as leave; signal.signal(signal.SIGINT, leave)\n"
    command = [sys.executable, "-c", code + "os.kill(os.getpid(), signal.SIGINT)"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGINT  # by the signal itself: joblib kills nothing
    assert result.stderr.startswith("stopped by Ctrl-C") and result.stderr.count("\n") == 1
