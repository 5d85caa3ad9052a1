"""The command `salt-compare RUN...`: finished runs in one table, with intervals of their differences."""

from pathlib import Path

from salt.commands.common import make_parser, messages
from salt.comparing.tables import compare


def main() -> None:
    """Print a table of runs, and write it with its picture."""
    with messages("salt-compare"):
        description = "Compare finished runs. Writes compare.html, compare.md, compare.csv and compare.png."
        parser = make_parser("salt-compare", description, "--root")
        parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="run directories, or a sweep's folder")
        parser.add_argument("--baseline", metavar="NAME", help="run to compare with (default: the sweep's, or first)")
        parser.add_argument("--out", type=Path, metavar="FOLDER", help="default: the sweep's folder, or this one")
        parser.add_argument("--across-folds", action="store_true", help="allow runs with different folds")
        arguments = parser.parse_args()
        print(compare(arguments.runs, arguments.baseline, arguments.out, arguments.root, arguments.across_folds))


if __name__ == "__main__":
    main()
