"""The source files of the project, each parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Set
from functools import cache, cached_property
from pathlib import Path

PROJECT = Path(__file__).parents[2]
PACKAGE = "hpcstream"


class SourceFile:
    """A Python file and what the rules ask of it.

    Attributes
    ----------
    path : Path
    part : str
        Of files of the package: its top folder, or the file itself at the top; else ``""``.
    """

    def __init__(self, path: Path, part: str = "") -> None:
        self.path = path
        self.part = part

    @cached_property
    def text(self) -> str:
        return self.path.read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @cached_property
    def functions(self) -> list[ast.FunctionDef]:
        return [node for node in self.nodes if isinstance(node, ast.FunctionDef)]

    @cached_property
    def classes(self) -> list[ast.ClassDef]:
        return [node for node in self.nodes if isinstance(node, ast.ClassDef)]

    @cached_property
    def imports(self) -> list[str]:
        """The full name of each name imported, inside functions and for type checkers too."""
        names = []
        for node in self.nodes:
            if isinstance(node, ast.Import):
                names += [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names += [f"{node.module}.{name.name}" for name in node.names]
            elif isinstance(node, ast.ImportFrom):
                names.append("(relative)")
        return names

    @property
    def shown(self) -> str:
        return str(self.path.relative_to(PROJECT))

    @property
    def module(self) -> str:
        """Its name, of files of the package."""
        inside = self.path.relative_to(PROJECT).with_suffix("").parts
        return ".".join(("hpcstream", *inside) if inside[0] == "kernels" else inside)


@cache
def package_files() -> tuple[SourceFile, ...]:
    """Return the files of the package, kernels included."""
    kernels = [SourceFile(path, "kernels") for path in sorted((PROJECT / "kernels").rglob("*.py"))]
    others = []
    for path in sorted((PROJECT / PACKAGE).rglob("*.py")):
        part = path.relative_to(PROJECT / PACKAGE).parts[0].removesuffix(".py")
        if part != "kernels":  # the link
            others.append(SourceFile(path, part))
    return (*kernels, *others)


@cache
def all_files() -> tuple[SourceFile, ...]:
    """Return the files of the package, its tests, benchmarks, examples and scripts."""
    folders = ("tests", "benchmarks", "examples", "scripts")
    paths = [path for folder in folders for path in sorted((PROJECT / folder).rglob("*.py"))]
    return (*package_files(), *map(SourceFile, paths))


@cache
def imported_files() -> dict[str, set[str]]:
    """Return which modules of the package each module imports."""
    modules = {file.module for file in package_files()}
    return {
        file.module: {
            found
            for name in file.imports
            if (found := _module_of(name, modules)) and found != file.module
        }
        for file in package_files()
    }


def _module_of(name: str, modules: Set[str]) -> str | None:
    """Return the module that has an imported name; None if it is not of the package."""
    while name.startswith(PACKAGE):
        if name in modules:
            return name
        if f"{name}.__init__" in modules:
            return f"{name}.__init__"
        name = name.rpartition(".")[0]
    return None


def rooms_below(folder: str) -> dict[str, set[str]]:
    """Return which files and folders right below a folder import which others of these."""
    found: dict[str, set[str]] = {}
    for module, targets in imported_files().items():
        room = _room(module, folder)
        if room is not None:
            others = {_room(target, folder) for target in targets} - {room, None, "__init__"}
            found.setdefault(room, set()).update(one for one in others if one is not None)
    found.pop("__init__", None)
    return found


def _room(module: str, folder: str) -> str | None:
    return module[len(folder) + 1 :].split(".")[0] if module.startswith(f"{folder}.") else None


def circles(imports: Mapping[str, Iterable[str]]) -> Iterator[str]:
    """Yield each circle as text, found by depth-first search."""
    done: set[str] = set()

    def visit(module: str, way: list[str]) -> Iterator[str]:
        if module in way:
            yield " -> ".join([*way[way.index(module) :], module])
        elif module not in done:
            for target in sorted(imports.get(module, ())):
                yield from visit(target, [*way, module])
            done.add(module)

    for module in sorted(imports):
        yield from visit(module, [])
