"""The command `salt-data`: check a data set, draw a line of a survey, find sections, download or make up data."""

import re
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from salt.commands.common import check_new, finite_number, make_parser, messages
from salt.config import Labels
from salt.data import kaggle
from salt.data.doctor import check_data, checkup_report
from salt.data.segy import draw_line
from salt.data.synthetic import png, write_lines
from salt.runs.files import write_atomic
from salt.sections import checked
from salt.survey.geometry import Direction


def make_data_parser() -> ArgumentParser:
    """Return the parser of the six commands."""
    parser = make_parser("salt-data", "Check, draw, map, download or make up data.")
    commands = parser.add_subparsers(dest="command", required=True)
    checking = commands.add_parser("check", help="read every table, image and mask, and list all problems")
    placing = commands.add_parser("mosaic", help="find which tiles are neighbours, by their borders")
    for command in (checking, placing):
        command.add_argument("data", type=Path, metavar="DATA", help="data folder, or Kaggle's outer zip")
        own = "your folder of options, if a class of yours reads the data (data/NAME.yaml names it)"
        command.add_argument("--config-dir", type=Path, metavar="DIR", help=own)
    nodata = "amplitude of missing pixels, such as --nodata=-9999"
    checking.add_argument("--nodata", type=finite_number, metavar="VALUE", help=nodata)
    checking.add_argument("--salt", type=finite_number, metavar="VALUE", help="value of salt in masks, if several")
    checking.add_argument("--unknown", type=finite_number, metavar="VALUE", help="value of pixels nobody interpreted")
    drawing = commands.add_parser("image", help="draw a line of a SEG-Y survey, to paint its mask on")
    drawing.add_argument("survey", type=Path, metavar="SURVEY.sgy", help="a 3-D survey")
    drawing.add_argument("line", metavar="LINE", help="inline=NUMBER or crossline=NUMBER")
    drawing.add_argument("out", type=Path, metavar="OUT.png", help="a new file")
    for command in (checking, drawing):
        command.add_argument("--inline-byte", type=int, metavar="BYTE", help="of trace headers: the inline number")
        command.add_argument("--crossline-byte", type=int, metavar="BYTE", help="where the crossline number begins")
    placing.add_argument("--out", type=Path, metavar="FILE", help="default: DATA/mosaic.csv, or beside the zip")
    fetching = commands.add_parser("download", help="download Kaggle's archive with the command kaggle")
    fetching.add_argument("folder", type=Path, nargs="?", default=Path("data/tgs"), help="default: data/tgs")
    making = commands.add_parser("lines", help="make up seismic lines with salt, for data=folder")
    making.add_argument("--n", type=int, default=5, help="number of lines (default: 5)")
    making.add_argument("--size", type=int, nargs=2, default=[1500, 3000], metavar=("H", "W"), help="in pixels")
    making.add_argument("--bodies", type=int, default=6, help="salt bodies in each line (default: 6)")
    making.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    making.add_argument("--seed", type=int, default=0, help="default: 0")
    add_volume(commands.add_parser("volume", help="make up a 3-D survey with salt, as SEG-Y, and a few labelled lines"))
    return parser


def add_volume(parser: ArgumentParser) -> None:
    """Add the arguments of `salt-data volume`."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    size = ("INLINES", "CROSSLINES", "SAMPLES")
    parser.add_argument("--size", type=int, nargs=3, default=[300, 300, 400], metavar=size, help="default: 300 300 400")
    parser.add_argument("--lines", type=int, default=8, help="interpreted inlines (default: 8)")
    parser.add_argument("--format", choices=("ieee", "ibm"), default="ieee", help="of the amplitudes (default: ieee)")
    parser.add_argument("--first-inline", type=int, default=1000, metavar="NUMBER", help="default: 1000")
    parser.add_argument("--first-crossline", type=int, default=2000, metavar="NUMBER", help="default: 2000")
    parser.add_argument("--regular", action="store_true", help="a full grid, without the irregular edge and holes")
    parser.add_argument("--seed", type=int, default=0, help="default: 0")


def make_volume(arguments: Namespace) -> str:
    """Write a survey unless it is there, and say how to train on it."""
    from salt.data.volume_files import VolumeSettings, write_volume  # imports scipy and OpenCV

    first = (arguments.first_inline, arguments.first_crossline)
    size = (arguments.size[0], arguments.size[1], arguments.size[2])
    settings = VolumeSettings(size, arguments.seed, arguments.format, arguments.lines, first, arguments.regular)
    written = write_volume(arguments.folder, settings)
    found = f"{arguments.folder}: {'the survey is written' if written else 'this survey is there already'}"
    if not arguments.lines:
        return found
    labels = ", ".join(str(first[0] + inline) for inline in settings.interpreted())
    settings_needed = f"experiment=survey data.root={arguments.folder} data.labels.unknown=128"
    return f"{found}; interpreted inlines: {labels}\nTo train on them: salt-train {settings_needed}"


def write_image(arguments: Namespace) -> str:
    """Write a line of a survey as a grey PNG, and say how to paint on it; raise ValueError if OUT exists."""
    match = re.fullmatch(r"(inline|crossline)=(-?\d+)", arguments.line)
    if match is None:
        raise ValueError(f"LINE {arguments.line}: expected inline=NUMBER or crossline=NUMBER")
    check_new("OUT", arguments.out, ".png")
    direction: Direction = "inline" if match[1] == "inline" else "crossline"
    image = draw_line(arguments.survey, direction, int(match[2]), (arguments.inline_byte, arguments.crossline_byte))
    write_atomic(arguments.out, lambda temporary: temporary.write_bytes(png(image)))
    mask = f"labels/{match[1]}_{match[2]}.png"
    return f"{arguments.out}: {image.shape[0]} samples x {image.shape[1]} traces; save the mask alone as {mask}"


def main() -> None:
    """Do what the first word says; exit with code 1 if a run would refuse the data."""
    with messages("salt-data"):
        arguments = make_data_parser().parse_args()
        match arguments.command:
            case "check":
                labels = checked(Labels, salt=arguments.salt, unknown=arguments.unknown)
                line_bytes = (arguments.inline_byte, arguments.crossline_byte)
                found = check_data(arguments.data, arguments.nodata, labels, arguments.config_dir, line_bytes)
                print(checkup_report(found))
                if found.n_errors:
                    sys.exit(1)
            case "image":
                print(write_image(arguments))
            case "mosaic":
                from salt.neighbours.mosaic import write_mosaic  # imports scipy and OpenCV

                print(write_mosaic(arguments.data, arguments.out, arguments.config_dir))
            case "download":
                kaggle.download(arguments.folder)
                print(f"{arguments.folder}: the archive is complete; leave it zipped")
            case "lines":
                write_lines(arguments.folder, arguments.n, tuple(arguments.size), arguments.bodies, arguments.seed)
                print(f"{arguments.folder}: train on it with salt-train data=folder data.root={arguments.folder}")
            case "volume":
                print(make_volume(arguments))


if __name__ == "__main__":
    main()
