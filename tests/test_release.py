"""What a release consists of besides code: workflows, citation, the site's table of contents, wheel and sdist."""

import importlib
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

import salt

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
VERSION = salt.__version__


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


def jobs(workflow):
    return yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]


def steps(workflow):
    return [step for job in jobs(workflow).values() for step in job["steps"]]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_runs_what_exists(workflow):
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.MULTILINE))
    commands = [step["run"] for step in steps(workflow) if "run" in step]
    for command in commands:
        words = command.split()
        if words[0] == "make":
            assert words[1] in targets, command
        else:
            assert (ROOT / words[words[0] == "python"]).is_file(), command
    assert all(re.search(r"@(v\d+|release/v\d+)$", step["uses"]) for step in steps(workflow) if "uses" in step)
    assert all(job["timeout-minutes"] <= 180 for job in jobs(workflow).values())


def test_ci_tests_every_version_of_python_that_the_package_accepts():
    (job,) = jobs(ROOT / ".github/workflows/ci.yml").values()
    low, high = re.search(r'requires-python = ">=3\.(\d+),<3\.(\d+)"', read("pyproject.toml")).groups()
    assert job["strategy"]["matrix"]["python"] == [f"3.{minor}" for minor in range(int(low), int(high))]


def test_only_the_publishing_job_gets_an_identity():
    release = yaml.safe_load(read(".github/workflows/release.yml"))
    asking = {name for name, job in release["jobs"].items() if "id-token" in job.get("permissions", {})}
    assert asking == {"publish"} and release["permissions"] == {"contents": "read"}
    assert release["jobs"]["publish"]["needs"] == "install" and release["jobs"]["install"]["needs"] == "build"


def test_citation_and_changelog_have_the_version():
    assert yaml.safe_load(read("CITATION.cff"))["version"] == VERSION
    assert re.findall(r"^## (\S+)", read("CHANGELOG.md"), re.MULTILINE)[0] in (VERSION, "Unreleased")


def test_every_page_is_in_the_table_of_contents_once():
    listed = []
    for block in re.findall(r"```\{toctree\}\n(.*?)```", read("docs/index.md"), re.DOTALL):
        listed += [line for line in block.splitlines() if line and not line.startswith(":")]
    pages = [path.stem for path in DOCS.iterdir() if path.suffix in (".md", ".ipynb") and path.name != "index.md"]
    assert sorted(listed) == sorted(pages)


def test_the_api_page_names_what_exists_and_what_the_pages_import():
    named = re.findall(r"\.\. auto(?:function|class|module):: ([\w.]+)", read("docs/api.md"))
    for name in named:
        try:
            importlib.import_module(name)
        except ModuleNotFoundError:
            module, _, last = name.rpartition(".")
            assert hasattr(importlib.import_module(module), last), name
    for page in ("docs/extending.md", "docs/python.md"):
        for module, names in re.findall(r"^from (salt[\w.]*) import (.+)$", read(page), re.MULTILINE):
            assert {f"{module}.{name.strip()}" for name in names.split(",")} <= set(named)


def test_links_of_the_repository_become_links_of_the_site(monkeypatch):
    pytest.importorskip("sphinx", reason="the extra `site` is not installed")
    monkeypatch.syspath_prepend(str(DOCS))
    conf = importlib.import_module("conf")

    def adapted(text, folder=DOCS):
        return conf.LINK.sub(lambda link: conf.adapt_link(link, folder), text)

    assert adapted("[README](../README.md#words)") == "[README](index.md#words)"
    assert adapted("[docs/data.md](docs/data.md#folds)", ROOT) == "[](data.md#folds)"
    assert adapted("![a](docs/demo.png)", ROOT) == "![a](demo.png)"
    assert adapted("[a](../Makefile), [b](submissions)") == "[a](../Makefile), b"
    assert adapted("`x[0](a)` [c](#here) [d](https://e.f/g) [e](missing.md)") == (
        "`x[0](a)` [c](#here) [d](https://e.f/g) [e](missing.md)"
    )
    monkeypatch.setattr(conf, "REPOSITORY", "https://host/owner/name/blob/main")
    assert adapted("[a](../Makefile)") == "[a](https://host/owner/name/blob/main/Makefile)"


@pytest.fixture
def dist(tmp_path):
    """A wheel and an sdist with the repository's files, whose contents are empty."""
    if not (ROOT / ".git").exists():
        pytest.skip("this is no checkout of git")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, check=True, encoding="utf-8").stdout
    names = [name for name in listed.splitlines() if (ROOT / name).exists()]
    stem = f"salt_segmentation-{VERSION}"

    def write(leave_out="", add=()):
        with zipfile.ZipFile(tmp_path / f"{stem}-py3-none-any.whl", "w") as wheel:
            for name in [*names, *add]:
                if name.startswith(("salt/", "configs/", *add)) and name != leave_out:
                    wheel.writestr(f"salt/{name}" if name.startswith("configs/") else name, "")
            for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"):
                wheel.writestr(f"{stem}.dist-info/{name}", "")
        with tarfile.open(tmp_path / f"{stem}.tar.gz", "w:gz") as sdist:
            for name in ["PKG-INFO", *names, *add]:
                if name != leave_out:
                    sdist.addfile(tarfile.TarInfo(f"{stem}/{name}"))

    def check(*words):
        command = [sys.executable, str(ROOT / "scripts" / "dist.py"), "--folder", str(tmp_path), *words]
        return subprocess.run(command, capture_output=True, check=False, encoding="utf-8")

    return write, check


def test_a_complete_dist_passes(dist):
    write, check = dist
    write()
    assert check("--tag", f"v{VERSION}").returncode == 0
    other = check("--tag", "v9.9.9")
    assert other.returncode == 1 and f"the tag v9.9.9 is not v{VERSION}" in other.stderr


@pytest.mark.parametrize("lost", ["salt/reporting/templates/report.html.j2", "configs/loss/dice.yaml", "docs/data.md"])
def test_a_file_that_is_missing_in_wheel_or_sdist_is_named(dist, lost):
    write, check = dist
    write(leave_out=lost)
    result = check()
    assert result.returncode == 1 and f".tar.gz: lacks {lost}" in result.stderr
    assert (".whl: lacks" in result.stderr) == (not lost.startswith("docs/"))


def test_a_file_that_does_not_belong_is_named(dist):
    write, check = dist
    write(add=("secret.txt",))
    result = check()
    assert result.returncode == 1 and result.stderr.count("holds secret.txt") == 2
