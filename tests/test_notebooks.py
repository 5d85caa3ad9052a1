"""The notebooks of docs/ run from top to bottom, and git keeps no outputs of them."""

import json
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from nbclient import NotebookClient

DOCS = Path(__file__).parents[1] / "docs"


def run(name, folder):
    """Return the outputs of a notebook that is executed in an empty folder."""
    notebook = nbformat.read(DOCS / f"{name}.ipynb", as_version=4)
    NotebookClient(notebook, timeout=900, resources={"metadata": {"path": str(folder)}}).execute()
    return [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]


@pytest.mark.slow
def test_the_quickstart_finds_the_salt_of_a_line(tmp_path):
    outputs = run("quickstart", tmp_path)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    said = [output.text for output in outputs if output.output_type == "stream" and output.text.startswith("IoU")]
    assert len(pictures) == 1 and float(said[0].split()[1]) > 0.5


@pytest.mark.slow
def test_the_kaggle_notebook_writes_the_submission(tmp_path):
    run("kaggle-notebook", tmp_path)
    submission = pd.read_csv(tmp_path / "submission.csv", keep_default_na=False)
    assert list(submission) == ["id", "rle_mask"] and len(submission) == 10


@pytest.mark.parametrize("path", sorted(DOCS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_git_keeps_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
