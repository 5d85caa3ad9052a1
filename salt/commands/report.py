"""The command `salt-report RUN`: what a run scored and wrote, in words and as a page."""

from salt.commands.common import make_parser, messages
from salt.reporting.run import report


def main() -> None:
    """Print the report, and write RUN/report.html and report.png."""
    with messages("salt-report"):
        description = "Print what a run scored and wrote. Writes RUN/report.html and report.png."
        arguments = make_parser("salt-report", description, "run", "--root").parse_args()
        report(arguments.run, arguments.root)


if __name__ == "__main__":
    main()
