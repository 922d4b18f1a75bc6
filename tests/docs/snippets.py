"""Checks Python snippets without running them: what they import exists, and their calls fit its parameters.

    stages/tf -m tests.docs.snippets < sources.json

Standard input has a list of sources; standard output gets a list of lists of faults. Written for both interpreters.
"""

import ast
import builtins
import importlib
import inspect
import json
import sys
import typing


class _Instance:
    """Stands for an object of a class, `kind`, that a snippet has made."""

    def __init__(self, kind):
        self.kind = kind


class _Checker(ast.NodeVisitor):
    def __init__(self):
        self.names = {}
        self.faults = []

    def visit_Import(self, node):
        for alias in node.names:
            module = self._module(alias.name)
            if module:
                self.names[(alias.asname or alias.name).split(".")[0]] = module

    def visit_ImportFrom(self, node):
        module = self._module(node.module)
        for alias in node.names if module else ():
            try:
                found = getattr(module, alias.name, None) or importlib.import_module(node.module + "." + alias.name)
            except ImportError:
                self.faults.append(f"{node.module} has no {alias.name}")
                continue
            self.names[alias.asname or alias.name] = found

    def _module(self, name):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            self.faults.append(str(error))
            return None

    def visit_Assign(self, node):
        self.generic_visit(node)
        value = self._result(node.value)
        for target in node.targets:
            self._bind(target, value)

    def visit_With(self, node):
        for item in node.items:
            self.visit(item.context_expr)
            if item.optional_vars:
                self._bind(item.optional_vars, self._result(item.context_expr))
        for statement in node.body:
            self.visit(statement)

    def _bind(self, target, value):
        if isinstance(target, ast.Name):
            self.names[target.id] = value

    def visit_Attribute(self, node):
        self.generic_visit(node)
        owner = self._result(node.value)
        if owner is not None and not _has(owner, node.attr):
            self.faults.append(f"{_title(owner)} has no {node.attr}")

    def visit_Call(self, node):
        self.generic_visit(node)
        called = self._result(node.func)
        if called is None or any(isinstance(each, ast.Starred) for each in node.args):
            return
        if isinstance(called, _Instance):
            arguments, called = [called], called.kind.__call__
        else:
            arguments = []
        keywords = {each.arg: None for each in node.keywords if each.arg}
        try:
            inspect.signature(called).bind(*arguments, *node.args, **keywords)
        except TypeError as error:
            self.faults.append(f"{ast.dump(node.func) if called is None else _title(called)}: {error}")
        except ValueError:
            pass

    def _result(self, node):
        """What an expression stands for: an object that can be imported, an _Instance, or None if it is unknown."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, getattr(builtins, node.id, None))
        if isinstance(node, ast.Attribute):
            owner = self._result(node.value)
            if owner is None:
                return None
            if isinstance(owner, _Instance):
                member = getattr(owner.kind, node.attr, None)
                return member.__get__(object.__new__(object)) if inspect.isfunction(member) else None
            return getattr(owner, node.attr, None)
        if isinstance(node, ast.Call):
            called = self._result(node.func)
            if inspect.isclass(called):
                return _Instance(called)
            return _returned(called) if inspect.isroutine(called) else None
        return None


def _returned(function):
    """An _Instance of the class that a function says it returns; None if it says none."""
    try:
        kind = typing.get_type_hints(function).get("return")
    except Exception:
        return None
    kinds = [each for each in getattr(kind, "__args__", None) or [kind] if each is not type(None)]
    return _Instance(kinds[0]) if len(kinds) == 1 and inspect.isclass(kinds[0]) else None


def _has(owner, name):
    if not isinstance(owner, _Instance):
        return hasattr(owner, name)
    if owner.kind.__module__.split(".")[0] != "covpool":
        return True
    # What a class sets in its methods can't be seen from outside: look for it in the source.
    fields = getattr(owner.kind, "__dataclass_fields__", {})
    return hasattr(owner.kind, name) or name in fields or f"self.{name} " in inspect.getsource(owner.kind)


def _title(owner):
    owner = owner.kind if isinstance(owner, _Instance) else owner
    return getattr(owner, "__qualname__", None) or getattr(owner, "__name__", repr(owner))


def faults(source):
    """Return a list of what is wrong with a snippet."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"does not compile: {error}"]
    checker = _Checker()
    checker.visit(tree)
    return checker.faults


def imported(source):
    """Return the modules that a snippet imports, `package.name` for `from package import name`."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            found.update(node.module + "." + alias.name for alias in node.names)
    return found


if __name__ == "__main__":
    print(json.dumps([faults(source) for source in json.loads(sys.stdin.read())]))
