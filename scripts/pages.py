"""Write docs/mechanisms.md, docs/settings.md and the README's table of options; `make docs` runs it, in about a second.

The texts come from the headers and comments of the YAML files in configs/ and from the descriptions in salt/config.py,
the measured costs from docs/costs.csv (`make costs`).
"""

import argparse
import re
import sys
from pathlib import Path

from option_files import BASELINE, COSTS, ROOT, SETTINGS, Cost, Group, Option, read_costs, read_groups
from settings_page import chooses, settings_page, unexplained

MARKS = ("<!-- options: written by `make docs` -->\n", "<!-- end of options -->\n")

MECHANISMS = """# Mechanisms

Every option of a network and its training. Choose one with `group=option`, and change its settings
([settings.md](settings.md)) with `group.setting=value`. `make docs` writes this page from the headers of the YAML files
in `configs/` and from [costs.csv](costs.csv), which `make costs` measures.

- *parameters*: of the whole network, in millions; a sentence about an encoder gives those of the encoder alone
- *multiply-adds*: of its prediction for one tile, in billions
- *step*: time of a training step (augmentation, forward, loss, backward, optimizer, average) relative to the baseline,
  measured alternately with it, median of 5. It varies by about a tenth between measurements, and more between kinds
  of CPU: EfficientNet-B0 took twice the baseline's time on an Intel Xeon with AMX.

The baseline is ResNet18 at 128 pixels with a U-Net, BCE, AdamW, and `none` elsewhere: {parameters} M parameters,
{seconds} s for 16 tiles on {machine}.
{star}An empty cell has not been measured.
"""
VARIANTS = """
## settings

What some settings cost on the network of `experiment=cpu` without its deep supervision: EfficientNet-Lite0 and
`unet_small` at 104 pixels. Steps are relative to the first row.

"""


def main() -> None:
    """Write the pages, or with --check say which are not up to date."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a page is not up to date")
    check = parser.parse_args().check
    if missing := unexplained(ROOT / "configs"):
        sys.exit("no description in salt/config.py and no comment beside the key:\n  " + "\n  ".join(missing))
    old = {f: text for f, text in pages().items() if not f.exists() or f.read_text(encoding="utf-8") != text}
    if check and old:
        sys.exit(f"run `make docs`: {', '.join(file.name for file in old)}")
    for file, text in old.items():
        file.write_text(text, encoding="utf-8")


def pages(configs: Path = ROOT / "configs", costs: Path = COSTS) -> dict[Path, str]:
    """Return the text of each page."""
    groups = read_groups(configs)
    readme = ROOT / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    _, end, after = rest.partition(MARKS[1])
    if not (begin and end):
        raise ValueError(f"README.md: expected the lines {MARKS[0].strip()} and {MARKS[1].strip()}")
    return {
        ROOT / "docs" / "mechanisms.md": mechanisms_page(groups, read_costs(costs)),
        ROOT / "docs" / "settings.md": settings_page(configs),
        readme: before + begin + table_of_groups(groups) + end + after,
    }


def table_of_groups(groups: list[Group]) -> str:
    """Return the README's table: a line for each group with more than one option, the default first."""
    lines = ["| group | chooses | options, the default in bold |", "| --- | --- | --- |"]
    for group in groups:
        if len(group.options) > 1:
            page = "mechanisms" if group.has_papers else "settings"
            names = [f"**`{o.name}`**" if o.name == group.default else f"`{o.name}`" for o in group.options]
            link = f"[`{group.name}`](docs/{page}.md#{group.name})"
            lines.append(f"| {link} | {chooses(group)} | {' '.join(names)} |")
    return "\n".join(lines) + "\n"


def mechanisms_page(groups: list[Group], costs: dict[tuple[str, str], Cost]) -> str:
    """Return the page of the groups whose options name papers."""
    base = costs[BASELINE]
    others = sorted({cost.machine for cost in costs.values()} - {base.machine})
    star = f"A star: measured on another machine ({'; '.join(others)}).\n" if others else ""
    parts = [MECHANISMS.format(parameters=base.parameters, seconds=base.seconds, machine=base.machine, star=star)]
    parts += [section(group, costs) for group in groups if group.has_papers]
    rows = [
        {"settings": f"`{cost.option.replace(' ', '` `')}`", **cells(cost, base.machine)}
        for cost in costs.values()
        if cost.group == SETTINGS
    ]
    return "".join(parts) + VARIANTS + table(rows)


def section(group: Group, costs: dict[tuple[str, str], Cost]) -> str:
    """Return a group's table, and below it the sentences that would make it too wide."""
    rows = []
    for option in group.options:
        about = option.header()
        row = {"option": f"`{option.name}`", "what it is": about[""].rstrip("."), "formula": about.get("Formula", "")}
        cost = cells(costs.get((group.name, option.name)), costs[BASELINE].machine)
        rows.append({**row, "paper": linked(about["Paper"]), **cost})
    text = f"\n## {group.name}\n\n{chooses(group)}. Default: `{group.default}`.\n\n{table(rows)}"
    others = [f"[{o.name}](../configs/{group.name}/{o.file.name})" for o in group.options if "Differs" in o.header()]
    differ = f"\nDiffer on purpose from the paper or other code, as the file says: {', '.join(others)}.\n"
    return text + expectations(group.options) + (differ if others else "")


def cells(cost: Cost | None, usual: str) -> dict[str, str]:
    """Return what was measured by column; a star marks another machine than the usual one."""
    if cost is None:
        return {"parameters": "", "multiply-adds": "", "step": ""}
    step = f"{cost.step}{'*' * (cost.machine != usual)}"
    return {"parameters": f"{cost.parameters} M", "multiply-adds": f"{cost.multiply_adds} G", "step": step}


def table(rows: list[dict[str, str]]) -> str:
    """Return a table; a column with the same words in several rows becomes a line below it."""
    columns = list(rows[0])
    values = {column: {row[column] for row in rows} for column in columns}
    same = {column: values[column].pop() for column in columns if len(rows) > 1 and len(values[column]) == 1}
    shown = [column for column in columns if column not in same]
    lines = [f"| {' | '.join(shown)} |", f"|{' --- |' * len(shown)}"]
    lines += [f"| {' | '.join(row[column].replace('|', chr(92) + '|') for column in shown)} |" for row in rows]
    common = ", ".join(f"{column} {value}" for column, value in same.items() if value)
    return "\n".join(lines) + "\n" + (f"\nIn all rows: {common}.\n" if common else "")


def expectations(options: list[Option]) -> str:
    """Return what to expect of the options as a list; a sentence that several options share stands there once."""
    of_sentence: dict[str, list[str]] = {}
    for option in options:
        for sentence in re.split(r"(?<=\.) (?=[A-Z0-9+`])", option.header().get("Expect", "")):
            of_sentence.setdefault(sentence, []).append(option.name)
    for nothing in ("", "The baseline."):
        of_sentence.pop(nothing, None)
    of_options: dict[tuple[str, ...], list[str]] = {}
    for sentence, names in of_sentence.items():
        of_options.setdefault(tuple(names), []).append(sentence)
    lines = [f"- {', '.join(f'`{name}`' for name in names)}: {' '.join(said)}\n" for names, said in of_options.items()]
    return f"\nWhat to expect:\n\n{''.join(lines)}" if lines else ""


def linked(papers: str) -> str:
    """Return the names of papers, of many authors the first, with links to those on arXiv."""
    short = re.sub(r"([^\W\d]+)(?:, [^\W\d][\w -]+){2,} (?=(?:19|20)\d\d)", r"\1 et al. ", papers)
    return re.sub(r"([^; ][^;]*), arXiv:([\d.]+\d)", r"[\1](https://arxiv.org/abs/\2)", short)


if __name__ == "__main__":
    main()
