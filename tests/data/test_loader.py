"""Augmentation and batches: the same for the same seed, different otherwise, whoever makes them."""

import subprocess
import sys
import tracemalloc

import cv2
import numpy as np
import pytest
import torch
from conftest import options, raw_config

from salt.components import build_part
from salt.data.augment import Augment, crop_transforms
from salt.data.loader import Draws, EpochBatches, TrainTiles, train_loader
from salt.data.mix import CutMix, MixUp
from salt.data.tiles import Tiles
from salt.machine.device import seed_all
from salt.machine.distributed import Group


def tiles(n=10):
    rng = np.random.default_rng(0)
    masks = np.zeros((n, 101, 101), np.uint8)
    masks[:, 30:70, 20:50] = 1
    images = (masks * 220 + rng.integers(0, 10, masks.shape)).astype(np.uint8)
    return images, masks


@pytest.fixture(params=options("augment"))
def augment(request):
    return build_part("augment", raw_config(f"augment={request.param}")["augment"])


def test_every_option_keeps_shape_type_and_values(augment):
    images, masks = tiles()
    for i in range(10):
        image, mask = augment(images[i], masks[i], (0, 0, 0, i))
        assert image.shape == mask.shape == (101, 101)
        assert image.dtype == mask.dtype == np.uint8
        assert set(np.unique(mask)) <= {0, 1}


def test_every_option_moves_image_and_mask_together(augment):
    images, masks = tiles()
    for i in range(10):
        image, mask = augment(images[i], masks[i], (0, 0, 0, i))
        inside, outside = image[mask == 1], image[mask == 0]
        assert np.median(inside) > 100 > np.median(outside)
        cut_out = (image == 0) & (mask == 1)
        assert (((image > 100) == (mask == 1)) | cut_out).mean() > 0.97


def test_the_seed_alone_decides(augment):
    images, masks = tiles()
    a = [augment(images[0], masks[0], (0, 0, 0, i))[0] for i in range(8)]
    b = [augment(images[0], masks[0], (0, 0, 0, i))[0] for i in reversed(range(8))][::-1]
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    if augment.compose.transforms:
        assert any(not np.array_equal(a[0], x) for x in a)


def test_transforms_draw_independently():
    flips = [{"_target_": f"albumentations.{name}Flip", "p": 0.5} for name in ("Horizontal", "Vertical")]
    both = build_part("augment", {"_target_": "salt.data.augment.Augment", "transforms": flips})
    image = np.arange(4, dtype=np.uint8).reshape(2, 2)
    seen = {both(image, image, (i,))[0].tobytes() for i in range(40)}
    assert len(seen) == 4


def test_a_misspelt_argument_is_refused():
    node = {
        "_target_": "salt.data.augment.Augment",
        "transforms": [{"_target_": "albumentations.HorizontalFlip", "probability": 1}],
    }
    with (
        pytest.warns(UserWarning, match="probability"),
        pytest.raises(ValueError, match="augment: cannot build"),
    ):
        build_part("augment", node)


def leaves(node, path=()):
    """Paths and values of the settings inside nested transforms."""
    parts = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in parts:
        if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, dict) for v in value)):
            yield from leaves(value, (*path, key))
        elif key != "_target_":
            yield (*path, key), value


SETTINGS = [
    (option, path, value)
    for option in options("augment")
    for path, value in leaves(raw_config(f"augment={option}")["augment"])
    if value != []
]


@pytest.mark.parametrize(("option", "path", "value"), SETTINGS, ids=lambda part: str(part))
@pytest.mark.battery
def test_every_setting_changes_something(option, path, value):
    def outcome(new):
        node = raw_config(f"augment={option}")["augment"]
        part = node
        for key in path[:-1]:
            part = part[key]
        part[path[-1]] = new
        made = build_part("augment", node)
        seed_all(0)
        images, masks = tiles(24)
        noise = np.random.default_rng(1).integers(0, 10, images.shape).astype(np.uint8)
        pairs = [made(images[i] + noise[i], masks[i], (i,)) for i in range(24)]
        stacked = [torch.from_numpy(np.stack(part))[:, None].float() for part in zip(*pairs, strict=True)]
        mixed = made.mix(*stacked, torch.arange(24.0))
        return mixed.images, torch.stack([weight * mask for weight, mask in mixed.targets])

    others = {
        bool: lambda v: not v,
        float: lambda v: v * 0.4,
        int: lambda v: {4: 0, 0: 90}.get(v, v + 3),
        list: lambda v: [v[0], v[1] + abs(v[1]) / 4] if isinstance(v[1], float) else [v[0], v[1] + 3],
    }
    for a, b in zip(outcome(value), outcome(others[type(value)](value)), strict=True):
        if not torch.equal(a, b):
            return
    pytest.fail(f"augment={option}: {path} changes nothing")


def mixing_example(mix, seed=0):
    seed_all(seed)
    images = torch.arange(4.0)[:, None, None, None].expand(4, 1, 20, 20)
    masks = (torch.arange(4) % 2).float()[:, None, None, None].expand(4, 1, 20, 20)
    return images, masks, mix(images, masks, torch.arange(4.0))


def test_mixup_is_the_weighted_mean_of_two_tiles_with_both_masks():
    images, masks, mixed = mixing_example(MixUp(alpha=1.0))
    (share, first), (rest, second) = mixed.targets
    assert share + rest == pytest.approx(1) and 0 < share < 1 and torch.equal(first, masks)
    partner = ((mixed.images - share * images) / rest)[:, 0, 0, 0].round().long()
    assert sorted(partner.tolist()) == [0, 1, 2, 3] and partner.tolist() != [0, 1, 2, 3]
    torch.testing.assert_close(mixed.images, share * images + rest * images[partner])
    assert torch.equal(second, masks[partner])
    torch.testing.assert_close(mixed.depths, mixed.images[:, 0, 0, 0])


def test_cutmix_pastes_one_rectangle_of_image_and_mask():
    areas = []
    for seed in range(60):
        images, _, mixed = mixing_example(CutMix(alpha=1.0), seed)
        [(weight, target)] = mixed.targets
        assert weight == 1.0 and torch.equal(target, mixed.images % 2) and torch.equal(mixed.depths, torch.arange(4.0))
        changed = (mixed.images != images)[:, 0]
        rectangle = changed.any(dim=0)
        rows, columns = rectangle.any(dim=1), rectangle.any(dim=0)
        assert torch.equal(rectangle, rows[:, None] & columns[None])
        for tile in changed:
            assert not tile.any() or torch.equal(tile, rectangle)
        areas.append(rectangle.float().mean().item())
    assert max(areas) > 0.5 and 0.1 < np.mean(areas) < 0.5  # less than half: rectangles are cut at the border


@pytest.mark.parametrize("kind", [MixUp, CutMix])
def test_the_seed_decides_how_tiles_are_mixed(kind):
    a, b, c = (mixing_example(kind(1.0), seed)[2].images for seed in (0, 0, 1))
    assert torch.equal(a, b) and not torch.equal(a, c)
    with pytest.raises(ValueError, match="alpha=0, expected > 0"):
        kind(0)


def batches_of(workers, epochs=(0, 1), option="light"):
    images, masks = tiles(12)
    augment = build_part("augment", raw_config(f"augment={option}")["augment"])
    sampler = EpochBatches(Draws(np.arange(2, 12)), 4, seed=(0, 1))
    data = Tiles([f"{i:010x}" for i in range(12)], images, masks, np.arange(12.0))
    loader = train_loader(TrainTiles(data, augment, (0, 1), data.images.shape[1:]), sampler, workers, pin_memory=False)
    result = []
    for epoch in epochs:
        sampler.epoch = epoch
        result += [(batch.index, batch.images, batch.masks, batch.depths) for batch in loader]
    return result


def test_each_position_at_most_once_an_epoch_in_another_order():
    batches = batches_of(0)
    epochs = [
        torch.cat([b[0] for b in batches[:2]]).tolist(),
        torch.cat([b[0] for b in batches[2:]]).tolist(),
    ]
    for epoch in epochs:
        assert len(set(epoch)) == 8 and set(epoch) <= set(range(2, 12))
    assert epochs[0] != epochs[1]


@pytest.mark.slow
def test_worker_processes_make_the_same_batches():
    for a, b in zip(batches_of(0), batches_of(2), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_processes_must_share_a_batch_evenly():
    with pytest.raises(ValueError, match=r"trainer\.batch_size=8, expected a multiple of the 3 processes"):
        EpochBatches(Draws(np.arange(20)), 8, (0, 0), Group(0, 3))


def test_one_worker_process_is_kept_from_epoch_to_epoch_and_none_is_not():
    images, masks = tiles()
    augment = build_part("augment", raw_config("augment=none")["augment"])
    data = TrainTiles(
        Tiles([str(i) for i in range(10)], images, masks, np.zeros(10)), augment, (0, 0), images.shape[1:]
    )
    for workers in (0, 1):
        loader = train_loader(data, EpochBatches(Draws(np.arange(10)), 4, (0, 0)), workers, pin_memory=False)
        assert loader.persistent_workers == (workers == 1)


def run_python(code, **how):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **how)


def test_a_worker_process_has_one_opencv_thread_and_its_own_group_and_outlives_signals():
    code = """if True:
        import cv2, os, signal
        from salt.data.loader import set_up_worker
        cv2.setNumThreads(3)
        set_up_worker(0)
        assert cv2.getNumThreads() == 1 and os.getpgid(0) == os.getpid() != os.getsid(0)
        for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
            os.kill(os.getpid(), number)
        print("alive")
    """
    result = run_python(code)
    assert (result.returncode, result.stdout) == (0, "alive\n"), result.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="an unlocked mutex is all zeros on Linux only")
@pytest.mark.parametrize("held", [False, True], ids=["let go", "held to the end"])
def test_a_worker_process_that_hangs_does_not_keep_the_training_process(held):
    code = f"""if True:
        import ctypes, sys, torch
        from salt.data.loader import train_loader

        class HangsAtTheSecond:
            def __getitem__(self, key):
                if key[1]:
                    mutex = ctypes.create_string_buffer(64)
                    for _ in range(2):  # a lock that is already held: no signal ends this wait but SIGKILL
                        ctypes.CDLL(None).pthread_mutex_lock(mutex)
                return torch.zeros(1, 2, 2), torch.zeros(1, 2, 2), 0.0, 0

        batches = iter(train_loader(HangsAtTheSecond(), [[(0, i)] for i in range(9)], 2, pin_memory=False))
        next(batches)
        if {held}:
            sys.held = batches
        print("done", flush=True)
    """
    result = run_python(code, timeout=100)
    assert (result.returncode, result.stdout) == (0, "done\n"), result.stderr


def test_a_loader_leaves_the_random_numbers_of_the_training_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    batches_of(0)
    assert torch.equal(torch.rand(3), expected)


def test_resuming_at_an_epoch_makes_the_same_batches():
    for a, b in zip(batches_of(0)[2:], batches_of(0, epochs=[1]), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("share", [0.0, 0.2, 1.0])
def test_an_epoch_has_a_share_of_the_empty_tiles_and_each_has_others(share):
    positions, empty = np.arange(5, 45), np.arange(5, 25)
    batches = EpochBatches(Draws(positions, empty, share), 4, (0, 0))
    epochs = []
    for batches.epoch in range(30):
        epochs.append(set(shown := [i for batch in batches for _, i, _ in batch]))
        assert len(shown) == len(epochs[-1]) == len(batches) * 4 == 20 + round(20 * share)
        assert set(range(25, 45)) <= epochs[-1] <= set(positions.tolist())
    assert set.union(*epochs) == set(range(25 if share == 0 else 5, 45))
    if share == 1:
        assert list(EpochBatches(Draws(positions), 4, (0, 0))) == list(EpochBatches(Draws(positions, empty), 4, (0, 0)))


def test_an_epoch_of_less_than_a_batch_is_refused():
    with pytest.raises(ValueError, match=r"trainer.batch_size=8 is more than the 6 training tiles of an epoch"):
        EpochBatches(Draws(np.arange(10), np.arange(4), 0.0), 8, (0, 0))


@pytest.mark.parametrize("shape", [(64, 64), (64, 200), (200, 65), (300, 500)])
def test_a_crop_of_a_larger_image_needs_no_padding(shape):
    """The same bytes as with the padding that only a smaller image needs."""
    rng, (plain, padding) = np.random.default_rng(0), (Augment(crop_transforms((64, 64), s)) for s in (False, True))
    image, mask = rng.integers(0, 255, (2, *shape), dtype=np.uint8)
    for seed in range(20):
        for one, other in zip(plain(image, mask, (0, seed)), padding(image, mask, (0, seed)), strict=True):
            assert one.shape == (64, 64) and np.array_equal(one, other)


@pytest.mark.parametrize("partly", [True, False])
def test_a_crop_does_not_touch_the_rest_of_a_large_image(partly, monkeypatch):
    shape = (2000, 3000)
    known = np.zeros((1, *shape), bool)
    known[:, 700:1400, 1000:1900] = True
    large = np.zeros((1, *shape), np.uint8)
    all_of_it = Tiles(["a"], large, large, np.zeros(1), None, known if partly else None)
    made = TrainTiles(all_of_it, Augment([]), (0, 0), (64, 64))
    made[0, 0, 0]
    monkeypatch.setattr(cv2, "copyMakeBorder", None)  # its copies of the whole image are not traced
    tracemalloc.start()
    for number in range(10):
        image, mask, _, _ = made[0, number, 0]
        assert image.shape == mask.shape == (1, 64, 64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000
    small = np.full((1, 40, 50), 7, np.uint8)
    monkeypatch.undo()
    padded = TrainTiles(Tiles(["a"], small, small % 2, np.zeros(1)), Augment([]), (0, 0), (64, 64))[0, 0, 0]
    assert padded[0].shape == (1, 64, 64) and (padded[0] == 7).all() and (padded[1] == 1).all()
