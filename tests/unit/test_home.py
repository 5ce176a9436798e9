"""`hpcstream run` where the environment names no home folder."""

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from hpcstream.cli.command import main
from hpcstream.cli.home import home_for_ranks


@pytest.fixture
def no_home(monkeypatch):
    monkeypatch.delenv("HOME", raising=False)


@pytest.fixture
def unknown_user(monkeypatch):
    def nobody(number):
        raise KeyError(f"getpwuid(): uid not found: {number}")

    monkeypatch.setattr(pwd, "getpwuid", nobody)


@pytest.mark.parametrize("ranks", [1, 2])
def test_home_is_the_user_s_in_the_password_database(no_home, ranks):
    with home_for_ranks(ranks):
        assert os.environ["HOME"] == pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.parametrize("home", ["/a/home", "/nonexistent", ""])
def test_a_home_that_is_set_stays(monkeypatch, home):
    monkeypatch.setenv("HOME", home)

    with home_for_ranks(2):
        assert os.environ["HOME"] == home


def test_ranks_of_a_user_without_an_entry_get_a_folder_of_their_own_for_as_long(
    no_home, unknown_user
):
    with home_for_ranks(2):
        folder = Path(os.environ["HOME"])
        assert list(folder.iterdir()) == []
        assert folder.stat().st_mode & 0o777 == 0o700
    assert not folder.exists()
    assert "HOME" not in os.environ


def test_one_rank_of_a_user_without_an_entry_goes_without(no_home, unknown_user):
    with home_for_ranks(1):
        assert "HOME" not in os.environ


@pytest.mark.parametrize(("command", "status"), [("run", 0), ("explain", 2)])  # 2: it has no job
def test_ranks_of_a_job_without_a_home_run(tmp_path, command, status):
    script = tmp_path / "job.py"
    script.write_text("import os\nprint('home is', os.environ['HOME'], flush=True)\n")
    bare = {name: value for name, value in os.environ.items() if name != "HOME"}

    run = subprocess.run(
        [sys.executable, "-m", "hpcstream", command, "-n", "2", script],
        env=bare,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert run.returncode == status, run.stderr
    assert run.stdout.count(f"home is {pwd.getpwuid(os.getuid()).pw_dir}\n") == 2


def test_an_error_of_the_command_takes_the_folder_away_too(
    no_home, unknown_user, tmp_path, monkeypatch
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert main(["run", "-n", "2", "no-such-script.py"]) == 2
    assert list(tmp_path.iterdir()) == []
