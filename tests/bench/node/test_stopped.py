"""For how long processes have been stopped, from looks at their states."""

from __future__ import annotations

from bench.node.stopped import STOP_LIMIT_S, StoppedProcesses


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_process_that_continues_was_stopped_for_a_while():
    clock = Clock()
    stopped = StoppedProcesses(clock)
    for titles, advance_s in (([], 1), (["rank 1"], 4), (["rank 1", "rank 2"], 3), (["rank 2"], 1), (["rank 2"], 1)):
        stopped.look(titles, ["rank 1", "rank 2"])
        clock.now_s += advance_s
    assert stopped.continued == {"rank 1": 7.0}
    assert not stopped.over_limit


def test_a_process_that_stays_stopped_is_over_the_limit():
    clock = Clock()
    stopped = StoppedProcesses(clock)
    stopped.look(["rank 1"], ["rank 1"])
    clock.now_s += STOP_LIMIT_S - 0.1
    stopped.look(["rank 1"], ["rank 1"])
    assert not stopped.over_limit
    clock.now_s += 0.2
    assert stopped.over_limit
    assert stopped.continued == {}


def test_a_stopped_process_that_was_killed_had_not_continued():
    clock = Clock()
    stopped = StoppedProcesses(clock)
    stopped.look(["rank 1"], ["rank 0", "rank 1"])
    clock.now_s += 3
    stopped.look([], ["rank 0", "rank 1"])  # it runs for a moment when it is killed
    stopped.look([], ["rank 0"])
    assert stopped.continued == {}
    assert stopped.ended == {"rank 1": 3.0}
