"""The command `salt-report RUN`: what a run scored and wrote, and its page to look at."""

from salt.commands.common import add_root, add_run, make_parser, messages
from salt.reporting.run import report


def main() -> None:
    """Print the report, write RUN/report.html and report.png; exit code 1 and one message if it fails."""
    with messages("salt-report"):
        parser = make_parser("salt-report", "Print what a run scored and wrote; write RUN/report.html and report.png.")
        add_run(parser)
        add_root(parser)
        arguments = parser.parse_args()
        report(arguments.run, arguments.root)


if __name__ == "__main__":
    main()
