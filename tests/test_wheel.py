import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_the_wheel_works_from_another_directory(tmp_path):
    """The wheel in a venv of its own; its dependencies come from this environment, to spare gigabytes."""
    run = lambda *command, **kw: subprocess.run(command, capture_output=True, text=True, check=False, **kw)  # noqa: E731
    built = run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT))
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    assert run(sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "venv")).returncode == 0
    python = tmp_path / "venv" / "bin" / "python"
    site = run(str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    installed = run(sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", str(wheel))
    assert installed.returncode == 0, installed.stderr
    # listed after the venv's own packages; .pth files in it (such as the editable salt) are not read
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([site, sysconfig.get_path("purelib")])}
    command = [
        str(tmp_path / "venv" / "bin" / "salt-train"),
        "data=synthetic",
        "dry_run=true",
    ]
    result = run(*command, cwd=tmp_path, env=environment)
    assert result.returncode == 0, result.stderr
    assert "1000 train tiles" in result.stdout
    where = run(str(python), "-c", "import salt; print(salt.__file__)", cwd=tmp_path, env=environment).stdout
    assert str(tmp_path / "venv") in where
