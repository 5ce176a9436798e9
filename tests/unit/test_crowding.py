"""How many ranks a host holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcstream.errors import LauncherError
from hpcstream.launch import crowding
from hpcstream.launch.crowding import free_memory, refuse_crowding, why_too_many

MIB = 1 << 20


@given(st.integers(1, 2000), st.integers(1, 128), st.integers(0, 1 << 40) | st.none())
def test_ranks_are_too_many_for_cores_or_for_memory(ranks, cores, free):
    fits = ranks <= 8 * cores and (free is None or ranks * 110 * MIB <= free)
    assert (why_too_many(ranks, cores, free) is None) is fits


def test_too_many_are_refused_by_name_unless_the_user_says_yes():
    with pytest.raises(LauncherError, match=r"-n 17: 17 ranks on 2 cores .* 8 a core.*oversubscr"):
        refuse_crowding(17, 2, None, lambda reason: False)
    refuse_crowding(17, 2, None, lambda reason: True)
    with pytest.raises(LauncherError, match=r"4 ranks need 440 MiB .* and 300 MiB are free"):
        refuse_crowding(4, 2, 300 * MIB, lambda reason: False)


def test_nobody_is_asked_without_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", None)
    assert not crowding.ask_at_terminal("too many")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("answer", "is_yes"), [("y\n", True), ("Yes\n", True), ("\n", False)])
def test_the_user_is_asked_at_a_terminal(answer, is_yes, monkeypatch, capsys):
    class Terminal:
        def isatty(self):
            return True

        def readline(self):
            return answer

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr(crowding.ERR, "isatty", lambda: True, raising=False)

    assert crowding.ask_at_terminal("too many") is is_yes
    assert "too many. Start them anyway? [y/N]" in capsys.readouterr().err


def test_free_memory_is_the_least_of_the_machine_s_and_of_all_control_groups(tmp_path):
    meminfo, own = tmp_path / "meminfo", tmp_path / "cgroup"
    meminfo.write_text("MemTotal: 9 kB\nMemAvailable:  4096000 kB\n")
    own.write_text("0::/slurm/job1\n")
    groups = tmp_path / "groups"
    inner = groups / "slurm" / "job1"
    inner.mkdir(parents=True)
    assert free_memory(meminfo, groups, own) == 4000 << 20

    (inner / "memory.max").write_text("max\n")
    (inner / "memory.current").write_text(f"{50 * MIB}\n")
    (groups / "slurm" / "memory.max").write_text(f"{900 * MIB}\n")
    (groups / "slurm" / "memory.current").write_text(f"{500 * MIB}\n")
    (groups / "slurm" / "memory.stat").write_text(f"anon 1\ninactive_file {100 * MIB}\n")
    assert free_memory(meminfo, groups, own) == 500 * MIB

    assert free_memory(tmp_path / "none", tmp_path / "none", tmp_path / "none") is None
