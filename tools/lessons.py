"""The notebooks of the course as tools and tests read and run them."""

import ast
import pathlib
import re
import symtable

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from IPython.utils.capture import capture_output

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.stem[:2].isdigit()]


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def solutions(notebook):
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"<summary>Solution</summary>\n\n```python\n(.*?)```", prose, re.DOTALL)


def needed_by_the_exercises(cells):
    """The exercises and what they rest on. The other cells, which take minutes, are left out."""
    needed, wanted = [], set()
    for cell in reversed(cells):
        changed, read = names_of(cell.source)
        if "check" in tags(cell) or changed & wanted:
            needed.append(cell)
            wanted |= read
    return reversed(needed)


def names_of(source):
    """The names of the notebook that a cell binds or changes, and those that it reads."""
    source = TransformerManager().transform_cell(source)
    notebook = symtable.symtable(source, "cell", "exec")
    read = {
        name.get_name()
        for scope in scopes(notebook)
        for name in scope.get_symbols()
        if name.is_global() and name.is_referenced()
    }
    changed = {
        name.get_name()
        for name in notebook.get_symbols()
        if name.is_assigned() or name.is_imported()
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Attribute, ast.Subscript)) and isinstance(node.ctx, ast.Store):
            changed |= {part.id for part in ast.walk(node.value) if isinstance(part, ast.Name)}
    return changed, read


def scopes(table):
    yield table
    for inner in table.get_children():
        yield from scopes(inner)


def run(shell, source):
    """Run one cell as a notebook would; its printed output."""
    with capture_output() as captured:
        shell.run_cell(source).raise_error()
    return captured.stdout
