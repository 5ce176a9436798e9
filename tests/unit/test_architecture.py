"""The rules of the house that a reader would otherwise have to check by eye."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]

# From the bottom up. Parts of one line may import each other, except those of APART.
LAYERS = """
    _version errors hints messages children early_exit
    kernels event_time config
    memory
    exchange state checkpoint connectors observability
    operators
    graph
    runtime
    api
    testing cli
""".strip().splitlines()
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts.split()}
APART = {"exchange", "state", "checkpoint", "connectors", "observability"}
TOP = {"__init__", "__main__"}  # the public names, and the command

FILE_LINES = 600
FUNCTION_LINES = {"hpcstream": 40, "kernels": 60, "tests": 40}
PARAMETERS = 8
NESTING = 4
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "core.py", "manager.py"}


def sources() -> Iterator[tuple[str, Path]]:
    """Yield each source file of the package with its part: its folder, or itself at the top."""
    for path in sorted((PROJECT / "kernels").rglob("*.py")):
        yield "kernels", path
    for path in sorted((PROJECT / "hpcstream").rglob("*.py")):
        inside = path.relative_to(PROJECT / "hpcstream")
        if inside.parts[0] != "kernels":  # the link
            yield inside.parts[0].removesuffix(".py"), path


def all_python_files() -> Iterator[Path]:
    yield from (path for _, path in sources())
    for folder in ("tests", "benchmarks", "examples", "scripts"):
        yield from sorted((PROJECT / folder).rglob("*.py"))


def imported_modules(path: Path) -> Iterator[str]:
    """Yield the full name of each module that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "(relative)"


def imported_parts(path: Path) -> set[str]:
    """Return the parts of hpcstream that a file imports."""
    names = [module.split(".") for module in imported_modules(path)]
    inside = {words[1] for words in names if words[0] == "hpcstream" and len(words) > 1}
    return {part for part in inside if part in LEVEL or (PROJECT / "hpcstream" / part).is_dir()}


def shown(path: Path) -> str:
    return str(path.relative_to(PROJECT))


def test_every_part_has_its_layer():
    assert {part for part, _ in sources()} <= LEVEL.keys() | TOP


def test_imports_point_downwards():
    upward = [
        f"{shown(path)} imports hpcstream.{target}"
        for part, path in sources()
        if part not in TOP
        for target in imported_parts(path)
        if LEVEL[target] > LEVEL[part]
    ]
    assert not upward, "\n".join(upward)


def test_the_parts_that_stand_side_by_side_do_not_import_one_another():
    sideways = [
        f"{shown(path)} imports hpcstream.{target}"
        for part, path in sources()
        if part in APART
        for target in imported_parts(path) & APART
        if target != part
    ]
    assert not sideways, "\n".join(sideways)


def test_kernels_know_numpy_and_numba_and_nothing_else_of_ours():
    foreign = [
        f"{shown(path)} imports {module}"
        for part, path in sources()
        if part == "kernels"
        for module in imported_modules(path)
        if module.split(".")[0] not in {"numpy", "numba", "llvmlite"} | sys.stdlib_module_names
        and not module.startswith("hpcstream.kernels")
    ]
    assert not foreign, "\n".join(foreign)


def test_kernels_are_imported_under_one_name():
    second_copies = [
        f"{shown(path)} imports {module}"
        for path in all_python_files()
        for module in imported_modules(path)
        if module.split(".")[0] == "kernels"
    ]
    assert not second_copies, "write hpcstream.kernels:\n" + "\n".join(second_copies)


def test_mpi_is_imported_in_one_module():
    users = {
        shown(path)
        for _, path in sources()
        for module in imported_modules(path)
        if module.split(".")[0] == "mpi4py"
    }
    assert users == {"hpcstream/exchange/mpi.py"}


def test_imports_are_absolute():
    relative = [shown(path) for _, path in sources() if "(relative)" in imported_modules(path)]
    assert not relative


def test_files_are_named_after_what_they_do():
    assert not [shown(path) for path in all_python_files() if path.name in FORBIDDEN_NAMES]


def test_files_stay_small():
    long = [
        f"{shown(path)}: {lines} lines"
        for path in all_python_files()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > FILE_LINES
    ]
    assert not long, f"split what is longer than {FILE_LINES} lines:\n" + "\n".join(long)


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield node


def lines_of(function: ast.FunctionDef) -> int:
    """Count a function's lines from its first statement on, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters_of(function: ast.FunctionDef) -> int:
    given = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    return len([parameter for parameter in given if parameter.arg not in ("self", "cls")])


@pytest.mark.parametrize("folder", list(FUNCTION_LINES))
def test_functions_stay_small(folder):
    long = [
        f"{shown(path)}:{function.lineno} {function.name}: {lines} lines"
        for path in all_python_files()
        if path.relative_to(PROJECT).parts[0] == folder
        for function in functions(path)
        if (lines := lines_of(function)) > FUNCTION_LINES[folder]
    ]
    assert not long, f"split what is longer than {FUNCTION_LINES[folder]} lines:\n" + "\n".join(
        long
    )


EXPLAINED = ("api",)  # options that users name: Job.run(...), read_csv(...)


def test_functions_take_few_parameters():
    many = [
        f"{shown(path)}:{function.lineno} {function.name}: {count} parameters"
        for part, path in sources()
        if part not in EXPLAINED
        for function in functions(path)
        if (count := parameters_of(function)) > PARAMETERS
    ]
    assert not many, f"make a value of what is more than {PARAMETERS}:\n" + "\n".join(many)


def nesting_of(node: ast.AST, depth: int = 0) -> int:
    """Return how deep loops, conditions and contexts lie in one another."""
    deeper = isinstance(node, ast.For | ast.While | ast.If | ast.With | ast.Try)
    depths = [depth + deeper]
    for name, value in ast.iter_fields(node):
        # An elif is an If in the orelse of an If: the same depth for the reader.
        is_elif = name == "orelse" and isinstance(node, ast.If) and len(value) == 1
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.FunctionDef):
                same = is_elif and isinstance(child, ast.If)
                depths.append(nesting_of(child, depth if same else depth + deeper))
    return max(depths)


def test_functions_are_not_nested_deep():
    deep = [
        f"{shown(path)}:{function.lineno} {function.name}: {depth} levels"
        for part, path in sources()
        for function in functions(path)
        if (depth := max(nesting_of(statement) for statement in function.body)) > NESTING
    ]
    assert not deep, f"flatten what is nested deeper than {NESTING}:\n" + "\n".join(deep)


ALLOCATING = {"sort_groups"}
"""Kernels that cannot do without memory of their own; all others are `lean_njit`."""


def test_kernels_count_no_references():
    for path in (PROJECT / "hpcstream" / "kernels").glob("*.py"):
        counting = {
            function.name
            for function in functions(path)
            if path.name != "compiling.py"
            for decorator in function.decorator_list
            if "njit" in ast.unparse(decorator) and "lean_njit" not in ast.unparse(decorator)
        }
        assert counting <= ALLOCATING, f"{shown(path)}: @lean_njit() does"
