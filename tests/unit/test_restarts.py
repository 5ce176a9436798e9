"""When a job is started again, and when it is given up."""

from __future__ import annotations

import signal

import pytest

from hpcstream.checkpoint.storage.directory import CheckpointStore
from hpcstream.checkpoint.storage.manifest import Manifest
from hpcstream.launch.restarts import Policy, run_to_the_end
from hpcstream.launch.supervise import Ended


@pytest.fixture
def store(tmp_path):
    return CheckpointStore(str(tmp_path))


class Script:
    """Stands for a job: each start takes the next step of a story."""

    def __init__(self, store, *story):
        self.store = store
        self.story = list(story)
        self.ranks: list[int] = []
        self.waits: list[float] = []

    def start(self, ranks):
        self.ranks.append(ranks)
        attempt = self.store.new_attempt(fresh=False)
        status, progress, *asked = self.story.pop(0)
        if progress:
            number = self.store.next_number()
            manifest = Manifest(
                number=number, attempt=attempt, round=number, size=ranks, job="j", fingerprint="",
                finished=progress == "finished",
            )  # fmt: skip
            kind = "savepoint" if progress == "savepoint" else "ckpt"
            self.store.complete(self.store.begin(number, kind), manifest)
        return Ended(status, asked=bool(asked))

    def run(self, *, restarts=5, shrink=False, ranks=4):
        policy = Policy(restarts, shrink)
        return run_to_the_end(
            self.start, self.store.directory, ranks, policy, sleep=self.waits.append
        )


def test_a_job_that_dies_and_then_finishes_is_a_success(store, capsys):
    script = Script(store, (137, "some"), (137, "some"), (0, "finished"))
    assert script.run() == 0
    assert script.ranks == [4, 4, 4]
    assert "finished after 2 restarts" in capsys.readouterr().err


def test_a_directory_that_only_the_script_knows_is_found_once_it_is_told(store, capsys):
    script, told = Script(store, (137, "some"), (137, "some"), (0, "finished")), [None]

    def start(ranks):
        told[0] = store.directory
        return script.start(ranks)

    assert run_to_the_end(start, lambda: told[0], 2, Policy(5), sleep=script.waits.append) == 0
    assert "restart 1 of 5 on 2 ranks from checkpoint 1" in capsys.readouterr().err


def test_a_job_without_checkpoints_is_over_when_it_says_so():
    ended = [Ended(137), Ended(0)]
    waits = []

    status = run_to_the_end(
        lambda ranks: ended.pop(0), lambda: None, 2, Policy(5), sleep=waits.append
    )
    assert status == 0
    assert len(waits) == 1


def test_a_launcher_that_says_0_after_a_lost_host_is_not_believed(store):
    script = Script(store, (0, "some"), (0, "finished"))
    assert script.run() == 0
    assert len(script.ranks) == 2


def test_a_job_that_dies_at_the_same_place_again_and_again_is_given_up(store, capsys):
    script = Script(store, (137, "some"), (137, None), (137, None), (137, None))
    assert script.run() == 137
    assert len(script.ranks) == 3
    assert "died 3 times without a new checkpoint after checkpoint 1" in capsys.readouterr().err
    assert script.waits == [0.5, 1.0]


def test_an_error_that_comes_again_at_the_same_place_needs_no_third_time(store, capsys):
    script = Script(store, (1, "some"), (1, "some"), (1, None), (1, None))
    assert script.run() == 1
    assert len(script.ranks) == 3
    said = capsys.readouterr().err
    assert "the job failed again without a new checkpoint after checkpoint 2" in said


def test_restarts_are_counted(store, capsys):
    assert Script(store, *[(137, "some")] * 9).run(restarts=2) == 137
    assert "2 restarts were allowed" in capsys.readouterr().err


def test_a_job_that_was_asked_to_stop_is_not_started_again(store):
    assert Script(store, (75, "some")).run() == 75
    assert Script(store, (130, "some")).run() == 130


def test_a_job_that_was_warned_before_it_began_is_to_be_tried_again_but_not_here(store):
    assert Script(store, (128 + signal.SIGUSR2, None)).run() == 75


@pytest.mark.parametrize("status", [0, 1, 137, 250])
def test_a_job_that_the_limit_ends_goes_on_from_its_newest_checkpoint_but_not_here(store, status):
    script = Script(store, (status, "some", "asked"))
    assert script.run() == 75
    assert len(script.ranks) == 1


def test_an_error_at_the_limit_is_one_if_the_job_had_not_moved_on(store):
    assert Script(store, (1, None, "asked")).run() == 1
    assert Script(store, (0, "finished", "asked")).run() == 0


def test_shrinking_takes_a_rank_less_each_time_but_leaves_one(store):
    script = Script(store, *[(137, "some")] * 3, (0, "finished"))
    assert script.run(shrink=True, ranks=2) == 0
    assert script.ranks == [2, 1, 1, 1]


def test_an_error_after_the_job_has_finished_is_passed_on(store):
    assert Script(store, (3, "finished")).run() == 3
