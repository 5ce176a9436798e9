"""The rules of the house that a reader would otherwise have to check by eye."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.unit.source_tree import all_files, circles, imported_files, package_files, rooms_below

# From the bottom up. Parts of one line do not import each other.
LAYERS = """
    _version environment errors hints log metric quantities config stable_keys kernels
    memory calls
    columns process host
    exchange state connectors observability
    aggregates
    expressions
    operators
    graph
    checkpoint
    runtime
    launch
    api cli
    testing
""".strip().splitlines()
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts.split()}
TOP = {"__init__", "__main__"}  # the public names, and the command

FOLDER_FILES = 14
CLASS_LINES, CLASS_METHODS = 250, 25
FILE_LINES = 600
FUNCTION_LINES = {"hpcstream": 40, "kernels": 60, "tests": 40}
PARAMETERS = 8
NESTING = 4
FORBIDDEN_NAMES = {"utils.py", "helpers.py", "common.py", "core.py", "manager.py"}


def imported_parts(module: str) -> set[str]:
    """Return the parts of hpcstream that a module imports."""
    return {target.split(".")[1] for target in imported_files()[module]} - TOP


def test_every_part_has_its_layer():
    assert {file.part for file in package_files()} <= LEVEL.keys() | TOP


def test_imports_point_downwards():
    upward = [
        f"{file.shown} imports hpcstream.{target}"
        for file in package_files()
        if file.part not in TOP
        for target in imported_parts(file.module) - {file.part}
        if LEVEL[target] >= LEVEL[file.part]
    ]
    assert not upward, "\n".join(upward)


def test_no_file_imports_itself_by_way_of_others():
    assert not list(circles(imported_files()))


def test_no_room_of_a_folder_imports_itself_by_way_of_others():
    folders = {file.module.rpartition(".")[0] for file in package_files()} - {""}
    assert not [circle for folder in sorted(folders) for circle in circles(rooms_below(folder))]


def test_the_planner_asks_definitions_and_knows_no_operator():
    definitions = {"spec", "base", "stream_time", "stateless", "sink", "windows.definition"}
    known = [
        f"{file.shown} imports {target}"
        for file in package_files()
        if file.part == "graph" and ".lowering." not in file.module
        for target in imported_files()[file.module]
        if "operators." in target and target.partition("operators.")[2] not in definitions
    ]
    assert not known, "say it in the OperatorSpec of the operator:\n" + "\n".join(known)


def test_a_circle_is_found():
    assert list(circles({"a": ["b"], "b": ["c"], "c": ["b"]})) == ["b -> c -> b"]


def test_folders_stay_small():
    counts: dict[str, int] = {}
    for file in package_files():
        if file.part != "kernels" and file.path.name != "__init__.py":
            folder = file.module.rpartition(".")[0]
            counts[folder] = counts.get(folder, 0) + 1
    crowded = {folder: count for folder, count in counts.items() if count > FOLDER_FILES}
    assert not crowded, f"make rooms of what has more than {FOLDER_FILES} files"


def test_each_package_says_its_one_job_in_a_sentence():
    packages = [file for file in package_files() if file.path.name == "__init__.py"]
    first = {file.shown: (ast.get_docstring(file.tree) or "").split("\n\n")[0] for file in packages}
    assert packages
    assert {where: text for where, text in first.items() if not is_one_sentence(text)} == {}
    assert len(set(first.values())) == len(packages)


def is_one_sentence(text: str) -> bool:
    return text.endswith(".") and ". " not in text.replace("\n", " ") and len(text.split()) > 2


def test_what_one_sentence_is():
    assert is_one_sentence("Reads and writes CSV.")
    assert not any(map(is_one_sentence, ["", "CSV.", "Joins tables", "Reads files. Writes files."]))


def test_kernels_know_numpy_and_numba_and_nothing_else_of_ours():
    foreign = [
        f"{file.shown} imports {module}"
        for file in package_files()
        if file.part == "kernels"
        for module in file.imports
        if module.split(".")[0] not in {"numpy", "numba", "llvmlite"} | sys.stdlib_module_names
        and not module.startswith("hpcstream.kernels")
    ]
    assert not foreign, "\n".join(foreign)


def test_kernels_are_imported_under_one_name():
    second_copies = [
        f"{file.shown} imports {module}"
        for file in all_files()
        for module in file.imports
        if module.split(".")[0] == "kernels"
    ]
    assert not second_copies, "write hpcstream.kernels:\n" + "\n".join(second_copies)


def test_mpi_is_imported_in_one_module():
    users = {
        file.shown
        for file in package_files()
        for module in file.imports
        if module.split(".")[0] == "mpi4py"
    }
    assert users == {"hpcstream/exchange/mpi.py"}


SPEAKS = "hpcstream.log"
ANSWERS = "cli"  # on standard output, by print()


def test_one_file_writes_to_the_standard_streams():
    others = [
        f"{file.shown}:{node.lineno}"
        for file in package_files()
        if file.module != SPEAKS
        for node in file.nodes
        if (isinstance(node, ast.Attribute) and ast.unparse(node) in _STREAMS)
        or (file.part != ANSWERS and isinstance(node, ast.Call) and ast.unparse(node.func) in _SAY)
    ]
    assert not others, "hpcstream.log says it:\n" + "\n".join(others)


_STREAMS = {"sys.stderr", "sys.stdout", "sys.__stderr__", "sys.__stdout__"}
_SAY = {"print", "logging.getLogger", "logging.info", "logging.warning", "logging.error"}


def test_imports_are_absolute():
    relative = [file.shown for file in package_files() if "(relative)" in file.imports]
    assert not relative


def test_files_are_named_after_what_they_do():
    assert not [file.shown for file in all_files() if file.path.name in FORBIDDEN_NAMES]


def test_files_stay_small():
    long = [
        f"{file.shown}: {lines} lines"
        for file in all_files()
        if (lines := len(file.text.splitlines())) > FILE_LINES
    ]
    assert not long, f"split what is longer than {FILE_LINES} lines:\n" + "\n".join(long)


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
        f"{file.shown}:{function.lineno} {function.name}: {lines} lines"
        for file in all_files()
        if file.shown.startswith(f"{folder}/")
        for function in file.functions
        if (lines := lines_of(function)) > FUNCTION_LINES[folder]
    ]
    assert not long, f"split what is longer than {FUNCTION_LINES[folder]} lines:\n" + "\n".join(
        long
    )


LARGE_CLASSES = {
    "hpcstream.api.job.Job": "the options of run() and the readers, documented where users look",
    "hpcstream.expressions.expression.Expression": "a short method an operator or function",
    "hpcstream.exchange.edges.collective.CollectiveEdge": "the protocol of calls and rounds",
}
"""Classes beyond the limits, each with the reason."""


def test_classes_stay_small():
    large = {}
    for file in package_files():
        for node in file.classes:
            n_lines = (node.end_lineno or 0) - node.lineno + 1
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            if n_lines > CLASS_LINES or len(methods) > CLASS_METHODS:
                large[f"{file.module}.{node.name}"] = f"{n_lines} lines, {len(methods)} methods"
    assert large.keys() == LARGE_CLASSES.keys(), large


EXPLAINED = ("api",)  # options that users name: Job.run(...), read_csv(...)


COMPLETED_INSIDE = ("runtime", "checkpoint")
"""Parts in which an object sets its own attributes only."""


def set_from_outside(tree: ast.AST) -> list[ast.Attribute]:
    """Return the attributes that are set of anything but ``self``."""
    targets = [t for node in ast.walk(tree) if isinstance(node, ast.Assign) for t in node.targets]
    return [
        node
        for target in targets
        for node in ast.walk(target)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) not in ("self", "cls")
    ]


def test_no_object_is_completed_from_outside():
    found = [
        f"{file.shown}:{node.lineno} {ast.unparse(node)}"
        for file in package_files()
        if file.part in COMPLETED_INSIDE
        for node in set_from_outside(file.tree)
    ]
    assert not found, "give it to the constructor, or call a method:\n" + "\n".join(found)


def test_an_attribute_set_from_outside_is_found():
    assert set_from_outside(ast.parse("worker.stop, self.x = stop, 1"))
    assert not set_from_outside(ast.parse("self.stop = stop; seen[0] = 1; worker.rounds += 1"))


def test_functions_take_few_parameters():
    many = [
        f"{file.shown}:{function.lineno} {function.name}: {count} parameters"
        for file in package_files()
        if file.part not in EXPLAINED
        for function in file.functions
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
        f"{file.shown}:{function.lineno} {function.name}: {depth} levels"
        for file in package_files()
        for function in file.functions
        if (depth := max(nesting_of(statement) for statement in function.body)) > NESTING
    ]
    assert not deep, f"flatten what is nested deeper than {NESTING}:\n" + "\n".join(deep)


PROBED = {
    "hpcstream/__init__.py": "names are imported when they are asked for",
    "hpcstream/aggregates/base.py": "fields of a dataclass, by name",
    "hpcstream/aggregates/registry.py": "what a user gives as an aggregate",
    "hpcstream/api/misuse.py": "values of users, and of an interactive Python",
    "hpcstream/api/stream.py": "what a user gives as a window",
    "hpcstream/checkpoint/format.py": "members of an HDF5 file",
    "hpcstream/cli/command.py": "options that only some commands have",
    "hpcstream/config.py": "fields of a dataclass, by name",
    "hpcstream/connectors/defaults.py": "sources and sinks of users, given defaults once",
    "hpcstream/connectors/files/listing.py": "what a user gives as paths",
    "hpcstream/connectors/formats/hdf5/paths.py": "links of an HDF5 file",
    "hpcstream/connectors/in_process/batches.py": "tables of other libraries",
    "hpcstream/connectors/in_process/sinks.py": "streams of Python",
    "hpcstream/expressions/binding.py": "functions of Arrow, by name",
    "hpcstream/expressions/functions/times.py": "types of Arrow",
    "hpcstream/expressions/types.py": "types of Arrow",
    "hpcstream/expressions/zones.py": "types of Arrow",
    "hpcstream/launch/exit_hooks.py": "an interactive Python; the last error of one",
    "hpcstream/launch/run.py": "an interactive Python",
    "hpcstream/log.py": "streams of Python",
    "hpcstream/memory/arena.py": "what this Python's mmap has",
    "hpcstream/memory/pool.py": "a function, or an object, that makes arenas",
    "hpcstream/operators/user_functions.py": "what a user's function returns",
    "hpcstream/process/early_exit.py": "attributes of errors",
    "hpcstream/process/family.py": "an interactive Python",
    "hpcstream/process/heap.py": "what this C library has",
    "hpcstream/process/launcher_facts.py": "what this C library has",
    "hpcstream/process/tracebacks.py": "attributes of errors",
    "hpcstream/stable_keys.py": "functions of users",
}
"""Files that look for an attribute by its name, each with whose it is: never our protocols'."""


def probes_of(tree: ast.AST) -> list[ast.Call]:
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [
        call
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id in {"getattr", "hasattr"}
    ]


def test_nobody_guesses_what_methods_an_object_has():
    probing = {
        file.shown for file in package_files() if file.part != "kernels" and probes_of(file.tree)
    }
    assert probing == PROBED.keys(), "a base class with defaults says the contract"


def test_a_guess_is_found():
    assert probes_of(ast.parse("if hasattr(sink, 'cut'): getattr(sink, 'cut')()"))
    assert not probes_of(ast.parse("sink.cut()"))


ALLOCATING = {"sort_groups"}
"""Kernels that cannot do without memory of their own; all others are `lean_njit`."""


def test_kernels_count_no_references():
    for file in package_files():
        if file.part != "kernels" or file.path.name == "compiling.py":
            continue
        counting = {
            function.name
            for function in file.functions
            for decorator in function.decorator_list
            if "njit" in ast.unparse(decorator) and "lean_njit" not in ast.unparse(decorator)
        }
        assert counting <= ALLOCATING, f"{file.shown}: @lean_njit() does"
