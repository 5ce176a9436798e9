"""`make`'s way to an environment: which one is kept, made anew, or moved aside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
OURS = ("Makefile", "setup.py", "pyproject.toml", "requirements", "scripts")

# Stands for a Python: its "environments" are copies of itself, which note what they are to install.
FAKE_PYTHON = """#!{python} -IS
import os, sys
args, me = sys.argv[1:], os.path.abspath(sys.argv[0])
if args[:1] == ["-c"]:
    sys.version += " of {name}"
    exec(args[1])
elif args[:1] == ["--version"]:
    print("Python of {name}")
elif args[:2] == ["-m", "venv"]:
    os.makedirs(args[2] + "/bin", exist_ok=True)
    with open(args[2] + "/bin/python", "w") as file:
        file.write(open(me).read())
    os.chmod(args[2] + "/bin/python", 0o755)
    with open(args[2] + "/bin/hpcstream", "w") as file:
        file.write("#!/bin/sh\\necho ran by {name}\\n")
    os.chmod(args[2] + "/bin/hpcstream", 0o755)
elif args[:2] == ["-m", "pip"]:
    if os.path.exists("no-network"):
        sys.exit("no network")
    with open(os.path.dirname(me) + "/../asked", "a") as file:
        file.write(" ".join(args) + "\\n")
"""


@pytest.fixture
def checkout(tmp_path):
    """A checkout with what `make` reads of it, and two Pythons, on whose PATH one is python3."""
    if shutil.which("make") is None:
        pytest.skip("there is no make")
    for name in OURS:
        copy = shutil.copytree if (PROJECT / name).is_dir() else shutil.copy
        copy(PROJECT / name, tmp_path / name)
    for name in ("python3", "other"):
        path = tmp_path / "path" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(FAKE_PYTHON.format(python=sys.executable, name=name))
        path.chmod(0o755)
    return tmp_path


def make(checkout, *arguments, fails=False):
    """Run make in a checkout and return all that it said."""
    path = f"{checkout / 'path'}{os.pathsep}/usr/bin{os.pathsep}/bin"
    run = subprocess.run(
        ["make", *arguments], cwd=checkout, env={"PATH": path}, text=True, capture_output=True
    )
    assert (run.returncode != 0) == fails, run.stdout + run.stderr
    return run.stdout + run.stderr


def asked(checkout):
    return (checkout / ".venv" / "asked").read_text()


def test_the_demo_installs_the_pins_of_the_demo_only_and_once(checkout):
    assert "ran by python3" in make(checkout, "demo")
    assert "requirements/demo.txt" in asked(checkout)
    assert "pins.txt" not in asked(checkout)

    before = asked(checkout)
    assert "install:" not in make(checkout, "demo")
    assert asked(checkout) == before


def test_other_targets_add_their_pins_to_the_environment_of_the_demo(checkout):
    make(checkout, "demo")

    make(checkout, ".venv/.installed")

    assert "requirements/demo.txt" in asked(checkout)
    assert "requirements/pins.txt" in asked(checkout)


@pytest.mark.parametrize("python", [(), ("PYTHON=other",)])
def test_a_half_made_environment_is_made_anew(checkout, python):
    (checkout / "no-network").touch()
    make(checkout, "demo", fails=True)
    (checkout / ".venv" / "left").touch()
    (checkout / "no-network").unlink()

    said = make(checkout, "demo", *python)

    assert f"ran by {'other' if python else 'python3'}" in said
    assert "made anew" in said
    assert not (checkout / ".venv" / "left").exists()
    assert not (checkout / ".venv-before").exists()


def test_a_whole_environment_is_made_anew_for_another_python(checkout):
    make(checkout, "demo")

    assert "ran by other" in make(checkout, "demo", "PYTHON=other")
    assert "install:" not in make(checkout, "demo", "PYTHON=other")
    assert "install:" not in make(checkout, "demo")  # none is asked for: this one stays


@pytest.mark.parametrize("python", ["nothing", "/bin/true-or-not", "/bin/sh"])
def test_a_python_that_cannot_be_had_is_refused_and_what_is_there_stays(checkout, python):
    make(checkout, "demo")

    said = make(checkout, "demo", f"PYTHON={python}", fails=True)

    assert f"PYTHON={python} is not a Python >= 3.11" in said
    assert "install:" not in make(checkout, "demo")


def test_an_environment_that_somebody_else_made_is_moved_aside(checkout):
    for number in ("", "-2"):
        shutil.rmtree(checkout / ".venv", ignore_errors=True)
        (checkout / ".venv").mkdir()
        (checkout / ".venv" / f"mine{number}").touch()

        assert "ran by python3" in make(checkout, "demo")

        assert (checkout / f".venv-before{number}" / f"mine{number}").exists()


def test_a_link_to_an_environment_elsewhere_is_not_followed_to_remove_it(checkout):
    (checkout / "elsewhere").mkdir()
    (checkout / "elsewhere" / "mine").touch()
    (checkout / ".venv").symlink_to(checkout / "elsewhere")

    make(checkout, "demo")

    assert (checkout / "elsewhere" / "mine").exists()
    assert not (checkout / ".venv").is_symlink()
