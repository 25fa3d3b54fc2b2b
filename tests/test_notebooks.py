"""Every lesson is saved as a clean run, and its exercises tell right from wrong."""

import ast
import itertools
import pathlib
import re
import symtable

import matplotlib.pyplot as plt
import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

NOTEBOOKS = sorted((pathlib.Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
LESSONS = [path for path in NOTEBOOKS if path.stem[:2].isdigit()]
LONGEST_CELL = 25
LARGEST_NOTEBOOK = 600_000
LARGEST_COURSE = 5_000_000

# The plausible mistakes in every exercise, in the order of the lesson: its check rejects each.
# A mistake is a whole answer, or a pair (part, instead): the solution with that part replaced.
WRONG_ANSWERS = {
    "00_start_here": [
        [
            (" / 12.64", ""),
            (" / 12.64", " / 64"),
            (" / 12.64", " * 12.64"),
            ("n * reward / 12.64", "reward / 12.64"),
            ("n * reward / 12.64", "n / 12.64"),
            ("n * reward / 12.64", "n * 12.64 / reward"),
            ("n * reward / 12.64", "round(n * reward / 12.64)"),
            ("n * reward / 12.64", "int(n * reward / 12.64)"),
            ("n * reward / 12.64", "n * reward // 12.64"),
            ("n * reward / 12.64", "100 * reward"),
            ("/ 12.64", "/ 13"),
        ],
        [
            ("(a / b) ** beta", "a / b"),
            ("(a / b) ** beta", "a / b**beta"),
            ("(a / b) ** beta", "a**beta / b"),
            ("(a / b) ** beta", "a**beta"),
            ("(a / b) ** beta", "beta * a / b"),
            ("(a / b) ** beta", "a**beta - b**beta"),
            ("(a / b) ** beta", "(a - b) ** beta"),
            ("(a / b) ** beta", "(a / b) ** (1 / beta)"),
            ("(a / b) ** beta", "np.exp(beta * (a - b))"),
            ("(a / b) ** beta", "a**beta / (a**beta + b**beta)"),
            ("a / b", "b / a"),
            ("a / b", "a * b"),
            ("a / b", "max(a, b) / min(a, b)"),
            ("** beta", "** int(beta)"),
        ],
    ],
    "01_environment": [
        [
            ("math.comb(x0 + x1, x0)", "2 ** (x0 + x1)"),
            ("math.comb(x0 + x1, x0)", "math.factorial(x0 + x1)"),
            ("math.comb(x0 + x1, x0)", "math.perm(x0 + x1, x0)"),
            ("math.comb(x0 + x1, x0)", "math.comb(x0 + x1, 2)"),
            ("math.comb(x0 + x1, x0)", "math.comb(x0 + x1 + 1, x0)"),
            ("math.comb(x0 + x1, x0)", "math.comb(max(x0, x1), min(x0, x1))"),
            ("math.comb(x0 + x1, x0)", "math.comb(x0 * x1, x0)"),
            ("math.comb(x0 + x1, x0)", "(x0 + 1) * (x1 + 1)"),
            ("math.comb(x0 + x1, x0)", "x0 + x1"),
        ],
        [
            ("states >= 2", "states >= 1"),
            ("states >= 2", "states >= 3"),
            ("states >= 2", "states >= 0"),
            ("states >= 2", "states <= 4"),
            ("states >= 2", "states < 0"),
            ("states >= 1", "states >= 2"),
            ("states >= 1", "states >= 0"),
            ("states >= 1, states >= 2", "states >= 2, states >= 1"),
            (", states >= 2", ""),
            ("states >= 2", "states > 2"),
            ("states >= 2", "states == 2"),
            ("states >= 1, states >= 2", "states <= 5, states <= 4"),
            (", states >= 2", ", states >= 2, states >= 0"),
        ],
    ],
    "02_sampling": [
        [
            ("np.exp(shifted[allowed])", "np.exp(shifted)"),
            ("np.exp(shifted[allowed])", "np.exp(shifted * allowed)"),
            ("np.exp(shifted[allowed])", "shifted[allowed]"),
            ("np.log(np.sum(np.exp(shifted[allowed])))", "np.sum(np.exp(shifted[allowed]))"),
            ("np.max(logits[allowed])", "0"),
            ("np.max(logits[allowed])", "np.max(logits)"),
            ("np.max(logits[allowed])", "np.mean(logits[allowed])"),
            ("np.log(np.sum(", "np.log(np.mean("),
            ("np.log(np.sum(", "np.log2(np.sum("),
            ("shifted - total, ", "shifted, "),
            ("shifted - total, ", "logits - total, "),
            ("shifted - total, ", "np.exp(shifted - total), "),
            ("-np.inf", "0.0"),
            ("-np.inf", "-1e9"),
            ("np.where(allowed, shifted - total, -np.inf)", "shifted - total"),
        ],
        [
            ("1 / p", "1 / p - 1"),
            ("1 / p", "1 / p + 1"),
            ("1 / p", "1 / (1 - p)"),
            ("1 / p", "(1 - p) / p**2"),
            ("1 / p", "1 / p**2"),
            ("1 / p", "round(1 / p)"),
            ("1 / p", "np.ceil(1 / p)"),
            ("1 / p", "2 - p"),
            ("1 / p", "2 * (1 - p) + 1"),
        ],
    ],
    "03_backward_policy": [
        [
            "def path_probability(moves, p_b):\n    return 0.5 ** len(moves)",
            ("cell[move] += 1", "cell[move] += 2"),
            ("cell[move] += 1", "cell[1 - move] += 1"),
            ("cell[move] += 1", "cell = [move == 0, move == 1]"),
            ("p_b(cell)[move]", "p_b(cell)[1 - move]"),
            ("p_b(cell)[move]", "p_b(cell)[0]"),
            ("p_b(cell)[move]", "max(p_b(cell))"),
            ("p_b(cell)[move]", "(1 - p_b(cell)[move])"),
            ("p_b(cell)[move]", "p_b(cell)[move] / 2"),
            ("p_b(cell)[move]", "p_b(cell[::-1])[move]"),
            ("p_b(cell)[move]", "1 / np.sum(np.array(cell) > 0)"),
            ("probability *=", "probability ="),
            ("probability *=", "probability +="),
            ("in moves", "in moves[::-1]"),
            ("in moves", "in moves[1:]"),
            ("in moves", "in moves[:-1]"),
            (
                "        cell[move] += 1\n        probability *= p_b(cell)[move]\n",
                "        probability *= p_b(cell)[move]\n        cell[move] += 1\n",
            ),
            (  # back from the end, but along the moves as they were made going forward
                "    cell, probability = [0, 0], 1.0\n    for move in moves:\n"
                "        cell[move] += 1\n        probability *= p_b(cell)[move]\n",
                "    cell, probability = [moves.count(0), moves.count(1)], 1.0\n"
                "    for move in moves:\n"
                "        probability *= p_b(cell)[move]\n        cell[move] -= 1\n",
            ),
        ],
        [
            ("r / flow", "r / r.sum()"),
            ("r / flow", "1 / flow"),
            ("r / flow", "1 - r / flow"),
            ("r / flow", "r / (flow - r)"),
            ("r / flow", "1 / np.arange(4, 0, -1)"),
            ("r / flow", "r / (r + flow)"),
            ("r / flow", "r / r.max()"),
            ("r / flow", "flow / flow[0]"),
            ("r / flow", "np.append(r[:-1] / flow[1:], 1)"),
            ("np.cumsum(r[::-1])[::-1]", "np.cumsum(r[::-1])"),
            ("np.cumsum(r[::-1])[::-1]", "np.cumsum(r)"),
            ("np.cumsum(r[::-1])[::-1]", "np.cumsum(r)[::-1]"),
            ("np.cumsum(r[::-1])[::-1]", "np.append(r[:-1] + r[1:], r[-1])"),
        ],
    ],
    "04_trajectory_balance_loss": [
        [
            ("log_z +", "-log_z +"),
            ("+ sum(log_pf)", "- sum(log_pf)"),
            ("- log_reward", "+ log_reward"),
            ("- sum(log_pb)", "+ sum(log_pb)"),
            ("- log_reward - sum(log_pb)", "+ log_reward + sum(log_pb)"),
            ("+ sum(log_pf) - log_reward", "- sum(log_pf) + log_reward"),
            (
                "+ sum(log_pf) - log_reward - sum(log_pb)",
                "- sum(log_pf) - log_reward + sum(log_pb)",
            ),
            ("log_z + ", ""),
            (" + sum(log_pf)", ""),
            (" - log_reward", ""),
            (" - sum(log_pb)", ""),
            ("sum(log_pf)", "log_pf[0]"),
            ("sum(log_pf)", "log_pf[-1]"),
            ("sum(log_pf)", "sum(log_pf[:-1])"),
            ("sum(log_pf)", "np.mean(log_pf)"),
            ("sum(log_pb)", "log_pb[0]"),
            ("sum(log_pb)", "log_pb[-1]"),
            ("sum(log_pb)", "sum(log_pb[1:])"),
            ("sum(log_pb)", "sum(log_pb[:-1])"),
            ("sum(log_pb)", "min(log_pb)"),
            ("sum(log_pb)", "max(log_pb)"),
            ("sum(log_pb)", "np.mean(log_pb)"),
            ("sum(log_pb)", "np.exp(sum(log_pb))"),
            (") ** 2", ")"),
            (") ** 2", ") ** 2 / 2"),
            ("- log_reward", "- np.exp(log_reward)"),
            ("(log_z + ", "max(0, log_z + "),
            ("(log_z + ", "min(0, log_z + "),
        ],
        [
            ("-np.mean(delta)", "np.mean(delta)"),
            ("-np.mean(delta)", "-np.sum(delta)"),
            ("-np.mean(delta)", "-np.sum(delta) / 2"),
            ("-np.mean(delta)", "-np.median(delta)"),
            ("-np.mean(delta)", "-delta[0]"),
            ("-np.mean(delta)", "-2 * np.mean(delta)"),
            ("-np.mean(delta)", "abs(np.mean(delta))"),
            ("-np.mean(delta)", "-(np.min(delta) + np.max(delta)) / 2"),
            ("-np.mean(delta)", "-round(np.mean(delta))"),
            ("-np.mean(delta)", "-np.mean(np.unique(delta))"),
            ("-np.mean(delta)", "-np.mean(delta[:3])"),
            ("-np.mean(delta)", "-np.mean(delta[1:])"),
            ("-np.mean(delta)", "-np.log(np.mean(np.exp(delta)))"),
            ("-np.mean(delta)", "np.mean(np.abs(delta))"),
            ("-np.mean(delta)", "np.sqrt(np.mean(delta**2))"),
            ("-np.mean(delta)", "np.mean(delta**2)"),
            ("-np.mean(delta)", "0.0"),
        ],
    ],
    "05_training": [
        [
            ("log_z -", "log_z +"),
            ("log_z - ", "-"),
            ("rate * 2 * np.mean(delta)", "rate * np.sum(delta)"),
            ("rate * 2 * np.mean(delta)", "rate * 2 * np.sum(delta)"),
            ("rate * 2 * np.mean(delta)", "rate * np.mean(delta)"),
            ("rate * 2 * np.mean(delta)", "2 * np.mean(delta)"),
            ("rate * 2 * np.mean(delta)", "0.1 * 2 * np.mean(delta)"),
            ("rate * 2 * np.mean(delta)", "rate * np.mean(delta**2)"),
            ("np.mean(delta)", "np.median(delta)"),
            ("np.mean(delta)", "np.mean(np.abs(delta))"),
            ("np.mean(delta)", "delta[0]"),
            ("np.mean(delta)", "delta[-1]"),
            ("np.mean(delta)", "np.mean(np.unique(delta))"),
            ("np.mean(delta)", "np.mean(delta[:3])"),
            ("np.mean(delta)", "round(np.mean(delta))"),
            ("np.mean(delta)", "np.sign(np.mean(delta))"),
            ("np.mean(delta)", "(np.min(delta) + np.max(delta)) / 2"),
            ("rate * 2", "rate**2 * 2"),
            ("log_z - ", "log_z - log_z * "),
            ("np.mean(delta)", "(np.mean(delta) + log_z)"),
        ],
        [("0.5", "0.0"), ("0.5", "0.05"), ("0.5", "0.9"), ("0.5", "1.0")],
    ],
    "06_evaluation": [
        [
            "def best_event(p, q):\n    return np.abs(p - q).sum()",
            "def best_event(p, q):\n    return np.abs(p - q).max()",
            ("p > q", "p < q"),
            ("p[event].sum() - q[event].sum()", "p[event].sum()"),
            ("p[event].sum() - q[event].sum()", "p[event].sum() - q.sum()"),
            ("p[event].sum() - q[event].sum()", "(p - q)[event].mean()"),
            ("p[event].sum() - q[event].sum()", "(p - q)[event].max()"),
            ("p[event].sum() - q[event].sum()", "event.mean()"),
        ],
        [
            ("** 2", ""),
            ("** 2", "** 0.5"),
            ("floor / wanted", "wanted / floor"),
            ("n * ", ""),
            ("n * ", "1000 * "),
            ("n * (floor / wanted) ** 2", "2 * n * floor / wanted"),
            ("n * (floor / wanted) ** 2", "max(n, n * (floor / wanted) ** 2)"),
        ],
    ],
    "07_objectives": [
        [
            ("+ log_pf", "- log_pf"),
            ("- log_flow_after", "+ log_flow_after"),
            ("- log_pb", "+ log_pb"),
            ("- log_pb", ""),
            ("- log_flow_after", ""),
            ("log_flow + log_pf - log_flow_after - log_pb", "log_flow - log_flow_after"),
            ("log_flow + log_pf - log_flow_after - log_pb", "log_pf - log_pb"),
            (
                "log_flow + log_pf - log_flow_after - log_pb",
                "log_flow_after + log_pb - log_flow - log_pf",
            ),
            (
                "log_flow + log_pf - log_flow_after - log_pb",
                "(log_flow + log_pf - log_flow_after - log_pb) ** 2",
            ),
            (
                "log_flow + log_pf - log_flow_after - log_pb",
                "log_flow + log_pb - log_flow_after - log_pf",
            ),
        ],
        [
            "def share_of_edges(n, weight):\n"
            "    return weight / sum(weight**k for k in range(1, n + 1))",
            ("(n + 1 - k)", "(n - k)"),
            ("(n + 1 - k)", "k"),
            ("(n + 1 - k) * ", ""),
            (" * weight**k", ""),
            ("weight**k", "weight"),
            ("weight**k", "weight ** (k + 1) * k"),
            ("of_length[0]", "of_length[-1]"),
            ("of_length[0]", "weight"),
            ("range(1, n + 1)", "range(1, n)"),
            ("range(1, n + 1)", "range(n + 1)"),
        ],
    ],
    "08_diverse_candidates": [
        [
            ("min(1.0, r_new / r)", "r_new / r"),
            (" if inside else 0.0", ""),
            ("r_new / r", "r / r_new"),
            ("else 0.0", "else 1.0"),
            ("min(1.0, r_new / r)", "float(r_new >= r)"),
            ("min(1.0, r_new / r)", "r_new / (r + r_new)"),
            ("min(1.0, r_new / r)", "min(1.0, np.exp(r_new - r))"),
            ("min(1.0, r_new / r)", "1 - min(1.0, r_new / r)"),
        ],
        [
            ("target[:, None] * matrix", "matrix"),
            ("target[:, None]", "target[None, :]"),
            ("passes - passes.T", "passes"),
            ("passes - passes.T", "passes - matrix.T"),
            ("passes - passes.T", "passes + passes.T"),
            (".max()", ".sum()"),
            (".max()", ".mean()"),
            (".max()", ".min()"),
            # Without np.abs it stays right: what one way lacks, the other has too much.
            # The balance of states, which the cycle keeps: not that of pairs.
            ("passes - passes.T", "target @ matrix - target"),
        ],
    ],
    "09_biological_sequences": [
        [
            ("-np.sum(p * np.log(p))", "np.sum(p * np.log(p))"),
            ("p * np.log(p)", "np.log(p)"),
            ("p * np.log(p)", "p * np.log2(p)"),
            ("np.sum", "np.mean"),
            ("    p = p[p > 0]\n", ""),
            ("-np.sum(p * np.log(p))", "np.exp(-np.sum(p * np.log(p)))"),
            ("-np.sum(p * np.log(p))", "np.log(len(p))"),
        ],
        [
            ("==", ">"),
            ("==", "!="),
            ("letters[:, 1:] == letters[:, :-1]", "letters[:, 2:] == letters[:, :-2]"),
            ("letters[:, 1:] == letters[:, :-1]", "letters[:, 1:-1] == letters[:, :-2]"),
            ("letters[:, 1:] == letters[:, :-1]", "letters[:, 1:] == letters[:, :1]"),
            ("reduce_sum", "reduce_mean"),
            ("reduce_sum", "reduce_max"),
            ("axis=1", "axis=0"),
            (
                "tf.reduce_sum(tf.cast(same, tf.float64), axis=1)",
                "tf.exp(tf.reduce_sum(tf.cast(same, tf.float64), axis=1))",
            ),
            (
                "tf.reduce_sum(tf.cast(same, tf.float64), axis=1)",
                "tf.math.log(1 + tf.reduce_sum(tf.cast(same, tf.float64), axis=1))",
            ),
        ],
    ],
}


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def solutions(notebook):
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"<summary>Solution</summary>\n\n```python\n(.*?)```", prose, re.DOTALL)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_saved_as_one_clean_run(path):
    notebook = read(path)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert notebook.metadata.kernelspec.name == "python3"
    assert "widgets" not in notebook.metadata
    for cell in cells:
        assert cell.source.count("\n") < LONGEST_CELL, cell.source
        names = [output.get("name") for output in cell.outputs]
        assert not any(a == b and a for a, b in itertools.pairwise(names)), cell.source
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr", output.text
            assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {})


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_picture_is_followed_by_what_to_see(path):
    notebook = read(path)
    for cell, *following in zip(
        notebook.cells, notebook.cells[1:], [*notebook.cells[2:], None], strict=False
    ):
        if any("image/png" in output.get("data", {}) for output in cell.get("outputs", [])):
            texts = [c.source for c in following if c is not None and c.cell_type == "markdown"]
            assert any("*What to see:*" in text for text in texts), cell.source


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_links_between_lessons_lead_somewhere(path):
    for cell in read(path).cells:
        for target in re.findall(r"\]\(([^):]+\.ipynb)\)", cell.source):
            assert (path.parent / target).exists(), target


def test_notebooks_are_small():
    sizes = [path.stat().st_size for path in NOTEBOOKS]
    assert max(sizes) < LARGEST_NOTEBOOK
    assert sum(sizes) < LARGEST_COURSE


def test_wrong_answers_are_listed_for_every_lesson():
    assert set(WRONG_ANSWERS) == {path.stem for path in LESSONS}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_exercises_accept_the_solution_and_nothing_else(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    plt.switch_backend("agg")
    notebook = read(path)
    right, wrong = iter(solutions(notebook)), iter(WRONG_ANSWERS[path.stem])
    shell = InteractiveShell()
    checks = 0
    for cell in needed_by_the_exercises(code_cells(notebook)):
        run(shell, cell.source)
        if "check" in cell.metadata.get("tags", []):
            solution = next(right)
            for mistake in next(wrong):
                run(shell, wrong_answer(mistake, solution))
                assert "✗ Not yet" in run(shell, cell.source), mistake
            run(shell, solution)
            assert "✓ Right" in run(shell, cell.source)
            checks += 1
    plt.close("all")
    assert checks >= 2
    assert next(right, None) is None
    assert next(wrong, None) is None


def wrong_answer(mistake, solution):
    if isinstance(mistake, str):
        return mistake
    part, instead = mistake
    assert solution.count(part) == 1, mistake
    return solution.replace(part, instead)


def needed_by_the_exercises(cells):
    """The exercises and what they rest on: the others, which take minutes, nbval has run."""
    needed, wanted = [], set()
    for cell in reversed(cells):
        changed, read = names_of(cell.source)
        if "check" in cell.metadata.get("tags", []) or changed & wanted:
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
