"""Finds the places of a module where a small mistake could stand, and writes the module with one such mistake.

A mutation replaces one expression (or one `+=`) and leaves the rest of the file as it is, byte for byte.
"""

from __future__ import annotations

import ast
import copy
import random
from collections.abc import Iterator
from dataclasses import dataclass

SIGNS = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
}
FLIPS = {
    ast.Lt: ast.GtE,
    ast.GtE: ast.Lt,
    ast.Gt: ast.LtE,
    ast.LtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
BOUNDS = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}
EXTREMES = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}


@dataclass(frozen=True)
class Mutation:
    """One mistake: in `module` (a path), at `line`, the bytes from `start` to `end` become `after`."""

    module: str
    line: int
    operator: str
    start: int
    end: int
    before: str
    after: str

    def apply(self, source: bytes) -> bytes:
        """Return the module's source with the mistake in it."""
        return source[: self.start] + self.after.encode() + source[self.end :]


def choose(mutations: list[Mutation], count: int, seed: int) -> list[Mutation]:
    """Return `count` mutations at different places, in the order of the files; all places if there are fewer."""
    places: dict[tuple[str, int, int], list[Mutation]] = {}
    for mutation in mutations:
        places.setdefault((mutation.module, mutation.start, mutation.end), []).append(mutation)
    generator = random.Random(seed)
    drawn = generator.sample(sorted(places), min(count, len(places)))
    return [generator.choice(places[place]) for place in sorted(drawn)]


def find_mutations(module: str, source: bytes) -> list[Mutation]:
    """Return every mutation of a module: signs, comparisons, bounds, constants, and/or, negations, min/max.

    Docstrings, annotations, decorators, f-strings, imports and the block of `if __name__ == "__main__"` are left alone.
    """
    line_starts = [0]
    for line in source.splitlines(keepends=True):
        line_starts.append(line_starts[-1] + len(line))
    found = []
    for node in _nodes(ast.parse(source)):
        changes = list(_changes(node))
        if not changes:
            continue
        start = line_starts[node.lineno - 1] + node.col_offset
        end = line_starts[node.end_lineno - 1] + node.end_col_offset
        before = source[start:end].decode()
        for operator, changed in changes:
            after = ast.unparse(changed)
            if isinstance(changed, ast.expr) and not isinstance(changed, (ast.Constant, ast.Call, ast.Name)):
                after = f"({after})"
            found.append(Mutation(module, node.lineno, operator, start, end, before, after))
    return found


def _nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a tree that may be changed."""
    if isinstance(node, (ast.Import, ast.ImportFrom, ast.JoinedStr)) or _is_main_block(node):
        return
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _nodes(child)


def _is_main_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).startswith("__name__ ==")


def _changes(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield (operator's name, changed copy) for each mistake that fits a node."""
    if isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in SIGNS and not _is_text(node):
        yield "sign", _with(node, op=SIGNS[type(node.op)]())
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "sign", node.operand
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "negation", node.operand
    elif isinstance(node, ast.BoolOp):
        yield "and/or", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Compare):
        for name, table in (("comparison", FLIPS), ("bound", BOUNDS)):
            for index, operator in enumerate(node.ops):
                if type(operator) in table:
                    ops = [*node.ops[:index], table[type(operator)](), *node.ops[index + 1 :]]
                    yield name, _with(node, ops=ops)
    elif isinstance(node, ast.Call):
        yield from (("extreme", changed) for changed in _other_extreme(node))
    elif isinstance(node, ast.Constant):
        yield from (("constant", ast.Constant(value)) for value in _other_values(node.value))


def _other_extreme(call: ast.Call) -> Iterator[ast.Call]:
    if isinstance(call.func, ast.Name) and call.func.id in EXTREMES:
        yield _with(call, func=ast.Name(EXTREMES[call.func.id]))
    elif isinstance(call.func, ast.Attribute) and call.func.attr in EXTREMES:
        yield _with(call, func=_with(call.func, attr=EXTREMES[call.func.attr]))


def _other_values(value: object) -> Iterator[object]:
    if isinstance(value, bool):
        yield not value
    elif isinstance(value, int):
        yield value + 1
        yield value - 1
    elif isinstance(value, float):
        yield value * 1.5 if value else 1.0


def _is_text(node: ast.AST) -> bool:
    """Whether an operation joins or fills in text, which a sign change would turn into a TypeError."""
    return any(
        isinstance(each, ast.JoinedStr) or (isinstance(each, ast.Constant) and isinstance(each.value, (str, bytes)))
        for each in (getattr(node, "left", None), getattr(node, "right", None), getattr(node, "value", None))
    )


def _with(node: ast.AST, **changes: object) -> ast.AST:
    changed = copy.copy(node)
    for name, value in changes.items():
        setattr(changed, name, value)
    return changed
