"""The command `salt-data`: check a data set, find its sections, download Kaggle's archive, or make up seismic lines."""

import sys
from argparse import ArgumentParser
from pathlib import Path

from salt.commands.common import finite_number, make_parser, messages
from salt.data import kaggle
from salt.data.doctor import check_data, checkup_report
from salt.data.synthetic import write_lines


def make_data_parser() -> ArgumentParser:
    """Return the parser of the four commands."""
    parser = make_parser("salt-data", "Check, map, download or make up data.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="read every table, image and mask, and list all problems")
    placing = commands.add_parser("mosaic", help="find which tiles are neighbours, by their borders")
    for command in (checking, placing):
        command.add_argument("data", type=Path, metavar="DATA", help="data folder, or Kaggle's outer zip")
        own = "your folder of options, if a class of yours reads the data (data/NAME.yaml names it)"
        command.add_argument("--config-dir", type=Path, metavar="DIR", help=own)
    nodata = "amplitude of missing pixels, such as --nodata=-9999"
    checking.add_argument("--nodata", type=finite_number, metavar="VALUE", help=nodata)
    placing.add_argument("--out", type=Path, metavar="FILE", help="default: DATA/mosaic.csv, or beside the zip")
    fetching = commands.add_parser("download", help="download Kaggle's archive with the command kaggle")
    fetching.add_argument("folder", type=Path, nargs="?", default=Path("data/tgs"), help="default: data/tgs")
    making = commands.add_parser("lines", help="make up seismic lines with salt, for data=folder")
    making.add_argument("--n", type=int, default=5, help="number of lines (default: 5)")
    making.add_argument("--size", type=int, nargs=2, default=[1500, 3000], metavar=("H", "W"), help="in pixels")
    making.add_argument("--bodies", type=int, default=6, help="salt bodies in each line (default: 6)")
    making.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    making.add_argument("--seed", type=int, default=0, help="default: 0")
    return parser


def main() -> None:
    """Do what the first word says; exit with code 1 if a run would refuse the data."""
    with messages("salt-data"):
        arguments = make_data_parser().parse_args()
        match arguments.command:
            case "check":
                found = check_data(arguments.data, arguments.nodata, arguments.config_dir)
                print(checkup_report(found))
                if found.n_errors:
                    sys.exit(1)
            case "mosaic":
                from salt.neighbours.mosaic import write_mosaic  # imports scipy and OpenCV

                print(write_mosaic(arguments.data, arguments.out, arguments.config_dir))
            case "download":
                kaggle.download(arguments.folder)
                print(f"{arguments.folder}: the archive is complete; leave it zipped")
            case "lines":
                write_lines(arguments.folder, arguments.n, tuple(arguments.size), arguments.bodies, arguments.seed)
                print(f"{arguments.folder}: train on it with salt-train data=folder data.root={arguments.folder}")


if __name__ == "__main__":
    main()
