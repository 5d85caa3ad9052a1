"""The command `salt-data`: `check DATA` shows all problems of a data folder, `download` fetches Kaggle's archive."""

import sys
from pathlib import Path

from salt.commands.common import make_parser, messages
from salt.data import kaggle
from salt.data.doctor import check, in_words


def main() -> None:
    """Do what the first word says; exit code 1 if a run would refuse the data, or the download fails."""
    with messages("salt-data"):
        parser = make_parser("salt-data", "Look at a data set as a whole.")
        commands = parser.add_subparsers(dest="command", required=True)
        checking = commands.add_parser("check", help="every table, image and mask; all problems in one table")
        checking.add_argument("data", type=Path, metavar="DATA", help="the data's folder, or Kaggle's outer zip")
        fetching = commands.add_parser("download", help="Kaggle's archive, by the command kaggle")
        fetching.add_argument("folder", type=Path, nargs="?", default=Path("data/tgs"), help="default: data/tgs")
        arguments = parser.parse_args()
        if arguments.command == "download":
            kaggle.download(arguments.folder)
            print(f"{arguments.folder}: the archive is here, and is read as it is")
            return
        found = check(arguments.data)
        print(in_words(found))
        if found.n_errors:
            sys.exit(1)


if __name__ == "__main__":
    main()
