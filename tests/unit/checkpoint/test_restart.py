"""A job that is killed anywhere and started again gives what an unfailed run gives."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

from hpcstream.testing import assert_same_rows

sys.path.insert(0, str(Path(__file__).parent))
from restart import JOBS, restarted, unfailed, visible


@pytest.mark.parametrize("build", JOBS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("n_ranks", [1, 3])
def test_a_killed_job_gives_the_same_bits_on_as_many_ranks(build, n_ranks, tmp_path, capsys):
    expected, turns = unfailed(build, tmp_path, n_ranks)

    kills = restarted(build, tmp_path, lambda: n_ranks, seed=n_ranks, turns=turns // n_ranks)

    assert kills > 0
    assert "going on from" in capsys.readouterr().err
    assert visible(tmp_path / "out").equals(expected)


@pytest.mark.parametrize("build", JOBS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_killed_job_gives_the_same_rows_on_any_number_of_ranks(build, seed, tmp_path, capsys):
    expected, turns = unfailed(build, tmp_path, 2)
    chance = random.Random(seed)

    kills = restarted(build, tmp_path, lambda: chance.randint(1, 4), seed=seed, turns=turns // 2)

    assert kills > 0
    said = capsys.readouterr().err
    assert "going on from" in said or "is finished already" in said
    assert_same_rows(visible(tmp_path / "out"), expected, rtol=1e-12)
