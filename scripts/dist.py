"""Check that the wheel and the sdist in dist/ hold what they should; `make dist` runs it. It needs nothing but Python.

With `--tag v0.1.0` it also checks that a release has the version of its tag.
"""

import argparse
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    """Print what is in dist/, or fail with a line for each problem."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=ROOT / "dist", help="where wheel and sdist are")
    parser.add_argument("--tag", help="the tag of the release")
    args = parser.parse_args()
    version = read_version()
    problems = [f"the tag {args.tag} is not v{version}"] if args.tag not in (None, f"v{version}") else []
    stem = f"salt_segmentation-{version}"
    wheel, sdist = args.folder / f"{stem}-py3-none-any.whl", args.folder / f"{stem}.tar.gz"
    expected = sorted([wheel.name, sdist.name])
    if (found := sorted(file.name for file in args.folder.iterdir())) != expected:
        sys.exit(f"{args.folder} holds {', '.join(found) or 'nothing'}; expected {', '.join(expected)}")
    problems += [f"{wheel.name}: {p}" for p in differences(wheel_files(wheel, version), source_files())]
    problems += [f"{sdist.name}: {p}" for p in differences(sdist_files(sdist, stem), tracked_files())]
    if problems:
        sys.exit("\n".join(problems))
    print(*(f"{file.name}: {file.stat().st_size / 1e6:.2f} MB, complete" for file in (wheel, sdist)), sep="\n")


def read_version() -> str:
    """Return the version in salt/__init__.py."""
    found = re.search(r'^__version__ = "(.+)"$', (ROOT / "salt/__init__.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert found is not None
    return found[1]


def differences(found: set[str], expected: set[str]) -> list[str]:
    """Return a line for each file that is missing, or that should not be there."""
    lacking = [f"lacks {name}" for name in sorted(expected - found)]
    return lacking + [f"holds {name}" for name in sorted(found - expected)]


def tracked_files() -> set[str]:
    """Return the files of the repository: an sdist holds them all, so that its tests can run."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    return {name for name in listed.decode().split("\0") if name and (ROOT / name).exists()}


def source_files() -> set[str]:
    """Return the files of an installed salt: the package, and the configs in it."""
    tracked = tracked_files()
    configs = {f"salt/{name}" for name in tracked if name.startswith("configs/")}
    return configs | {name for name in tracked if name.startswith("salt/")}


def wheel_files(wheel: Path, version: str) -> set[str]:
    """Return the files of a wheel but those that describe it."""
    described = f"salt_segmentation-{version}.dist-info/"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    absent = {f"{described}{name}" for name in ("METADATA", "entry_points.txt", "licenses/LICENSE")} - names
    if absent:
        sys.exit(f"{wheel.name} lacks {', '.join(sorted(absent))}")
    return {name for name in names if not name.startswith(described)}


def sdist_files(sdist: Path, stem: str) -> set[str]:
    """Return the files of an sdist, relative to its folder, but its metadata."""
    with tarfile.open(sdist) as archive:
        names = {member.name.removeprefix(f"{stem}/") for member in archive if member.isfile()}
    return names - {"PKG-INFO"}


if __name__ == "__main__":
    main()
