"""The command `salt-data`: check a data set, find its sections, download Kaggle's archive, or make up seismic lines."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from salt.commands.common import finite_number, make_parser, messages
from salt.data import kaggle
from salt.data.checkup import checkup_in_words
from salt.data.doctor import check_data
from salt.data.synthetic import write_lines, write_tiles


def make_data_parser() -> ArgumentParser:
    """Return the parser of the five commands."""
    parser = make_parser("salt-data", "Check a data set, find its sections, fetch Kaggle's, or make up seismic lines.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="every table, image and mask; all problems in one table")
    checking.add_argument("data", type=Path, metavar="DATA", help="the data's folder, or Kaggle's outer zip")
    nodata_help = "amplitude that marks missing pixels, such as --nodata=-9999"
    checking.add_argument("--nodata", type=finite_number, metavar="VALUE", help=nodata_help)
    placing = commands.add_parser("mosaic", help="which tiles lie beside each other, found by their borders")
    placing.add_argument("data", type=Path, metavar="DATA", help="the data's folder, or Kaggle's outer zip")
    placing.add_argument("--out", type=Path, metavar="FILE", help="default: DATA/mosaic.csv, or beside the zip")
    for command in (checking, placing):
        own = "folder of your own options, whose data/NAME.yaml name classes that recognise DATA"
        command.add_argument("--config-dir", type=Path, metavar="DIR", help=own)
    fetching = commands.add_parser("download", help="Kaggle's archive, by the command kaggle")
    fetching.add_argument("folder", type=Path, nargs="?", default=Path("data/tgs"), help="default: data/tgs")
    making = commands.add_parser("lines", help="made-up seismic lines with salt, as a folder for data=folder")
    making.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    making.add_argument("--n", type=int, default=5, help="number of lines (default: 5)")
    making.add_argument("--size", type=int, nargs=2, default=[1500, 3000], metavar=("H", "W"), help="in pixels")
    making.add_argument("--bodies", type=int, default=6, help="salt bodies in each line (default: 6)")
    making.add_argument("--seed", type=int, default=0)
    cutting = commands.add_parser("tiles", help="made-up lines cut into tiles in Kaggle's layout, for mosaic")
    cutting.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    cutting.add_argument("--n", type=int, default=12, help="number of lines (default: 12)")
    cutting.add_argument("--size", type=int, nargs=2, default=[6, 10], metavar=("ROWS", "COLUMNS"), help="in tiles")
    cutting.add_argument("--held-back", type=float, default=0.2, help="share that is left out (default: 0.2)")
    cutting.add_argument("--test", type=float, default=0.5, help="share of the rest without a mask (default: 0.5)")
    cutting.add_argument("--seed", type=int, default=0)
    return parser


def main() -> None:
    """Do what the first word says; exit code 1 if a run would refuse the data, or the download fails."""
    with messages("salt-data"):
        arguments = make_data_parser().parse_args()
        if arguments.command == "lines":
            write_lines(arguments.folder, arguments.n, tuple(arguments.size), arguments.bodies, arguments.seed)
            print(f"{arguments.folder}: train on it with salt-train data=folder data.root={arguments.folder}")
            return
        if arguments.command == "tiles":
            shares = (arguments.held_back, arguments.test)
            n = write_tiles(arguments.folder, arguments.n, tuple(arguments.size), *shares, arguments.seed)
            print(f"{arguments.folder}: {n} tiles; truth.csv says where they lie, salt-data mosaic finds it")
            return
        if arguments.command == "mosaic":
            from salt.neighbours.mosaic import write_mosaic  # imports scipy and OpenCV

            print(write_mosaic(arguments.data, arguments.out, arguments.config_dir))
            return
        if arguments.command == "download":
            kaggle.download(arguments.folder)
            print(f"{arguments.folder}: the archive is here, and is read as it is")
            return
        found = check_data(arguments.data, arguments.nodata, arguments.config_dir)
        print(checkup_in_words(found))
        if found.n_errors:
            sys.exit(1)


if __name__ == "__main__":
    main()
