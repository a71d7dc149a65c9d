"""scripts/environment.py: when a virtual environment is made anew, and where none can be made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"


@pytest.fixture
def made(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import environment

    return environment


def test_an_environment_without_pip_is_made_anew(made, tmp_path):
    """As Debian's Python leaves one where the package python3-venv is missing."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "half"], check=True)
    assert made.python_of(tmp_path / "half").exists()
    assert not made._usable(made.python_of(tmp_path / "half"))
    assert not made._usable(tmp_path / "none")
    site = next((tmp_path / "half").rglob("site-packages"))
    (site / "pip.py").write_text("")
    assert made._usable(made.python_of(tmp_path / "half"))


def test_a_folder_that_cannot_be_written_is_said(made, tmp_path):
    with pytest.raises(SystemExit, match="can't write here"), made._turn(tmp_path / "none" / "x.lock"):
        pass
