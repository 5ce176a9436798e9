import gc

import pyarrow as pa
import pytest

import hpcstream as hs


def counting_job(seen, fails=False):
    def look(batch):
        seen.append(gc.get_freeze_count())
        if fails:
            raise ValueError("as it is asked to")
        return batch

    job = hs.Job("look")
    batch = pa.record_batch({"n": pa.array([1, 2])})
    job.from_batches([batch]).map_batches(look, batch.schema).collect()
    return job


def test_what_was_there_before_a_job_is_no_garbage_to_look_through():
    seen = []

    counting_job(seen).run(progress=False)

    assert seen[0] > 1000
    assert gc.get_freeze_count() == 0


def test_the_search_for_garbage_is_whole_again_when_a_job_fails():
    with pytest.raises(ValueError, match="as it is asked to"):
        counting_job([], fails=True).run(progress=False)

    assert gc.get_freeze_count() == 0


def test_what_somebody_else_froze_stays_frozen():
    gc.freeze()
    try:
        counting_job([]).run(progress=False)
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
