"""The searches and the seeds behind the second half of lesson 10.

    python benchmarks/beyond_the_list.py      # 12 minutes on 2 cores

It uses the lesson's own functions. First each rival with several settings, five seeds each: how
many of the peptides it asked for are optimal, how far apart 100 of them are (mean edit distance),
in which share of them the first motif comes first, and how many arrangements there are (the
effective number). Then the GFlowNet with several learning rates, five seeds each, scored by
the 1,000 samples that it delivers.
"""

import ast
import itertools
from pathlib import Path

import nbformat

from gfn_utils.evaluation import diversity  # before TensorFlow, which it sets up

LESSON = Path(__file__).parent.parent / "notebooks" / "10_beyond_the_list.ipynb"

SEEDS, BUDGET = range(5), 13_800
HEAD = "| edit distance | first motif first | arrangements |\n|---|---|---|---|---|"


def main():
    lesson = names_of_lesson()
    print(f"| rival | optimal peptides asked {HEAD}")
    for n_chains in (1, 3, 10, 30):
        runs = [lesson["peptides_by_chains"](n_chains, BUDGET, seed) for seed in SEEDS]
        print(row(lesson, f"{n_chains} chains", runs), flush=True)
    for population, changes in itertools.product((10, 30, 100, 300), (1, 2)):
        runs = [lesson["peptides_by_evolution"](population, changes, BUDGET, s) for s in SEEDS]
        print(row(lesson, f"evolution, {population}, changes {changes}", runs), flush=True)
    for (population, changes), n_starts in itertools.product(((30, 1), (10, 2)), (3, 5, 10)):
        settings = population, changes, n_starts, BUDGET
        runs = [lesson["peptides_by_restarts"](*settings, seed) for seed in SEEDS]
        name = f"evolution, {population}, changes {changes}, started {n_starts} times"
        print(row(lesson, name, runs), flush=True)
    print(f"\n| GFlowNet, rate | optimal of 1,000 samples {HEAD}")
    for rate in (0.005, 0.01, 0.02):
        runs = [delivered(lesson, rate, seed) for seed in SEEDS]
        print(row(lesson, rate, runs), flush=True)


def names_of_lesson():
    """What the lesson defines: its imports, functions, classes and constants. Nothing is run."""
    kinds = ast.Import, ast.ImportFrom, ast.FunctionDef, ast.ClassDef
    notebook = nbformat.read(LESSON, as_version=4)
    defined = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            defined += [
                node
                for node in ast.parse(cell.source.replace("%pip", "# ")).body
                if isinstance(node, kinds)
                or (isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper())
            ]
    names = {}
    exec(compile(ast.Module(defined, []), LESSON.name, "exec"), names)
    return names


def row(lesson, name, runs):
    found = [lesson["optimal_of"](run) for run in runs]
    enough = [words for n, words in found if n > 1]
    apart = [diversity(words, lesson["edit_distance"]) for words in enough]
    share, number = zip(*[lesson["arrangements"](words) for words in enough], strict=True)
    columns = [
        name,
        ", ".join(f"{n:,}" for n, _ in found),
        ", ".join(f"{x:.0f}" for x in apart),
        ", ".join(f"{x:.2f}" for x in share),
        ", ".join(f"{x:.1f}" for x in number),
    ]
    return "| " + " | ".join(map(str, columns)) + " |"


def delivered(lesson, rate, seed):
    """What the agent delivers: 1,000 samples after training."""
    agent = lesson["new_agent"](seed)
    agent.learning_rate = rate
    lesson["train_peptides"](agent)
    return agent.sample(1000).terminal.numpy() - 1


if __name__ == "__main__":
    main()
