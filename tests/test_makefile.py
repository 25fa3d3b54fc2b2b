"""What `make` would do to a reader's files."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_clean_removes_what_running_makes_and_no_folder_of_the_reader(tmp_path):
    shutil.copy(ROOT / "Makefile", tmp_path)
    kept = ["notebooks/my/work.ipynb", "notebooks/my notes/a.ipynb", "notebooks/-rf/b.ipynb"]
    removed = [
        "notebooks/my notes/.ipynb_checkpoints/a.ipynb",
        "notebooks/.ipynb_checkpoints/b.ipynb",
        "gfn_utils/__pycache__/__pycache__/a.pyc",
        "build/picture.png",
        ".venv/ready",
    ]
    for name in kept + removed:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("mine")
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {"Makefile", *kept}
