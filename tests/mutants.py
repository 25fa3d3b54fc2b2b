"""Wrong answers made from a right one: its syntax tree with one change, or with two at once.

A change is what a learner might get wrong: a sign, a term or a factor left out, the sum for the
mean, an index shifted, a mask forgotten. tests/test_mutants.py hands all of them in.
"""

import ast
import itertools
import random
import re
from collections.abc import Callable
from typing import NamedTuple

OTHER_OPERATORS = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Div],
    ast.Pow: [ast.Mult],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
    ast.Lt: [ast.LtE, ast.Gt],
    ast.LtE: [ast.Lt, ast.GtE],
    ast.Gt: [ast.GtE, ast.Lt],
    ast.GtE: [ast.Gt, ast.LtE],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
}
# Of NumPy, TensorFlow (reduce_sum), Python (sum) and of arrays (x.sum()).
OTHER_FUNCTIONS = {
    "sum": ["mean", "max"],
    "mean": ["sum", "median"],
    "prod": ["sum"],
    "cumsum": ["sum"],
    "cumprod": ["cumsum"],
    "min": ["max"],
    "max": ["min"],
    "minimum": ["maximum"],
    "maximum": ["minimum"],
    "argmin": ["argmax"],
    "argmax": ["argmin"],
    "any": ["all"],
    "all": ["any"],
    "zeros": ["ones"],
    "ones": ["zeros"],
    "zeros_like": ["ones_like"],
    "ones_like": ["zeros_like"],
    "floor": ["ceil"],
    "ceil": ["floor"],
    "logsumexp": ["sum", "max"],
    "logical_and": ["logical_or"],
    "logical_or": ["logical_and"],
}
# Left out, these leave their first argument, or the array whose method they are.
DROPPED_FUNCTIONS = {"exp", "log", "log2", "log1p", "expm1", "abs", "sqrt", "square", "softmax"}
DROPPED_FUNCTIONS |= {"log_softmax", "cumsum", "cumprod", "sum", "mean", "max", "min", "logsumexp"}
DROPPED_FUNCTIONS |= {"prod", "logical_not", "boolean_mask", "copy", "round", "sorted", "reversed"}
DROPPED_FUNCTIONS |= {"transpose", "flip", "reverse"}
CHOICES = {"min", "max", "minimum", "maximum", "logical_and", "logical_or"}
DROPPED_KEYWORDS = {"axis", "keepdims"}
IN_ITSELF = re.compile(r"\b(\w+)\.append\(\1\)")  # such a list NumPy takes seconds to refuse
NO_PLACES = (ast.arguments, ast.JoinedStr, ast.Import, ast.ImportFrom, ast.AnnAssign)


class Change(NamedTuple):
    """What stands in one place of a tree gives way to what `make` makes of it."""

    parent: int  # its position in ast.walk
    field: str
    index: int | None  # of a field that is a list
    make: Callable[[ast.AST], ast.AST]
    renames: bool = False  # it takes another variable

    def goes_with(self, other):
        """Not in the same place; and of two renamings most only turn a + b into b + a."""
        return self[:3] != other[:3] and not (self.renames and other.renames)


class Mutant(NamedTuple):
    """A wrong answer: its source, its lines that differ from the right one's, its changes."""

    source: str
    difference: str
    changes: tuple[Change, ...]


def single_mutants(solution: str) -> list[Mutant]:
    """All that differ from `solution` by one change."""
    return _unlike([solution], (_mutant(solution, (change,)) for change in _changes(solution)))


def double_mutants(solution: str, singles: list[Mutant], limit: int) -> list[Mutant]:
    """Those of two changes, a change of each of two `singles`; of more than `limit`, a sample."""
    pairs = [
        (*first.changes, *second.changes)
        for first, second in itertools.combinations(singles, 2)
        if first.changes[0].goes_with(second.changes[0])
    ]
    if len(pairs) > limit:
        pairs = random.Random(0).sample(pairs, limit)
    known = [solution, *(single.source for single in singles)]
    return _unlike(known, (_mutant(solution, pair) for pair in pairs))


def _unlike(known, mutants):
    """The mutants that differ from what is known, and each once."""
    seen = {ast.unparse(ast.parse(source)) for source in known}
    different = {mutant.source: mutant for mutant in mutants if mutant.source not in seen}
    return [m for m in different.values() if not IN_ITSELF.search(m.source)]


def _mutant(solution, changes):
    tree = ast.parse(solution)
    before = ast.unparse(tree)
    nodes = list(ast.walk(tree))
    # In ast.walk what lies deeper comes later: it goes first, while it is still in its place.
    for change in sorted(changes, key=lambda c: (-c.parent, c.index is None)):
        _put(nodes[change.parent], change)
    after = ast.unparse(ast.fix_missing_locations(tree))
    return Mutant(after, _difference(before, after), tuple(changes))


def _put(parent, change):
    found = getattr(parent, change.field)
    if change.index is None:
        setattr(parent, change.field, change.make(found))
    else:
        found[change.index] = change.make(found[change.index])


def _difference(before, after):
    """The lines that are new, without their indentation; of a statement left out, "no" and it."""
    lines = zip(before.splitlines(), after.splitlines(), strict=True)
    return "; ".join(
        f"no {was.strip()}" if new.strip() == "pass" else new.strip()
        for was, new in lines
        if was != new
    )


def _changes(solution):
    tree = ast.parse(solution)
    indices, variables = _index_nodes(tree), _variables(tree)
    for at, parent in enumerate(ast.walk(tree)):
        if isinstance(parent, NO_PLACES):
            continue
        for field, index, child in _children(parent):
            for make in _ways_to_change(parent, field, child):
                yield Change(at, field, index, make)
            if child in indices:
                for make in _of_index(child):
                    yield Change(at, field, index, make)
            for make in _other_variables(child, variables.get(child, [])):
                yield Change(at, field, index, make, renames=True)
        if isinstance(parent, ast.FunctionDef | ast.For | ast.While | ast.If | ast.With):
            for make in _other_orders(parent.body):
                yield Change(at, "body", None, make)


def _children(parent):
    for field, value in ast.iter_fields(parent):
        if isinstance(value, ast.AST):
            yield field, None, value
        elif isinstance(value, list):
            for index, child in enumerate(value):
                if isinstance(child, ast.AST):
                    yield field, index, child


def _index_nodes(tree):
    """The nodes that stand in square brackets, those of a tuple each."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript):
            inside = node.slice
            found |= {inside, *inside.elts} if isinstance(inside, ast.Tuple) else {inside}
    return found


def _variables(tree):
    """For every use of a variable of a function: all variables of that function."""
    found = {}
    for function in ast.walk(tree):
        if isinstance(function, ast.FunctionDef):
            names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
            bound = {argument.arg for argument in function.args.args}
            bound |= {name.id for name in names if isinstance(name.ctx, ast.Store)}
            used = [name for name in names if isinstance(name.ctx, ast.Load) and name.id in bound]
            found |= dict.fromkeys(used, sorted(bound))
    return found


def _ways_to_change(parent, field, child):
    """Functions from a copy of `child` to what may stand in its place."""
    if isinstance(child, ast.stmt):
        yield from _of_statement(child)
    elif type(child) in OF_EXPRESSION:
        yield from OF_EXPRESSION[type(child)](child)
    if field == "iter":
        yield from _of_loop()
    if isinstance(parent, ast.Return) and not isinstance(child, ast.Constant | ast.Tuple):
        yield _negative


def _of_statement(statement):
    if _is_simple(statement):
        yield lambda node: ast.Pass()
    if isinstance(statement, ast.Break | ast.Continue):
        yield lambda node: ast.Pass()
    if isinstance(statement, ast.AugAssign):
        for other in OTHER_OPERATORS.get(type(statement.op), []):
            yield lambda node, other=other: ast.AugAssign(node.target, other(), node.value)
        yield lambda node: ast.Assign([node.target], node.value)
    if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Subscript):
        yield lambda node: ast.AugAssign(node.targets[0], ast.Add(), node.value)
    if isinstance(statement, ast.If):
        yield lambda node: ast.If(ast.Constant(True), node.body, node.orelse)
        yield lambda node: ast.If(ast.Constant(False), node.body, node.orelse)


def _is_simple(statement):
    is_docstring = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Assign | ast.AugAssign | ast.Expr) and not is_docstring


def _of_binary(expression):
    kind = type(expression.op)
    for other in OTHER_OPERATORS.get(kind, []):
        yield lambda node, other=other: ast.BinOp(node.left, other(), node.right)
    yield lambda node: node.left
    if kind is ast.Sub:
        yield lambda node: _negative(node.right)
    elif kind is ast.Div:
        yield lambda node: ast.BinOp(ast.Constant(1), ast.Div(), node.right)
    else:
        yield lambda node: node.right
    if kind in (ast.Sub, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.MatMult):
        yield lambda node: ast.BinOp(node.right, node.op, node.left)
    first = expression.left
    is_sum = isinstance(first, ast.BinOp) and isinstance(first.op, ast.Add | ast.Sub)
    if kind in (ast.Add, ast.Sub) and not is_sum:
        yield lambda node: ast.BinOp(_negative(node.left), node.op, node.right)


def _of_unary(expression):
    yield lambda node: node.operand


def _of_comparison(expression):
    for at, operator in enumerate(expression.ops):
        for other in OTHER_OPERATORS.get(type(operator), []):
            yield lambda node, at=at, other=other: ast.Compare(
                node.left, [*node.ops[:at], other(), *node.ops[at + 1 :]], node.comparators
            )


def _of_and_or(expression):
    for other in OTHER_OPERATORS[type(expression.op)]:
        yield lambda node, other=other: ast.BoolOp(other(), node.values)
    for at in range(len(expression.values)):
        yield lambda node, at=at: ast.BoolOp(node.op, node.values[:at] + node.values[at + 1 :])


def _of_if_else(expression):
    yield lambda node: node.body
    yield lambda node: node.orelse
    yield lambda node: ast.IfExp(node.test, node.orelse, node.body)


def _of_call(call):
    name = _name_of(call.func).removeprefix("reduce_")
    prefix = _name_of(call.func).removesuffix(name)
    for other in OTHER_FUNCTIONS.get(name, []):
        yield lambda node, other=other: _renamed(node, prefix + other)
    if name in CHOICES and len(call.args) == 2:
        yield lambda node: node.args[0]
        yield lambda node: node.args[1]
    elif name in DROPPED_FUNCTIONS:
        yield _argument
    elif name == "where" and len(call.args) == 3:
        yield lambda node: node.args[1]
        yield lambda node: node.args[2]
        yield lambda node: ast.Call(node.func, [node.args[0], *node.args[:0:-1]], node.keywords)
    for at, keyword in enumerate(call.keywords):
        if keyword.arg in DROPPED_KEYWORDS:
            yield lambda node, at=at: ast.Call(
                node.func, node.args, node.keywords[:at] + node.keywords[at + 1 :]
            )


def _name_of(function):
    return getattr(function, "attr", getattr(function, "id", ""))


def _renamed(call, name):
    if isinstance(call.func, ast.Attribute):
        function = ast.Attribute(call.func.value, name, ast.Load())
    elif name in ("mean", "median"):  # Python has none
        function = ast.Attribute(ast.Name("np", ast.Load()), name, ast.Load())
    else:
        function = ast.Name(name, ast.Load())
    return ast.Call(function, call.args, call.keywords)


def _argument(call):
    """What a function is given, or the array whose method it is."""
    return call.args[0] if call.args else getattr(call.func, "value", call)


def _of_subscript(subscript):
    if not isinstance(subscript.ctx, ast.Load):
        return
    yield lambda node: node.value
    if isinstance(subscript.slice, ast.Slice) and subscript.slice.step is None:
        yield lambda node: _sliced(node, None, None, -1)


def _of_slice(part):
    yield lambda node: ast.Slice()
    if part.lower is not None:
        yield lambda node: ast.Slice(None, node.upper, node.step)
    if part.upper is not None:
        yield lambda node: ast.Slice(node.lower, None, node.step)
    if part.step is not None:
        yield lambda node: ast.Slice(node.lower, node.upper, None)
    if part.lower is not None and part.upper is None:
        yield lambda node: ast.Slice(None, _negative(node.lower), node.step)
    if part.lower is None and isinstance(part.upper, ast.UnaryOp):
        yield lambda node: ast.Slice(_positive(node.upper), None, node.step)


def _of_index(index):
    if isinstance(index, ast.Name | ast.BinOp | ast.Attribute | ast.Call):
        yield lambda node: ast.BinOp(node, ast.Add(), ast.Constant(1))
        yield lambda node: ast.BinOp(node, ast.Sub(), ast.Constant(1))
    if isinstance(index, ast.Tuple) and len(index.elts) == 2:
        yield lambda node: ast.Tuple(node.elts[::-1], node.ctx)


def _other_variables(child, names):
    for name in names:
        if name != child.id:
            yield lambda node, name=name: ast.Name(name, node.ctx)


def _other_orders(body):
    for at, (first, second) in enumerate(itertools.pairwise(body)):
        if _is_simple(first) and _is_simple(second):
            yield lambda node, at=at: [*node[:at], node[at + 1], node[at], *node[at + 2 :]]


def _of_loop():
    yield lambda node: _sliced(_list(node), None, None, -1)
    yield lambda node: _sliced(_list(node), 1, None, None)
    yield lambda node: _sliced(_list(node), None, -1, None)


def _of_constant(constant):
    if isinstance(constant.value, bool):
        yield lambda node: ast.Constant(not node.value)
    elif isinstance(constant.value, int | float):
        yield lambda node: ast.Constant(node.value + 1)
        yield lambda node: ast.Constant(node.value - 1)


def _of_attribute(attribute):
    if attribute.attr == "T":
        yield lambda node: node.value


def _of_comprehension(loop):
    for at in range(len(loop.ifs)):
        yield lambda node, at=at: ast.comprehension(
            node.target, node.iter, node.ifs[:at] + node.ifs[at + 1 :], node.is_async
        )


OF_EXPRESSION = {
    ast.BinOp: _of_binary,
    ast.UnaryOp: _of_unary,
    ast.Compare: _of_comparison,
    ast.BoolOp: _of_and_or,
    ast.IfExp: _of_if_else,
    ast.Call: _of_call,
    ast.Subscript: _of_subscript,
    ast.Slice: _of_slice,
    ast.Constant: _of_constant,
    ast.Attribute: _of_attribute,
    ast.comprehension: _of_comprehension,
}


def _negative(node):
    return ast.UnaryOp(ast.USub(), node)


def _positive(node):
    return node.operand if isinstance(node, ast.UnaryOp) else node


def _list(node):
    return ast.Call(ast.Name("list", ast.Load()), [node], [])


def _sliced(node, *bounds):
    bounds = [None if bound is None else ast.Constant(bound) for bound in bounds]
    return ast.Subscript(node, ast.Slice(*bounds), ast.Load())
