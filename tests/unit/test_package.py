"""What is shipped: the wheel, its import, its version."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from hpcstream._version import __version__

PROJECT = Path(__file__).parents[2]
NOT_SOURCE = shutil.ignore_patterns(
    ".git", ".venv", "build", "dist", "site", "*.egg-info", "__pycache__", ".*_cache", "data"
)


def python(*arguments, cwd, path=None):
    """Run Python as in a plain shell; return its output."""
    environ = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if path:
        environ["PYTHONPATH"] = str(path)
    run = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environ, text=True, capture_output=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy of the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(PROJECT, folder / "source", ignore=NOT_SOURCE, symlinks=True)
    build = [
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(folder),
    ]
    python(*build, str(folder / "source"), cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel):
    """A folder that holds nothing but the unpacked wheel."""
    folder = wheel.parent / "installed"
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def modules(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*.py")}


def test_the_wheel_holds_every_module_and_nothing_else(wheel):
    ours = {f"hpcstream/{name}" for name in modules(PROJECT / "hpcstream")}
    ours |= {f"hpcstream/kernels/{name}" for name in modules(PROJECT / "kernels")}

    shipped = {n for n in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in n}

    assert shipped == ours | {"hpcstream/py.typed"}


def test_the_wheel_works_outside_the_checkout(installed, tmp_path):
    code = "import hpcstream, hpcstream.kernels; print(hpcstream.__file__, hpcstream.__version__)"

    where, version = python("-c", code, cwd=tmp_path, path=installed).split()

    assert Path(where).is_relative_to(installed)
    assert version == __version__
    answer = python("-m", "hpcstream", "--version", cwd=tmp_path, path=installed)
    assert answer == f"hpcstream {__version__}\n"


def test_importing_the_package_starts_no_mpi_and_compiles_nothing(tmp_path):
    heavy = {"mpi4py", "numba", "h5py", "matplotlib", "pandas", "polars", "duckdb"}
    code = f"import sys, hpcstream; print(sorted({heavy!r} & set(sys.modules)))"

    assert python("-c", code, cwd=tmp_path, path=PROJECT) == "[]\n"


def test_the_version_has_its_entry_in_the_changelog():
    changelog = (PROJECT / "CHANGELOG.md").read_text(encoding="utf-8")

    assert f"## [{__version__}]" in changelog


def test_the_core_needs_five_packages():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    names = {requirement.partition(">")[0] for requirement in project["dependencies"]}

    assert names == {"mpi4py", "numpy", "numba", "pyarrow", "h5py"}


def pinned(name):
    lines = (PROJECT / "requirements" / name).read_text(encoding="utf-8").splitlines()
    return {line for line in lines if not line.startswith("#")}


@pytest.mark.parametrize("name", ["demo.txt", "pins.txt"])
def test_pinned_versions_are_exact(name):
    assert [line for line in pinned(name) if "==" not in line] == []


def test_the_demo_is_pinned_as_all_else_is_and_without_the_tools_of_developers():
    demo, everything = pinned("demo.txt"), pinned("pins.txt")

    tools = {"mkdocs", "mypy", "pytest", "ruff", "pandas", "duckdb", "polars"}
    assert demo <= everything
    assert not {line.partition("==")[0] for line in demo} & tools


def test_a_clone_beside_a_script_does_not_hide_the_editable_install(tmp_path):
    clone, site = tmp_path / "hpcstream", tmp_path / "site"
    shutil.copytree(PROJECT, clone, ignore=NOT_SOURCE, symlinks=True)
    install = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    python(*install, "--target", str(site), "--editable", str(clone), cwd=tmp_path)
    script = tmp_path / "averages.py"
    script.write_text(
        f"import site; site.addsitedir({str(site)!r})\n"
        "import hpcstream as hs, hpcstream.kernels as kernels\n"
        "print(hs.Job.__module__, kernels.__file__)\n"
    )

    # Without the site-packages of these tests, in which hpcstream is, but with what it needs.
    said = python("-S", str(script), cwd=tmp_path, path=sysconfig.get_path("platlib"))

    assert said.split() == ["hpcstream.api.job", str(clone / "hpcstream/kernels/__init__.py")]


def test_every_public_name_is_there():
    import hpcstream

    assert sorted(hpcstream.__all__) == dir(hpcstream)
    assert all(getattr(hpcstream, name) is not None for name in hpcstream.__all__)
