import errno

import pytest

from hpcstream.memory.syscalls import Scheduling, SystemCalls
from hpcstream.process.scheduling import TURN_NS, long_turns


class Kernel:
    """Answers the two calls for one thread, as Linux does, or as an older one."""

    def __init__(self, turn_ns=1_400_000, policy=0, refuses=False):
        self.how = Scheduling(size=48, policy=policy, nice=3, runtime=turn_ns)
        self.refuses = refuses
        self.told = []

    def scheduling(self):
        return Scheduling.from_buffer_copy(self.how)

    def set_scheduling(self, how):
        if self.refuses:
            raise OSError(errno.EPERM, "no")
        self.told.append(how.runtime)
        self.how = how


def test_turns_are_long_inside_and_as_before_behind():
    kernel = Kernel()

    with long_turns(kernel):
        assert kernel.how.runtime == TURN_NS
        assert kernel.how.nice == 3

    assert kernel.told == [TURN_NS, 1_400_000]


def test_turns_are_put_back_after_a_failure():
    kernel = Kernel()

    with pytest.raises(KeyError), long_turns(kernel):
        raise KeyError

    assert kernel.how.runtime == 1_400_000


@pytest.mark.parametrize(
    "kernel",
    [Kernel(turn_ns=0), Kernel(policy=1), Kernel(refuses=True)],
    ids=["an older kernel", "a real-time thread", "not allowed"],
)
def test_whoever_cannot_have_them_is_left_alone(kernel):
    with long_turns(kernel):
        assert kernel.told == []
    assert kernel.told == []


def test_processors_without_known_calls_are_left_alone():
    with long_turns(SystemCalls(machine="pdp11")):
        pass


def test_the_real_kernel_takes_them_and_nothing_else_changes():
    calls = SystemCalls()
    try:
        before = calls.scheduling()
    except OSError as error:
        pytest.skip(f"not allowed here: {error}")
    if not before.runtime or before.policy:
        pytest.skip("this kernel keeps the length of turns to itself")

    with long_turns():
        inside = calls.scheduling()

    assert inside.runtime == TURN_NS
    assert (inside.nice, inside.policy) == (before.nice, before.policy)
    assert calls.scheduling().runtime == before.runtime
