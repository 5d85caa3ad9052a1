"""Checkpoints: damage is found, the one before is the spare, and nothing foreign is taken or run."""

import dataclasses
import math
import pickle
import signal
import zipfile

import pytest
import torch
from helpers.jobs import make_job
from safetensors.torch import load_file
from test_fold import files, stop_after_saving, train

from salt import crossval
from salt.config import check_config
from salt.machine import device as runtime_module
from salt.machine import interrupt
from salt.runs import files as files_module
from salt.training import checkpoint
from salt.training import fold as fold_module
from salt.training.setup import make_state


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    from conftest import TINY, raw_config

    root = tmp_path_factory.mktemp("data")
    return check_config(raw_config(*TINY, f"data.root={root}/tiles", "trainer.epochs=3", "folds=[0]"))


@pytest.fixture(scope="module")
def undisturbed(config, tmp_path_factory):
    path = tmp_path_factory.mktemp("undisturbed")
    train(config, path)
    return path


@pytest.fixture
def stopped(config, undisturbed, tmp_path):
    """A fold that stopped after its last checkpoint, before its result."""
    for name in ("last.pt", "previous.pt", "metrics.csv"):
        (tmp_path / "fold_0").mkdir(exist_ok=True)
        (tmp_path / "fold_0" / name).write_bytes((undisturbed / "fold_0" / name).read_bytes())
    return tmp_path


def truncate(content):
    return content[: len(content) // 2]


def flip(content):
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize("damage", [truncate, flip, lambda content: b"", lambda content: content[:-5]])
def test_a_damaged_checkpoint_is_replaced_by_the_one_before(config, stopped, undisturbed, damage, caplog):
    (stopped / "fold_0" / "last.pt").write_bytes(damage((stopped / "fold_0" / "last.pt").read_bytes()))
    train(config, stopped)
    assert "last.pt is damaged" in caplog.text and "previous.pt" in caplog.text
    assert files(stopped) == files(undisturbed)


def test_a_damaged_checkpoint_never_becomes_the_spare(config, stopped, undisturbed, monkeypatch):
    spoiled = flip((stopped / "fold_0" / "last.pt").read_bytes())
    (stopped / "fold_0" / "last.pt").write_bytes(spoiled)
    rename = files_module.os.replace

    def killed(file, to):  # where a save puts the new checkpoint in place
        if to.name == "last.pt":
            raise KeyboardInterrupt
        rename(file, to)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(files_module.os, "replace", killed)
        train(config, stopped)
    assert (stopped / "fold_0" / "damaged.pt").read_bytes() == spoiled and not (stopped / "fold_0" / "last.pt").exists()
    checkpoint.read_checkpoint(stopped / "fold_0" / "previous.pt")
    train(config, stopped)
    assert files(stopped) == files(undisturbed)


def test_a_missing_last_checkpoint_is_replaced_too(config, stopped, undisturbed):
    (stopped / "fold_0" / "last.pt").unlink()  # killed between the two renames of a save
    train(config, stopped)
    assert files(stopped) == files(undisturbed)


def test_two_damaged_checkpoints_are_refused_and_kept(config, stopped):
    for name in ("last.pt", "previous.pt"):
        (stopped / "fold_0" / name).write_bytes(flip((stopped / "fold_0" / name).read_bytes()))
    before = (stopped / "fold_0" / "last.pt").read_bytes()
    with pytest.raises(ValueError, match=r"last.pt is damaged.*previous.pt is damaged.*Delete them"):
        train(config, stopped)
    assert (stopped / "fold_0" / "last.pt").read_bytes() == before


def test_every_flipped_bit_of_the_tensors_is_found(stopped):
    content = (stopped / "fold_0" / "last.pt").read_bytes()
    with zipfile.ZipFile(stopped / "fold_0" / "last.pt") as archive:
        spans = [(info.header_offset + 200, info.file_size) for info in archive.infolist() if info.file_size > 4000]
    generator = torch.Generator().manual_seed(0)
    for begin, size in spans[:20]:
        at = begin + int(torch.randint(size - 400, (), generator=generator))
        flipped = content[:at] + bytes([content[at] ^ (1 << (at % 8))]) + content[at + 1 :]
        (stopped / "fold_0" / "last.pt").write_bytes(flipped)
        with pytest.raises(checkpoint.Damaged, match="checksum"):
            checkpoint.read_checkpoint(stopped / "fold_0" / "last.pt")


@pytest.mark.slow
def test_flipped_bits_of_the_directory_are_damage_or_harmless(stopped):
    file = stopped / "fold_0" / "last.pt"
    content, generator = file.read_bytes(), torch.Generator().manual_seed(1)
    begin = content.index(b"PK\x01\x02")
    for at in torch.randint(begin, len(content), (300,), generator=generator).tolist():
        file.write_bytes(content[:at] + bytes([content[at] ^ (1 << (at % 8))]) + content[at + 1 :])
        try:
            assert checkpoint.read_checkpoint(file)["epoch"] == 3
        except checkpoint.Damaged as error:
            assert "last.pt is damaged" in str(error)


class Malicious:
    def __reduce__(self):
        return print, ("executed",)


def write(file, **changes):
    content = torch.load(file, weights_only=True) | changes
    torch.save(content, file)


def test_a_checkpoint_with_python_objects_is_refused_and_nothing_runs(config, stopped, capsys):
    torch.save({"format": Malicious()}, stopped / "fold_0" / "last.pt")
    with pytest.raises(ValueError, match=r"last.pt cannot be used, it is no checkpoint of salt"):
        train(config, stopped)
    (stopped / "fold_0" / "last.pt").write_bytes(pickle.dumps(Malicious()))
    (stopped / "fold_0" / "previous.pt").unlink()
    with pytest.raises(ValueError, match=r"last.pt is damaged"):
        train(config, stopped)
    assert "executed" not in capsys.readouterr().out


def test_a_newer_format_is_refused(config, stopped):
    write(stopped / "fold_0" / "last.pt", format=checkpoint.FORMAT + 1)
    with pytest.raises(ValueError, match=rf"its format is {checkpoint.FORMAT + 1}, this version of salt reads"):
        train(config, stopped)


@pytest.mark.parametrize("content", [{"format": checkpoint.FORMAT}, {}, [1]])
def test_a_file_without_the_members_of_a_checkpoint_is_refused(config, stopped, content):
    torch.save(content, stopped / "fold_0" / "last.pt")
    with pytest.raises(ValueError, match=r"last.pt cannot be used, it is no checkpoint of salt"):
        train(config, stopped)


def test_a_checkpoint_of_another_network_is_refused(stopped, tiny):
    with pytest.raises(ValueError, match=r"last.pt cannot be used, its model is of another run"):
        train(tiny("decoder.channels=[24,16,16,16,16]", "folds=[0]"), stopped)


@pytest.mark.parametrize("schedule", ["cosine", "onecycle", "poly", "cosine_restarts", "plateau"])
def test_with_another_batch_size_the_schedule_goes_on_at_the_same_part_of_its_epochs(tiny, tmp_path, schedule):
    extra = ["schedule.cycles=2", "schedule.snapshots=1"] if schedule == "cosine_restarts" else []
    config = tiny(f"schedule={schedule}", *extra, "trainer.epochs=4")
    state = make_state(make_job(config, tmp_path), 0, 30)
    rates = []
    for step in range(80):
        rates.append(state.schedule.get_last_lr()[0])
        if step == 45:
            state.epoch, state.current.steps = 1, 15
            checkpoint.save(state, tmp_path / "fold_0")
        state.optimizer.step()
        state.schedule.step()
    state = make_state(make_job(config, tmp_path), 0, 60)
    assert state.current.steps == 30
    for step in range(45, 80):
        found = state.optimizer.param_groups[0]["lr"]
        assert math.isclose(found, rates[step], rel_tol=0.07, abs_tol=1e-5), step
        for _ in range(2):
            state.optimizer.step()
            state.schedule.step()


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("before", [True, False])
def test_moments_lie_in_memory_like_their_weights_after_a_change_of_layout(tiny, tmp_path, before, optimizer):
    states = []
    for channels_last in (before, not before):
        config = tiny(f"optimizer={optimizer}", f"trainer.channels_last={str(channels_last).lower()}")
        state = make_state(make_job(config, tmp_path), 0, 30)
        if not states:
            gradients(state)
            state.optimizer.step()
            checkpoint.save(state, tmp_path / "fold_0")
        states.append(state)
    for state in states:  # the same step again, from the saved moments and from those in memory
        gradients(state)
        state.optimizer.step()
    for mine, loaded in zip(*(state.model.parameters() for state in states), strict=True):
        torch.testing.assert_close(loaded, mine, rtol=0, atol=1e-7)
    weights = states[1].optimizer.state
    for parameter, moments in weights.items():
        assert all(m.stride() == parameter.stride() for m in moments.values() if m.shape == parameter.shape)


@pytest.mark.parametrize(("saved", "expected"), [(1.0, 65536.0), (512.0, 512.0)])
def test_float16_finds_its_own_scale_after_a_run_in_another_format(tiny, tmp_path, saved, expected):
    config = tiny()
    job = make_job(config, tmp_path)
    state = make_state(job, 0, 30)
    state.scaler = torch.amp.GradScaler("cpu", init_scale=saved)
    state.scaler.scale(torch.zeros(()))
    checkpoint.save(state, tmp_path / "fold_0")
    other = dataclasses.replace(job.runtime, dtype=torch.float16)
    assert make_state(make_job(config, tmp_path, runtime=other), 0, 30).scaler.get_scale() == expected


def gradients(state):
    """The same gradient for every weight, whatever its layout."""
    for i, parameter in enumerate(state.model.parameters()):
        torch.manual_seed(i)
        parameter.grad = torch.empty_like(parameter).copy_(torch.randn(parameter.shape))


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_size", "8"), ("clip", "0.000001"), ("compile", "true"), ("channels_last", "false")],
)
@pytest.mark.slow
def test_every_key_of_accept_lets_a_run_go_on_and_takes_effect(tiny, tmp_path, monkeypatch, key, value):
    overrides = ["folds=[0]", "trainer.epochs=2", "optimizer=sgd", "optimizer.weight_decay=0", "optimizer.momentum=0"]
    overrides += ["optimizer.nesterov=false"]
    compile = torch.compile
    monkeypatch.setattr(runtime_module, "missing_compiler", lambda device: None)  # none is used here
    monkeypatch.setattr(torch, "compile", lambda model, **options: compile(model, backend="eager", **options))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after_saving(patch, 1)
        crossval.run(tiny(*overrides), tmp_path)
    before = torch.load(tmp_path / "fold_0/last.pt", weights_only=True)["model"]
    with pytest.raises(ValueError, match=f"trainer.{key}: .* -> "):
        crossval.run(tiny(*overrides, f"trainer.{key}={value}"), tmp_path)
    seen = []

    def spy(fold, state, batch):
        seen.append((len(batch.index), fold.train_forward is not state.model, layouts(state.model)))
        return step(fold, state, batch)

    step = fold_module.train_step
    monkeypatch.setattr(fold_module, "train_step", spy)
    crossval.run(tiny(*overrides, f"trainer.{key}={value}", f"accept=[trainer.{key}]"), tmp_path)
    after = load_file(tmp_path / "fold_0/model.safetensors")
    moved = max(float((after[name] - before[name]).abs().max()) for name in after if name.endswith("weight"))
    assert {n for n, _, _ in seen} == {8 if key == "batch_size" else 4}
    assert all(compiled is (key == "compile") for _, compiled, _ in seen)
    assert all(layout is (key != "channels_last") for _, _, layout in seen)
    assert (moved < 1e-5) is (key == "clip")
    assert f"trainer.{key}: " in (tmp_path / "environment.json").read_text()


def layouts(model):
    """Whether the first convolution's weights lie in memory channels last."""
    first = next(p for p in model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1)
    return first.is_contiguous(memory_format=torch.channels_last)


def test_an_interrupt_without_training_is_obeyed_at_once():
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(interrupt.Interrupted) as stop, interrupt.handle_signals():
        signal.raise_signal(signal.SIGINT)
    assert stop.value.exit_code == 130
    assert signal.getsignal(signal.SIGINT) is before
