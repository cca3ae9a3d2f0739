"""The notebook: it runs from the first cell to the last, and holds no outputs of anybody's machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat")
NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebooks" / "first_picture.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_valid_and_has_no_outputs() -> None:
    notebook = read()
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    assert all(not cell.outputs and cell.execution_count is None for cell in code)


@pytest.mark.slow
def test_it_runs(tmp_path: Path) -> None:
    client = pytest.importorskip("nbclient").NotebookClient
    pytest.importorskip("ipykernel")
    notebook = read()
    client(notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    pictures = [x for cell in code for x in cell.outputs if "image/png" in x.get("data", {})]
    assert len(pictures) == 4  # one of them grew in its cell
    grown = code[1].outputs
    assert [*grown[0].data] == ["image/png"] and grown[1].data["text/plain"].endswith(": step 30 of 30")
    assert "did you mean sample:chelsea?" in code[-1].outputs[-1].text
    assert [x for cell in code for x in cell.outputs if x.get("name") == "stderr"] == []
