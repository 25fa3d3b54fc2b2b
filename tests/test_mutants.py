"""No wrong answer passes: every solution with one change or two is put to its exercise's check."""

import ast
import contextlib
import copy
import io
import signal
from unittest import mock

import matplotlib.pyplot as plt
import pytest
from IPython.core.inputtransformer2 import TransformerManager
from IPython.core.interactiveshell import InteractiveShell
from lessons import LESSONS, code_cells, needed_by_the_exercises, read, run, solutions, tags
from mutants import double_mutants, single_mutants

from gfn_utils.classroom import lesson

DOUBLES = 150
FEWER_DOUBLES = {"my_gamma": 0, "Strings": 30}  # one check trains, the other compiles
WORKED_OUT_ONCE = {"numpy_update"}  # TensorFlow takes long for what its check expects
LONGEST_SECONDS = 10  # a mutant that takes longer is wrong: it would never end

# The mutants that pass because they are right: for each lesson by the name of its exercise (the
# first function or class of the solution) the lines changed, as `Mutant.difference` has them, and
# why.
EQUIVALENT = {
    "00_start_here": {
        "letter_probability": {
            "return -sum((reward for word, reward in rewards.items() if word.startswith(start)))": (
                "all signs, which a ratio does not see"
            ),
            "return sum((reward for word, reward in list(rewards.items())[::-1] "
            "if word.startswith(start)))": "their order is free",
        },
    },
    "01_environment": {
        "forward_mask": {
            "x0 = 1": "on the small grid it rises from 0 alone",
            "x1 = 1": "on the small grid it rises from 0 alone",
        },
        "number_of_ways": {
            "return math.comb(x0 + x1, x1)": "as many ways to choose the steps up",
        },
    },
    "02_sampling": {
        "exact_ends": {
            "reached = np.zeros(len(mask))": "they have one length",
            "reached = np.zeros(len(behaviour))": "they have one length",
            "reached = np.zeros(len(policy)); behaviour = (1 - gamma) * policy + gamma * mask / "
            "mask.sum(axis=1, keepdims=True)": "the order of these two lines is free",
            "reached[0] += 1": "it was 0",
        },
    },
    "03_backward_policy": {
        "state_flows": {
            "for parent, share in list(p_b[state].items())[::-1]:": "their order is free",
            "for state in list(reversed(order))[:-1]:": "the first state has no parents",
        },
    },
    "04_trajectory_balance_loss": {
        "policy_in_balance": {
            "flow[state[0], state[1], action] -= amount": "all signs, which a ratio does not see",
            "for actions, amount in list(litres.items())[::-1]:": "their order is free",
            "state[action] -= 1": "the index -1 is the same as 1",
            "state[action] = 1": "each coordinate rises once",
        },
    },
    "05_training": {
        "numpy_update": {
            "for row, action in list(zip(rows, actions))[::-1]:": "a sum",
            "for rows, actions, log_reward, log_pb in list(trajectories)[::-1]:": "a sum",
        },
    },
    "06_evaluation": {
        "best_event": {
            "event = p >= q": "where p = q nothing is added",
        },
    },
    "07_objectives": {
        "contrastive_balance": {
            "xi = log_reward - tf.reduce_sum(log_pf - log_pb, axis=1)": "squared differences",
            "return (tf.roll(xi, shift=1, axis=0) - xi) ** 2 / 2": "a square",
            "return (xi - tf.roll(xi, shift=1, axis=-1)) ** 2 / 2": "there is one axis",
        },
        "share_of_edges": {
            "of_length = [(k - (n + 1)) * lam ** k for k in range(1, n + 1)]": "a ratio",
            "of_length = [(n + 1 - k) * lam ** k for k in range(1, n + 2)]": "adds a zero",
            "of_length = [(n + 1 - k) * lam ** k for k in list(range(1, n + 2))[:-1]]": "same",
        },
    },
    "07b_exploration_and_replay": {
        "all_alike": {
            "histories = {0: 2}": "all counts, which a ratio does not see",
        },
    },
    "08_diverse_candidates": {
        "largest_violation": {
            "return (passes - passes.T).max()": "each difference is there with both signs",
            "return np.abs(passes.T - passes).max()": "absolute",
        },
    },
    "09_biological_sequences": {
        "my_log_reward": {
            "same = letters[:, :-1] == letters[:, 1:]": "equality has no direction",
        },
    },
    "10_beyond_the_list": {
        "novelty_of": {
            "distances = (batch[:, None] != known).sum(axis=2)": "NumPy puts the axis in front",
        },
    },
    "11b_molecules": {
        "far_apart": {
            "for _ in list(range(k - 1))[::-1]:": "it only counts",
        },
    },
    "11_one_agent_for_every_trade_off": {
        "best_log_z": {
            "best = np.full(n_conditions, np.nan); needed = log_reward + log_pb - log_pf": (
                "the order of these two lines is free"
            ),
            "for c in list(np.unique(number))[::-1]:": "their order is free",
        },
        "log_reward_of_five": {
            "away = tf.cast(tf.abs(states[:, 1] - states[:, 0]), tf.float64)": "absolute",
            "away = tf.cast(tf.abs(states[:, 0] - states[:, 1]), tf.float64); four = tf.gather("
            "objectives, states[:, 0] * height + states[:, 1])": (
                "the order of these two lines is free"
            ),
        },
    },
}


class TooLong(BaseException):
    """Unlike an Exception it goes through lesson.check."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_checks_reject_every_mutant_that_is_not_equivalent(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    plt.switch_backend("agg")
    passing = mutants_that_pass(read(path))
    plt.close("all")
    listed = {name: set(lines) for name, lines in EQUIVALENT.get(path.stem, {}).items()}
    for name in passing | listed:
        found, known = passing.get(name, set()), listed.get(name, set())
        assert not found - known, f"wrong answers pass, or are to be listed: {found - known}"
        assert not known - found, f"listed, but no longer pass: {known - found}"


def mutants_that_pass(notebook):
    """By exercise, the lines changed (`Mutant.difference`) of what its check takes for right."""
    right, stub, passing = iter(solutions(notebook)), "", {}
    shell = InteractiveShell()
    for cell in needed_by_the_exercises(code_cells(notebook)):
        if "check" in tags(cell):
            solution = next(right)
            passing[name_of(solution)] = accepted(shell, stub, solution, cell.source)
            run(shell, solution)
        else:
            run(shell, cell.source)
            stub = cell.source if "exercise" in tags(cell) else stub
    return passing


def accepted(shell, stub, solution, check):
    once = name_of(solution) in WORKED_OUT_ONCE
    calls = calls_of_check(shell, stub, solution, check) if once else []

    def passes(mutant):
        cells = [stub, mutant.source] if once else [stub, mutant.source, check]
        return "✓ Right" in output(shell, cells, calls)

    limit = FEWER_DOUBLES.get(name_of(solution), DOUBLES)
    singles = single_mutants(solution)
    right = [mutant for mutant in singles if passes(mutant)]
    # Two changes that leave the answer right, each by itself, are no news together.
    known = {mutant.changes[0] for mutant in right}
    doubles = [m for m in double_mutants(solution, singles, limit) if not known >= {*m.changes}]
    right += [mutant for mutant in doubles if passes(mutant)]
    if limit:  # no mutant has spoilt what the check compares with
        assert "✓ Right" in output(shell, [stub, solution, check])
    return {mutant.difference for mutant in right}


def calls_of_check(shell, stub, solution, check):
    """What a check cell hands to lesson.check, worked out once: functions of no arguments."""
    calls = []

    def note(answer, cases, *given, **more):
        [name] = [name for name, value in shell.user_ns.items() if value is answer]

        def check_again():
            lesson.check(shell.user_ns[name], copy.deepcopy(cases), *given, **more)

        calls.append(check_again)

    with mock.patch.object(lesson, "check", note):
        output(shell, [stub, solution, check])
    assert calls
    return calls


def output(shell, cells, calls=()):
    """What cells, and then calls, print up to an error or the end of their time.

    It is far quicker than `run`.
    """
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(Exception, TooLong), time_limit():
        for cell in cells:
            source = TransformerManager().transform_cell(cell)
            exec(compile(source, "<cell>", "exec"), shell.user_ns)
        for call in calls:
            call()
    return printed.getvalue()


@contextlib.contextmanager
def time_limit():
    def stop(signal_number, frame):
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def name_of(solution):
    kinds = ast.FunctionDef | ast.ClassDef
    return next(node.name for node in ast.parse(solution).body if isinstance(node, kinds))


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("-a", {"a"}),
        ("a + b", {"a - b", "-a + b", "a", "b", "-(a + b)"}),
        ("a - b", {"a + b", "a", "-b", "b - a"}),
        ("a * mask", {"a / mask", "a", "mask"}),
        ("a / b", {"a * b", "b / a", "1 / b", "a"}),
        ("a ** 2", {"a", "a ** 3", "a ** 1"}),
        ("np.sum(a)", {"np.mean(a)", "np.max(a)", "a"}),
        ("a.mean()", {"a.sum()", "a"}),
        ("tf.reduce_sum(a, axis=1)", {"tf.reduce_mean(a, axis=1)", "tf.reduce_sum(a, axis=0)"}),
        ("np.cumsum(a)[::-1]", {"a[::-1]", "np.cumsum(a)"}),
        ("min(a, 1)", {"max(a, 1)", "a", "1", "min(a, 2)", "min(a, 0)"}),
        ("np.exp(np.log(abs(a)))", {"np.log(abs(a))", "np.exp(abs(a))", "np.exp(np.log(a))"}),
        ("a[mask]", {"a", "b[mask]"}),
        ("a[1:]", {"a", "a[2:]", "a[0:]", "a[:]", "a[:-1]", "a[1:][::-1]"}),
        ("a[:, :-1]", {"a[:, 1:]", "a[:, :-2]", "a[:, :]"}),
        ("a[b]", {"a[b + 1]", "a[b - 1]"}),
        ("a[:, None]", {"a[None, :]"}),
        ("np.where(a, b, 0)", {"b", "0", "np.where(a, 0, b)"}),
        ("a if b else 0", {"a", "0", "0 if b else a"}),
        ("a < b", {"a <= b", "a > b"}),
        ("a >= b", {"a > b", "a <= b"}),
        ("a and not b", {"a or not b", "a and b", "a"}),
        ("a.T", {"a"}),
    ],
)
def test_single_mutants_hold_the_mistakes_that_learners_make(right, wrong):
    function = "def f(a, b, mask):\n    return "
    found = {mutant.difference for mutant in single_mutants(function + right)}
    assert {f"return {expression}" for expression in wrong} <= found


def test_mutants_of_loops_and_statements():
    solution = """def f(moves):
    '''What it is for.'''
    cell, total = [0, 0], 0
    for move in moves:
        cell[move] = move
        total += cell[move]
    return total"""
    found = {mutant.difference for mutant in single_mutants(solution)}
    assert found >= {
        "no cell[move] = move",
        "no total += cell[move]",
        "total -= cell[move]",
        "total = cell[move]",
        "total += cell[move]; cell[move] = move",
        "cell[move] += move",
        "for move in list(moves)[::-1]:",
        "for move in list(moves)[1:]:",
        "cell, total = ([0, 0], 1)",
        "return moves",
    }
    assert not any("What" in difference for difference in found)


def test_double_mutants_change_two_places_and_are_new():
    solution = "def f(a, b):\n    return a + b * 2"
    singles = single_mutants(solution)
    doubles = double_mutants(solution, singles, 10_000)
    found = [mutant.source for mutant in doubles]
    assert "def f(a, b):\n    return a - b / 2" in found
    assert "def f(a, b):\n    return b + b * 3" in found
    assert not {solution, *(mutant.source for mutant in singles)} & {*found}
    assert len(found) == len({*found}) > 30
    sample = double_mutants(solution, singles, 30)
    assert 10 < len(sample) <= 30
    assert sample == double_mutants(solution, singles, 30)


def test_a_check_with_too_few_cases_is_found_out():
    shell = InteractiveShell()
    run(shell, "from gfn_utils.classroom import lesson")
    solution = "def f(a, b):\n    return a - b"
    weak = accepted(shell, "", solution, "lesson.check(f, [((2, 2), 0)])")
    assert weak >= {"return b - a", "return a - a"}
    assert accepted(shell, "", solution, "lesson.check(f, [((5, 3), 2)])") == set()


def test_a_wrong_answer_that_never_ends_is_stopped(monkeypatch):
    monkeypatch.setattr("test_mutants.LONGEST_SECONDS", 0.05)
    cells = ["print('before')\nwhile True: pass", "print(1)"]
    assert output(InteractiveShell(), cells) == "before\n"
