"""docs/benchmarks.md from the numbers in docs/benchmarks.json, and from nothing else."""

from typing import Any

Row = dict[str, Any]

TEXT = """# Benchmarks

How fast is Salt, compared with a script that you would write with the same libraries?

`make bench` measures it on your machine and writes this page from [benchmarks.json](benchmarks.json).
`make bench ARGS="--data FOLDER"` uses your own tiles.

- Machine: {machine[cpu]}, {machine[cores]} cores, {machine[threads]} threads, {machine[gigabytes]} GB
- Software: torch {machine[torch]}, {machine[number_format]}
- Data: {tiles} {kind} tiles for training

Look at the ratios: on a shared machine, times vary by a tenth and more. Salt and the other side run alternately, for
{rounds} rounds. Times are medians, ratios are medians over the rounds.

| what | Salt | compared with | ratio | target | met |
| --- | --- | --- | --- | --- | --- |
{table}

| name | what it is |
| --- | --- |
| plain script | `scripts/plain.py`: smp.Unet with scSE, smp's Lovász loss, Adam; same tiles, augmentation, batch size |
| model alone | forward, loss, backward and optimizer on one batch in memory; for prediction only forward |
| plain loop | one network after the other, windows that overlap by half, all threads on each batch |
| engine alone | the networks on windows that were cut before; the results are dropped |
| MONAI | `monai.inferers.sliding_window_inference` with the same networks and overlap, Gaussian weights |
| usual kernel | NumPy, one image at a time, as in the competition's notebooks; the results must be equal |

- Salt chooses the number format by the CPU. If the CPU computes bfloat16 natively, most of the gain comes from that.
- If the CPU must emulate bfloat16, the plain script under autocast is very slow: it then runs one batch of 32 tiles.
- Scores by the usual kernel are measured on a tenth of the tiles.
- `--help` is slow because Hydra copies all options for every group that it lists. The extras `joblib` and `slurm` add
  to that.

## Where a training step's time goes

{profile}

## Growth

How do time and memory grow with the data? Each run has one epoch, generated tiles and a small network (0.4 M
parameters), so that everything else shows. The time is that of the whole command. Starting alone takes {start:.1f} s.

| tiles | folds | whole run | largest memory | reading the data |
| --- | --- | --- | --- | --- |
{growth}

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
    "line_torch": ("a line of 600x1500 pixels, five networks (EfficientNet-Lite0), with torch", duration, "plain loop"),
    "line_torch_engine": ("the same", duration, "engine alone"),
    "line_openvino": ("the same with OpenVINO", duration, "plain loop"),
    "line_openvino_engine": ("the same with OpenVINO", duration, "engine alone"),
    "line_fast": ("the same with OpenVINO and `--fast`", duration, "plain loop"),
    "line_fast_engine": ("the same with OpenVINO and `--fast`", duration, "engine alone"),
    "line_monai": ("the same with the fastest engine", duration, "MONAI's sliding_window_inference"),
    "tiles_torch": ("test tiles by five networks, with torch", rate, "plain loop"),
    "tiles_openvino": ("the same with OpenVINO", rate, "plain loop"),
    "loading": ("reading, checking and decoding {tiles} tiles with masks", duration, ""),
    "memory": ("largest memory of a training process, from start to submission", size, ""),
    "line_memory_2": ("largest memory of `salt-predict`, a line of 3000x10000 floats (120 MB), two networks", size, ""),
    "line_memory_5": ("the same with five networks", size, ""),
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
        f"| operator | share of the time |\n| --- | --- |\n{shares}\n\nSalt's loop adds to the model alone:\n\n"
        f"| part | share of the time |\n| --- | --- |\n{extra}"
    )


def gpu_text(rows: Row, name: str | None) -> str:
    """The measurements on a GPU, or that there was none."""
    measured = {key: row for key, row in rows.items() if key.startswith("gpu_") and "ratio" in row}
    if not measured:
        return (
            "No GPU was available, so this page has no figures of one. On a GPU, `make bench` measures training in "
            "each number format, eager and compiled. It also measures a whole run of five folds of 50 epochs with its "
            "submission; the target is 300 s on a large GPU."
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
