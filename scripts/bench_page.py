"""docs/benchmarks.md from the numbers in docs/benchmarks.json, and from nothing else."""

from typing import Any

Row = dict[str, Any]

TEXT = """# Benchmarks

Written by `make bench` (`scripts/bench.py`) from the numbers in [benchmarks.json](benchmarks.json).

{machine[cpu]}, {machine[cores]} cores, {machine[threads]} threads, {machine[gigabytes]} GB; torch {machine[torch]},
{machine[number_format]}; {tiles} {kind} tiles for training. The sides of a row are measured in turn; times are medians,
ratios medians of the pairs ({rounds} rounds). Ratios are what to compare: times on a shared machine vary by a tenth and
more.

| what | Salt | compared with | ratio | target | met |
| --- | --- | --- | --- | --- | --- |
{table}

- *Plain script*: what a user would write with the same libraries (`scripts/plain.py`): smp.Unet with scSE, smp's Lovász
  loss, albumentations, a DataLoader, Adam. Tiles, augmentation and batch size are the same. Salt's number format is the
  one above, which it chooses by the CPU; where the CPU computes bfloat16 natively, most of the gain comes from that.
  The script is measured under bfloat16 autocast too. Where a CPU has to emulate bfloat16, that takes many times as long
  as float32, so it is one batch of 32 tiles there, once.
- *Model alone*: forward, loss, backward and optimizer on one batch that lies on the device; for prediction the forward.
- *Usual kernel*: NumPy image after image, as in the competition's notebooks; of the scores a tenth of the tiles is
  measured. The results are compared and must be equal.
- *`--help`*: Hydra copies its whole store of options for every group that it lists, twice; with the launchers of the
  extras `joblib` and `slurm` in the store (as measured here) it has more to copy than without.

## Where a training step's time goes

{profile}

## Growth

Whole runs of one epoch on generated tiles with a small network (0.4 M parameters), from the start of the command to the
submission, so that everything but the network shows; a start alone takes {start:.1f} s.

| tiles | folds | whole run | largest memory | reading the data |
| --- | --- | --- | --- | --- |
{growth}

## The whole set of the challenge

Measured once, not by `make bench`: 3,600 tiles to train on, 18,400 to predict, the shorter form of a recipe
(`experiment=cpu_5fold trainer.epochs=8 trainer.validate_every=1 data.folds=mosaic data.mosaic=docs/mosaic.csv`),
one thread of an AMD EPYC whose other core trained another run. 91 minutes from the start to the submission: 62 for
the five folds (10 a fold while no third program ran), 28 for the 18,400 tiles by five networks, each tile also
mirrored (110 predictions a second). Largest memory: 4.1 GB.

## GPU

{gpu}
"""


def rate(row: Row, key: str = "seconds") -> str:
    """Tiles a second."""
    return f"{1 / row[key]:.1f} images/s"


def duration(row: Row, key: str = "seconds") -> str:
    """Seconds, or milliseconds below one."""
    return f"{row[key]:.2f} s" if row[key] >= 1 else f"{1000 * row[key]:.3g} ms"


def size(row: Row) -> str:
    """Gigabytes."""
    return f"{row['gigabytes']:.2f} GB"


# row of the JSON: what it is, how its times are written, and with what it is compared
LINES = {
    "training": (
        "training, ResNet34 U-Net with scSE, 128 px, batch 32, Lovász, loading included",
        rate,
        "plain script in float32",
    ),
    "training_autocast": ("the same", rate, "plain script under bfloat16 autocast"),
    "loop": ("the same", rate, "model alone"),
    "compiled": ("the same with `trainer.compile=true`", rate, "without"),
    "compiled_loop": ("the same with `trainer.compile=true`", rate, "compiled model alone"),
    "lovasz": (
        "Lovász forward and backward, 32x101x101 ({share:.1%} of a training step)",
        duration,
        "smp's LovaszLoss",
    ),
    "score": ("score of a probability map at 31 thresholds", duration, "usual kernel"),
    "encode": ("run lengths of {masks} masks, encoding", duration, "usual kernel"),
    "encode_seconds": ("the same, absolute", duration, ""),
    "decode": ("run lengths of {masks} masks, decoding", duration, "usual kernel"),
    "decode_seconds": ("the same, absolute", duration, ""),
    "inference": ("prediction with mirrored tiles", rate, "model alone"),
    "loading": ("reading, checking and decoding {tiles} tiles with masks", duration, ""),
    "memory": ("largest memory of that training process, from start to submission", size, ""),
    "help": ("`salt-train --help`", duration, ""),
    "cfg_job": ("`salt-train --cfg job`", duration, ""),
    "completion": ("a TAB completion", duration, ""),
}


def page(content: Row) -> str:
    """The whole page; rows that were not measured are left out."""
    rows = content["rows"]
    grown = [row for name, row in rows.items() if name.startswith("growth_")]
    kind, tiles = content["tiles"]
    return TEXT.format(
        machine=content["machine"],
        kind=kind,
        rounds=span([row["rounds"] for row in rows.values() if "rounds" in row]),
        tiles=f"{tiles:,}",
        table="\n".join(line(name, rows[name]) for name in LINES if name in rows),
        profile=profile_text(rows["profile"]) if "profile" in rows else "Not measured.",
        start=rows["start"]["seconds"] if "start" in rows else float("nan"),
        growth="\n".join(
            f"| {row['tiles']:,} | {row['folds']} | {row['seconds']:.1f} s | {row['gigabytes']:.2f} GB | "
            f"{row['loading_seconds']:.2f} s |"
            for row in grown
        ),
        gpu=gpu_text(rows, content["machine"]["gpu"]),
    )


def span(numbers: list[int]) -> str:
    """The smallest and the largest of some numbers."""
    return " to ".join(str(n) for n in sorted({min(numbers), max(numbers)}))


def line(name: str, row: Row) -> str:
    """One row of the table."""
    what, written, other = LINES[name]
    theirs = f"{other}: {written(row, 'compared_seconds')}" if other else "-"
    ratio = f"{row['ratio']:.3g}" if "ratio" in row else "-"
    return f"| {what.format(**row)} | {written(row)} | {theirs} | {ratio} | {target(row)} |"


def target(row: Row) -> str:
    """The last two cells: what was aimed at, and whether it is reached."""
    if "target" not in row:
        return "- | -"
    unit = {"ratio": "", "seconds": " s", "gigabytes": " GB", "share": " of a step"}[row["judged"]]
    return f"{row['target']}{unit} | {'yes' if row['met'] else '**no**'}"


def profile_text(row: Row) -> str:
    """The largest operators of a step."""
    shares = "\n".join(f"| `{name}` | {share:.1%} |" for name, share in row["shares"].items())
    extra = "\n".join(f"| {name} | {share:.1%} |" for name, share in row["extra"].items())
    return (
        f"| operator | share of the time |\n| --- | --- |\n{shares}\n\nOf this the loop adds to the model alone:\n\n"
        f"| part | share of the time |\n| --- | --- |\n{extra}"
    )


def gpu_text(rows: Row, name: str | None) -> str:
    """The measurements on a GPU, or that there was none."""
    measured = {key: row for key, row in rows.items() if key.startswith("gpu_") and "ratio" in row}
    if not measured:
        return (
            "No GPU was at hand when this page was written, so no figure of one is given. Not run on a GPU: `make gpu` "
            "(whole runs, resuming, several devices) and the rows of this page. Where CUDA is found, `make bench` "
            "measures training in each number format, eager and compiled, and a whole run of five folds of 50 epochs, "
            "submission included, whose target is 300 s on a large GPU."
        )
    lines = [
        f"{name}.\n",
        "| format | training | of the model alone | idle | memory |",
        "| --- | --- | --- | --- | --- |",
    ]
    for key, row in measured.items():
        lines.append(
            f"| {key.removeprefix('gpu_').replace('_', ', ')} | {rate(row)} | {row['ratio']:.2f} | {row['idle']:.0%} | "
            f"{row['gigabytes']:.1f} GB |"
        )
    if "gpu_five_folds" in rows:
        row = rows["gpu_five_folds"]
        reached = "reached" if row["met"] else "**not reached**"
        took = f"{row['seconds']:.0f} s (target {row['target']} s, {reached})"
        lines.append(f"\nFive folds of 50 epochs with the submission: {took}.")
    return "\n".join(lines)
