"""The commands, as a user types them."""

import gc
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
import weakref

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY, salt
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

import salt as package
from salt import train
from salt.commands import compare, report, submit
from salt.data import rle
from salt.data.folds import read_folds, write_folds
from salt.data.synthetic import ensure_synthetic
from salt.data.tgs import read_dataset
from salt.inference import submission
from salt.runs.files import locked
from salt.scoring import metrics


@pytest.fixture(scope="module")
def finished(tmp_path_factory, synthetic_root):
    path = tmp_path_factory.mktemp("finished")
    command = [sys.executable, "-m", "salt.train", *TINY, f"data.root={synthetic_root}", "name=a"]
    result = subprocess.run(command, cwd=path, capture_output=True, text=True, check=False)  # as a user starts it
    assert result.returncode == 0, result.stderr
    return path


def test_a_run_writes_everything(finished, synthetic_root):
    run = finished / "runs" / "a"
    data = read_dataset(synthetic_root)
    score = json.loads((run / "score.json").read_text())
    assert {"map", "map_at_0.5", "iou", "threshold", "empty", "n", "partial", "folds"} <= set(score)
    assert score["n"] == 24 and score["partial"] is False and score["missing_folds"] == []
    for row in score["folds"]:
        assert {"fold", "map", "map_at_0.5", "iou", "n", "epochs", "seconds", "images_per_second"} == set(row)
        assert row["epochs"] == 2 and row["n"] == 12 and row["seconds"] > 0

    submission = pd.read_csv(run / "submission.csv", dtype=str, keep_default_na=False)
    assert submission["id"].tolist() == data.test.ids
    for text in submission["rle_mask"]:
        rle.decode(text, (101, 101))

    oof = pd.read_csv(run / "oof.csv", dtype={"id": str})
    assert sorted(oof["id"]) == sorted(data.train.ids)
    folds = pd.read_csv(run / "folds.csv", dtype={"id": str}).set_index("id")["fold"]
    assert oof["fold"].tolist() == folds.loc[oof["id"]].tolist()
    with np.load(run / "oof.npz") as file:
        position = {tile_id: i for i, tile_id in enumerate(data.train.ids)}
        masks = data.train.masks[[position[i] for i in file["ids"]]]
        table = metrics.score_table(file["probabilities"], masks)
    assert table[:, metrics.HALF].mean() == pytest.approx(score["map_at_0.5"])
    assert oof["score"].mean() == pytest.approx(score["map"])
    assert not (run / "error.txt").exists()
    assert "out-of-fold map" in (run / "train.log").read_text()


def test_the_same_command_again_trains_nothing(finished, synthetic_root):
    before = (finished / "runs/a/fold_0/model.safetensors").stat().st_mtime_ns
    submission = (finished / "runs/a/submission.csv").read_bytes()
    result = salt(finished, *TINY, f"data.root={synthetic_root}", "name=a")
    assert result.returncode == 0 and "fold 1 is finished already" in result.stdout
    assert "submission.csv is of these weights and this threshold already" in result.stdout
    assert (finished / "runs/a/fold_0/model.safetensors").stat().st_mtime_ns == before
    assert (finished / "runs/a/submission.csv").read_bytes() == submission


def test_another_config_is_refused_and_nothing_is_lost(finished, synthetic_root):
    before = {f: f.read_bytes() for f in (finished / "runs/a").rglob("*") if f.is_file() and f.name != "train.log"}
    result = salt(finished, *TINY, f"data.root={synthetic_root}", "name=a", "optimizer.lr=0.5")
    assert result.returncode == 1 and "optimizer.lr: 0.001 -> 0.5" in result.stderr and "Traceback" not in result.stderr
    assert all(f.read_bytes() == content for f, content in before.items())
    assert not (finished / "runs/a/error.txt").exists()


def test_submit_and_report(finished):
    submission = finished / "runs/a/submission.csv"
    before = submission.read_bytes()
    submission.unlink()
    result = salt(finished, "runs/a", "--device", "cpu", main=submit.main)  # as it was trained
    assert result.returncode == 0, result.stderr
    assert submission.read_bytes() == before
    result = salt(finished, "runs/a", main=report.main)
    assert result.returncode == 0 and "out-of-fold map" in result.stdout
    assert (finished / "runs/a/report.png").read_bytes()[:4] == b"\x89PNG"
    result = salt(finished, "runs/a", "--device", "gpu", main=submit.main)
    assert result.returncode == 1 and "trainer.device" in result.stderr and "Traceback" not in result.stderr
    for main in (submit.main, report.main):
        result = salt(finished, "runs/b", main=main)
        assert result.returncode == 1 and "is no run directory" in result.stderr and "Traceback" not in result.stderr


def test_some_folds_are_partial_and_the_others_complete_them(tmp_path, synthetic_root, finished):
    run = tmp_path / "runs" / "a"
    arguments = [*TINY, f"data.root={synthetic_root}", "name=a"]
    result = salt(tmp_path, *arguments, "folds=[1]")
    assert result.returncode == 0 and "the folds [0] are missing" in result.stdout
    score = json.loads((run / "score.json").read_text())
    assert score["partial"] is True and score["missing_folds"] == [0] and score["n"] == 12
    assert len(pd.read_csv(run / "submission.csv")) == 6
    assert salt(tmp_path, *arguments).returncode == 0
    for name in ("oof.csv", "oof.npz", "submission.csv", "fold_0/model.safetensors"):
        assert (run / name).read_bytes() == (finished / "runs/a" / name).read_bytes()


def test_dry_run_says_what_would_happen_and_writes_nothing(tmp_path, synthetic_root):
    result = salt(tmp_path, *TINY, f"data.root={synthetic_root}", "dry_run=true")
    assert result.returncode == 0, result.stderr
    assert "M parameters on cpu" in result.stdout and "24 train tiles" in result.stdout
    options = next(line for line in result.stdout.splitlines() if " options: " in line).split()
    assert {"loss=bce_dice", "decoder=unet", "center=none", "attention=none"} <= set(options)
    typed = shlex.join(word for word in TINY if word not in ("data=synthetic", "encoder=any"))
    assert f" settings: {typed} data.root=" in result.stdout
    assert re.search(r"2 folds to train: about \d+ s on this machine, by a trial of a few steps", result.stdout)
    assert not list(tmp_path.iterdir())
    result = salt(tmp_path, *TINY, "dry_run=true")  # nor the tiles, which the run itself would generate
    assert result.returncode == 0 and "24 train tiles" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_sweep_makes_a_run_for_each_point(tmp_path, synthetic_root):
    tiny = [override for override in TINY if override != "data=synthetic" and "data.synthetic" not in override]
    result = salt(
        tmp_path,
        "-m",
        *tiny,
        f"data.root={synthetic_root}",
        "name=s",
        "loss=bce,lovasz",
        "folds=[0]",
        "dry_run=true",
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("M parameters on cpu") == 2
    assert not list(tmp_path.iterdir())
    result = salt(
        tmp_path,
        "-m",
        *tiny,
        f"data.root={synthetic_root}",
        "name=s",
        "folds=[0]",
        "trainer.epochs=1",
        "loss=bce,lovasz",
        "optimizer.lr=-1,0.01",
    )
    assert result.returncode == 1 and "optimizer.lr" in result.stderr
    scores = sorted((tmp_path / "runs" / "s").glob("*/score.json"))
    assert len(scores) == 2 and all("optimizer.lr=0.01" in str(s) for s in scores)
    assert len(list((tmp_path / "runs" / "s").glob("*optimizer.lr=-1*/error.txt"))) == 2


def test_an_ablation_goes_on_past_a_failed_point_resumes_and_ends_with_its_table(tmp_path, synthetic_root):
    left_out = ("data=synthetic", "data.synthetic", "decoder.channels", "trainer.epochs")
    tiny = [o for o in TINY if not o.startswith(left_out)]
    arguments = ["ablation=architecture", *tiny, f"data.root={synthetic_root}", "trainer.epochs=1"]
    arguments += ["hydra.sweeper.params.decoder='tiramisu,unet_small'"]  # with an encoder named, tiramisu is refused
    folder = tmp_path / "runs" / "ablation_architecture"
    for attempt in ("first", "again"):
        result = salt(tmp_path, *arguments)
        assert result.returncode == 1 and result.stderr.count("decoder: cannot build") == 1, attempt
        assert "Error executing job" not in result.stderr and "HYDRA_FULL_ERROR" not in result.stderr
        assert "Traceback" not in result.stderr and "run the same command again to resume" in result.stderr
        assert sorted(p.name for p in folder.iterdir() if p.is_dir()) == ["decoder=tiramisu", "decoder=unet_small"]
        assert "24 tiles" in result.stdout and "no score: decoder=tiramisu (ValueError: " in result.stdout
        assert pd.read_csv(folder / "compare.csv").iloc[:, 0].tolist() == ["decoder=unet_small", "all empty"]
        assert ("fold 1 is finished already" in result.stdout) == (attempt == "again")
    other = salt(tmp_path, *arguments, "optimizer.lr=0.5")
    assert other.returncode == 1 and "optimizer.lr: 0.001 -> 0.5" in other.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.root=nowhere"], "there is no folder nowhere. Download the data from https://www.kaggle.com"),
        (["optimizer.lr=0", "trainer.epochs=0"], "2 problems"),
        (["trainer.epoch=3"], "trainer.epoch: unknown key; did you mean trainer.epochs?\n"),
        (["+trainer.epoch=3"], "trainer.epoch: unknown key; did you mean trainer.epochs?\n"),
        (["epochs=3"], "epochs: unknown key; did you mean trainer.epochs?\n"),
        (["loss=focal", "loss.gama=1"], "loss.gama: unknown key; did you mean loss.gamma?\n"),
        (["los=lovasz"], "los: unknown key; did you mean loss?\n"),
        (["loss=lovas"], "loss=lovas: unknown option; did you mean lovasz?\nThe options: bce, bce_dice,"),
        (["deep_supervision=multiscale"], "choose an option with deep-supervision=multiscale"),
        (["encoder=any"], "encoder=any needs encoder.name=...\n"),
        (["~loss"], "loss: is missing"),
        (["folds=[2]"], "found [2]; for more folds set data.n_folds=3"),
        (["-m", "trainer.epoch=1,2"], "trainer.epoch: unknown key; did you mean trainer.epochs?\n"),
        (["-m", "loss=bce,dicee"], "loss=dicee: unknown option; did you mean dice?"),
        (["encoder.name=tu-vit_tiny_patch16_224", "encoder.weights=null"], "does not halve its feature maps"),
        (
            ["data=synthetic", "trainer.batch_size=900"],
            "more than the 800 training tiles of fold 0",
        ),
        (["encoder.name=resnet43"], "near names: resnet"),
        (["encoder.weights=nowhere.pth"], "there is no file nowhere.pth"),
        (["trainer.device=cuda:99"], "this machine has"),
        (["encoder.name=tu-resnet181", "encoder.weights=null"], "near names: tu-resnet18"),
        (
            ["encoder.weights=null", "loss=bce_then_lovasz", "loss.at=2", "center=dblock", "center.dilations=[]"],
            "loss: c",
        ),
        (
            ["encoder.weights=null", "loss=bce_then_lovasz", "loss.at=2", "center=dblock", "center.dilations=[]"],
            "center: c",
        ),
    ],
)
def test_bad_input_gets_one_message_and_leaves_nothing(tmp_path, synthetic_root, arguments, message):
    if not any(a.startswith("data") for a in arguments):
        arguments += [f"data.root={synthetic_root}", "trainer.batch_size=4", "data.n_folds=2"]
    result = salt(tmp_path, *arguments)
    assert result.returncode == 1 and message in result.stderr
    for foreign in ("Traceback", "HYDRA_FULL_ERROR", "Error executing job", "Some points failed"):
        assert foreign not in result.stderr
    assert not (tmp_path / "runs").exists()


def test_a_developer_may_have_the_stack_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(HydraException, match=r"unknown key; did you mean trainer\.epochs"):
        salt(tmp_path, "+trainer.epoch=3", "data=synthetic")


def test_no_data_names_the_three_ways(tmp_path, monkeypatch):
    monkeypatch.delenv("SALT_DATA", raising=False)
    result = salt(tmp_path)
    for way in ("kaggle.com/c/tgs", "data.root=", "data=synthetic"):
        assert way in result.stderr


def test_help_lists_the_groups_and_needs_no_torch(tmp_path):
    result = salt(tmp_path, "--help")
    assert result.returncode == 0, result.stderr
    for line in (
        "loss: bce, bce_dice, bce_lovasz, bce_then_lovasz, bce_to_lovasz, bootstrapped_ce, dice, focal, lovasz,",
        "ablation: architecture, attention, center,",
        "attention: cse, none, scse, sse",
        "data=synthetic",
    ):
        assert line in result.stdout
    code = "import sys, salt.train\ntry: salt.train.main()\nfinally: sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, "--help"], capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("main", [train.main, submit.main, report.main, compare.main])
def test_every_command_knows_the_version(tmp_path, main):
    name = f"salt-{main.__module__.rpartition('.')[2]}"
    assert salt(tmp_path, "--version", main=main) == (0, f"{name} {package.__version__}\n", "")


@pytest.mark.parametrize(
    ("module", "argument"), [("train", "--help"), ("train", "--cfg=all"), ("commands.report", "runs/a")]
)
def test_a_closed_pipe_ends_the_command_without_a_word(finished, module, argument):
    command = [sys.executable, "-m", f"salt.{module}", argument]
    with subprocess.Popen(command, cwd=finished, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()  # as `| head` does
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE  # 141 in a shell


def test_a_run_goes_on_where_nobody_reads_what_it_says(tmp_path, synthetic_root):
    overrides = [*TINY, f"data.root={synthetic_root}", "trainer.epochs=1", "folds=[0]"]
    command = [sys.executable, "-m", "salt.train", *overrides]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        process.stdout.close()
    assert (tmp_path / "runs/baseline/submission.csv").is_file()


REFUSED = {
    "+trainer.epoch=3": "unknown key",
    "loss=lovas": "lovasz",
    "name=../x": "name: ",
    "data.root=nowhere": "there is no folder nowhere",
    "data.root=runs": "runs has no train.csv",
    "data.folds_csv=nowhere.csv": "data.folds_csv: there is no file nowhere.csv",
    "name=new encoder.weights=nowhere.pth": "encoder.weights: there is no file nowhere.pth",
    "seed=5": "seed: 0 -> 5",
    "data.root=~": "'data.root=\"~\"'",
}


def test_a_typo_is_refused_before_torch_is_imported(finished, synthetic_root):
    code = """if True:
        import sys, salt.train
        tiny, words = sys.argv[1].split(), sys.argv[2:]
        for word in words:
            sys.argv = ["salt-train", *tiny, "data.synthetic=null", *word.split()]
            try:
                salt.train.main()
            except SystemExit as ended:
                print(ended.code if isinstance(ended.code, str) else "", file=sys.stderr)
                assert ended.code and "torch" not in sys.modules, word
        sys.argv = ["salt-submit", "runs/a", "--root", "nowhere"]
        import salt.commands.submit
        try:
            salt.commands.submit.main()
        except SystemExit as ended:
            assert "there is no folder nowhere" in ended.code and "torch" not in sys.modules
    """
    own = [f"data.root={synthetic_root}", "name=typo"]
    (finished / "runs/typo").mkdir()
    for file in ("config.yaml", "environment.json"):
        shutil.copy(finished / "runs/a" / file, finished / "runs/typo")
    tiny = " ".join([*[o for o in TINY if "synthetic" not in o], *own])
    command = [sys.executable, "-c", code, tiny, *REFUSED]
    result = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=False)
    shutil.rmtree(finished / "runs/typo")
    assert result.returncode == 0, result.stderr
    for message in REFUSED.values():
        assert message in result.stderr


def test_a_run_that_is_in_use_is_refused_before_its_log_is_touched(finished, synthetic_root, tmp_path):
    run = tmp_path / "runs/a"
    run.mkdir(parents=True)
    for name in ("config.yaml", "environment.json"):
        shutil.copy(finished / "runs/a" / name, run)
    with locked(run / "fold_0", "fold"):
        code = "import sys, salt.train\ntry: salt.train.main()\nfinally: assert 'torch' not in sys.modules"
        command = [sys.executable, "-c", code, *TINY, f"data.root={synthetic_root}", "name=a"]
        for more in ([], ["dry_run=true"]):
            result = subprocess.run([*command, *more], cwd=tmp_path, capture_output=True, text=True, check=False)
            assert result.returncode == 1 and "runs/a/fold_0 is in use by process" in result.stderr, result.stderr
    assert {f.name for f in run.rglob("*") if f.is_file()} == {".fold.lock", "config.yaml", "environment.json"}


@pytest.mark.parametrize("difference", ["seed", "data", "folds", "config lost"])
def test_a_dry_run_refuses_what_the_run_refuses(finished, synthetic_root, tmp_path, difference):
    arguments, more, run = [*TINY, f"data.root={synthetic_root}", "name=a"], [], tmp_path / "runs/a"
    run.mkdir(parents=True)
    (run / "fold_0").mkdir()
    for name in ("config.yaml", "environment.json", "folds.csv"):
        shutil.copy(finished / "runs/a" / name, run)
    if difference == "seed":
        more = ["seed=5"]
    elif difference == "config lost":
        (run / "config.yaml").unlink()
    elif difference == "data":
        root = tmp_path / "other"
        ensure_synthetic(root, n_train=24, n_test=6, seed=7)
        (root / "synthetic.json").write_text(json.dumps({"n_train": 24, "n_test": 6, "seed": 0}))
        more = [f"data.root={root}"]
    else:
        ids = read_dataset(synthetic_root).train.ids
        write_folds(run / "folds.csv", ids, 1 - read_folds(run / "folds.csv", ids, 2))
    before = {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    dry = salt(tmp_path, *arguments, *more, "dry_run=true")
    assert before == {f: f.read_bytes() for f in tmp_path.rglob("*") if f.is_file()}
    real = salt(tmp_path, *arguments, *more)
    assert dry.returncode == real.returncode == 1
    messages = {"seed": "seed: 0 -> 5", "data": "other data than", "folds": "folds.csv differs", "config lost": "lacks"}
    assert all(messages[difference] in result.stderr for result in (dry, real)), (dry, real)


@pytest.mark.parametrize(
    ("typed", "value"),
    [
        ("data.root=~/x", "~/x"),
        ("data.root=Gefäß", "Gefäß"),
        ("data.root=tiles(1)", "tiles(1)"),
        ("encoder.weights=runs/s/loss=bce/fold_0/model.safetensors", "runs/s/loss=bce/fold_0/model.safetensors"),
        ('data.root=it\'s "=" \\', 'it\'s "=" \\'),
    ],
)
def test_a_value_that_needs_quotes_is_shown_with_them(tmp_path, typed, value):
    result = salt(tmp_path, typed)
    assert result.returncode == 1 and "Traceback" not in result.stderr
    (word,) = shlex.split(result.stderr.splitlines()[-1])
    key = typed.partition("=")[0]
    override = OverridesParser.create().parse_override(word)
    assert (override.key_or_group, override.value()) == (key, value)


def test_other_mistakes_are_left_to_hydra(tmp_path):
    for typed in ("folds=[0,1", "loss.=3"):
        result = salt(tmp_path, typed)
        assert result.returncode == 1 and "See https://hydra.cc" in result.stderr and "quotes" not in result.stderr


def test_an_error_that_is_kept_holds_no_memory():
    class Large:
        pass

    held = []

    def fails():
        network = Large()
        held.append(weakref.ref(network))
        raise torch.OutOfMemoryError("CUDA out of memory")

    def explains():
        network = Large()
        held.append(weakref.ref(network))
        try:
            fails()
        except RuntimeError as error:
            raise ValueError("lower the batch size") from error

    try:
        explains()
    except ValueError as error:
        kept = error
    assert all(network() is not None for network in held)
    train.forget_variables(kept)
    gc.collect()
    assert [network() for network in held] == [None, None] and str(kept) == "lower the batch size"


# ---- salt-submit and salt-report


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished / "runs/a", tmp_path / "runs/a")


def test_a_submission_of_other_folds_than_the_score_is_refused(copy):
    (copy / "fold_1/done").unlink()
    (copy / "submission.csv").unlink()
    for main in (submit.main, report.main):
        result = salt(copy, ".", main=main)
        assert result.returncode == 1 and "out-of-fold map" not in result.stdout
        assert "score.json is of the folds [0, 1], but the folds [0] are finished" in result.stderr
        assert "salt-train command trains what is missing" in result.stderr
    assert not (copy / "submission.csv").exists()


@pytest.mark.parametrize("command", [submit, report, compare])
def test_ctrl_c_ends_the_other_commands_with_one_line(copy, tmp_path, monkeypatch, command):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, command.__name__.rpartition(".")[2], interrupted)
    result = salt(tmp_path, "runs/a", main=command.main)
    assert result.returncode == 130 and result.stderr.count("\n") == 1 and "stopped by Ctrl-C" in result.stderr


def test_ctrl_c_before_a_run_is_one_line(tmp_path, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(train, "run", interrupted)
    result = salt(tmp_path, "data=synthetic")
    assert (result.returncode, result.stderr) == (130, "stopped by Ctrl-C\n")


def test_a_submission_may_be_predicted_in_smaller_batches(copy, synthetic_root, tmp_path, monkeypatch):
    runtimes = []
    monkeypatch.setattr(submission, "submit", lambda *parts: runtimes.append(parts[-1]))
    cpu = ["--root", synthetic_root, "--device", "cpu"]  # auto would multiply the size on a GPU
    for extra in ([], ["--batch-size", "3"]):
        assert salt(tmp_path, "runs/a", *cpu, *extra, main=submit.main).returncode == 0
    assert [runtime.predict_batch_size for runtime in runtimes] == [4, 3]
    result = salt(tmp_path, "runs/a", "--root", synthetic_root, "--batch-size", "0", main=submit.main)
    assert result.returncode == 1 and "predict_batch_size" in result.stderr


def test_only_salt_train_generates_tiles(copy, tmp_path):
    result = salt(tmp_path, "runs/a", "--root", "typo", main=submit.main)
    assert result.returncode == 1 and "there is no folder typo" in result.stderr and "--root" in result.stderr
    assert salt(tmp_path, "runs/a", "--root", "typo", main=report.main).returncode == 0
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]


def test_a_report_needs_no_data(copy, synthetic_root, tmp_path):
    ensure_synthetic(tmp_path / "other", n_train=24, n_test=6, seed=7)
    (copy / "report.png").unlink(missing_ok=True)
    for root, reason in (("nowhere", "there is no folder nowhere"), ("other", "was trained on other data than other")):
        result = salt(tmp_path, "runs/a", "--root", root, main=report.main)
        score = json.loads((copy / "score.json").read_text())
        assert result.returncode == 0 and f"out-of-fold map {score['map']:.4f}" in result.stdout
        (line,) = [line for line in result.stdout.splitlines() if line.startswith("no new picture: ")]
        assert reason in line and "--root FOLDER" in line and "data.root" not in line
        assert not (copy / "report.png").exists()
    synthetic_root = shutil.copytree(synthetic_root, tmp_path / "moved = (1)")
    assert "no new picture" not in salt(tmp_path, "runs/a", "--root", synthetic_root, main=report.main).stdout
    assert (copy / "report.png").exists()
    (copy / "oof.npz").write_bytes(b"x")
    result = salt(tmp_path, "runs/a", "--root", synthetic_root, main=report.main)
    assert result.returncode == 0 and "oof.npz is missing or damaged" in result.stdout


def test_a_run_on_a_read_only_disk_is_reported_but_not_submitted(copy, synthetic_root, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    shutil.copytree(synthetic_root, tmp_path / "data")
    unshare = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*unshare, f"mount -t tmpfs none {disk}"], capture_output=True, check=False).returncode:
        pytest.skip("this system lets a test mount nothing")
    mounted = f"mount -t tmpfs none {disk} && cp -r {tmp_path}/runs {tmp_path}/data {disk} && "
    mounted += f'mount -o remount,ro {disk} && cd {disk} && "$@"'

    def run(module, *arguments):
        command = [*unshare, mounted, "sh", sys.executable, "-m", f"salt.{module}", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    reported = run("commands.report", "runs/a", "--root", "data")
    assert reported.returncode == 0 and "out-of-fold map" in reported.stdout and reported.stderr == ""
    assert "no new picture: runs/a/report.png cannot be written" in reported.stdout
    submitted = run("commands.submit", "runs/a", "--root", "data")
    assert submitted.returncode == 1 and submitted.stderr.startswith("salt-submit: ")
    assert "Read-only" in submitted.stderr and submitted.stderr.count("\n") == 1 and submitted.stdout == ""
    planned = run("train", *TINY, "data.root=data", "name=new", "dry_run=true")
    assert planned.returncode == 0 and "24 train tiles" in planned.stdout, planned.stderr
