"""What the README says is so: its example runs, its maps list the lessons and the modules."""

import ast
import contextlib
import io
import pathlib
import re
import tomllib

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("example", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_the_examples_run_and_print_what_they_say(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    promised = ast.literal_eval(re.search(r"print\(.*#\s*(\S+)", example)[1])
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example, "README.md", "exec"), {"__name__": "readme"})
    assert abs(ast.literal_eval(printed.getvalue()) - promised) < 5e-5


def test_the_maps_list_every_lesson_with_the_same_times():
    start = (ROOT / "notebooks" / "00_start_here.ipynb").read_text()
    for path in sorted((ROOT / "notebooks").glob("[0-9]*.ipynb")):
        row = re.search(rf"\(notebooks/{path.name}\) \| (.*) \|", README)[1]
        assert row in start, f"lesson 00 has another row for {path.name}"
        assert path.name == "00_start_here.ipynb" or f"({path.name})" in start


def test_the_map_of_modules_is_whole_and_in_the_order_of_imports():
    rule = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layers = [re.findall(r"\w+", layer) for layer in reversed(rule["contracts"][0]["layers"])]
    height = {module: number for number, layer in enumerate(layers) for module in layer}
    table = re.search(r"\| module \| what it holds .*?\n\n", README, re.DOTALL)[0]
    first_column = "".join(line.split("|")[1] for line in table.splitlines() if line)
    listed = re.findall(r"`([\w/]+?)(?:\.py|/)`", first_column)
    assert [height[name.split("/")[0]] for name in listed] == sorted(
        height[name.split("/")[0]] for name in listed
    )
    package = ROOT / "gfn_utils"
    present = {path.stem for path in package.iterdir() if path.stem in height}
    present = present - {"classroom"} | {
        f"classroom/{path.stem}" for path in package.glob("classroom/[a-z]*.py")
    }
    assert set(listed) == present
