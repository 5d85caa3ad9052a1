"""The command `salt-report RUN`: what a run scored and wrote, and its page to look at."""

from pathlib import Path

from salt.commands.common import make_parser, messages
from salt.reporting.run import report


def main() -> None:
    """Print the report, write RUN/report.html and report.png; exit code 1 and one message if it fails."""
    with messages("salt-report"):
        parser = make_parser("salt-report", "Print what a run scored and wrote; write RUN/report.html and report.png.")
        parser.add_argument("run", type=Path, metavar="RUN", help="run directory, such as runs/baseline")
        parser.add_argument("--root", help="data folder, where it is not at the place that the run was trained from")
        arguments = parser.parse_args()
        report(arguments.run, arguments.root)


if __name__ == "__main__":
    main()
