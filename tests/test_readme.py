"""What the README says is so: its example runs, its map lists the lessons, imports go one way."""

import ast
import contextlib
import io
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()

# Each may import the ones before it; none of the last three is imported by the others.
IMPORT_ORDER = [
    "validation",
    "environments",
    "tf_bind_8",
    "policy",
    "sampling",
    "losses",
    "evaluation",
    "training",
    "baselines",
    "checkpoint",
    "interrupts",
    "agent",
    "live_training",
    "plotting",
    "widgets",
    "dashboard",
    "playground",
    "lesson",
]


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


def test_imports_go_one_way():
    for path in (ROOT / "gfn_utils").rglob("*.py"):
        module = path.relative_to(ROOT / "gfn_utils").parts[0].removesuffix(".py")
        if module == "__init__":
            continue
        for imported in imported_modules(path):
            assert IMPORT_ORDER.index(imported) <= IMPORT_ORDER.index(module), (
                f"{module} imports {imported}"
            )


def imported_modules(path) -> set[str]:
    modules = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gfn_utils"):
            parts = node.module.split(".")
            modules |= {parts[1]} if parts[1:] else {alias.name for alias in node.names}
    return modules
