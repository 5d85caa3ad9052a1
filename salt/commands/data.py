"""The command `salt-data check DATA`: all problems of a data folder in one table."""

import sys
from pathlib import Path

from salt.commands.common import make_parser, messages
from salt.data.doctor import check, in_words


def main() -> None:
    """Print what a data folder holds and what is wrong with it; exit code 1 if a run would refuse it."""
    with messages("salt-data"):
        parser = make_parser("salt-data", "Look at a data set as a whole.")
        commands = parser.add_subparsers(dest="command", required=True)
        checking = commands.add_parser("check", help="every table, image and mask; all problems in one table")
        checking.add_argument("data", type=Path, metavar="DATA", help="the data's folder, or Kaggle's outer zip")
        arguments = parser.parse_args()
        found = check(arguments.data)
        print(in_words(found))
        if found.n_errors:
            sys.exit(1)


if __name__ == "__main__":
    main()
