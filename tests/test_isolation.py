"""Plugins' work is done in one thread, until a task hangs in it."""

from __future__ import annotations

import threading

import pytest

from iirl_engine.isolation import Isolation, LoadError, Raised


def never() -> str:
    raise AssertionError("nothing is slow")


def test_one_thread_does_all_tasks() -> None:
    with Isolation(60.0) as isolation:
        threads = {isolation(threading.get_ident, never) for _ in range(10)}
    assert len(threads) == 1
    assert threads != {threading.get_ident()}


def test_the_thread_ends_with_the_last_task() -> None:
    with Isolation(60.0) as isolation:
        thread = isolation(threading.current_thread, never)
    assert isinstance(thread, threading.Thread)
    thread.join(60.0)
    assert not thread.is_alive()


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_a_task_raises_is_returned_and_the_next_is_done(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with Isolation(60.0) as isolation:
        raised = isolation(fail, never)
        assert isinstance(raised, Raised)
        assert raised.error is error
        assert isolation(lambda: "done", never) == "done"


def test_a_task_that_hangs_is_left_behind() -> None:
    go_on = threading.Event()
    hung: list[threading.Thread] = []

    def hang() -> str:
        hung.append(threading.current_thread())
        go_on.wait()
        return "late"

    with Isolation(0.5) as isolation:
        with pytest.raises(LoadError, match=r"^it hung within 0\.5 s \(IIRL_IMPORT_LIMIT\)$"):
            isolation(hang, lambda: "it hung")
        assert isolation(lambda: "next", never) == "next"
        go_on.set()
        hung[0].join(60.0)
        assert not hung[0].is_alive()
        assert isolation(lambda: "last", never) == "last"


def test_what_a_task_prints_is_no_result(capsys: pytest.CaptureFixture[str]) -> None:
    with Isolation(60.0) as isolation:
        isolation(lambda: print("loud"), never)
        print("result")
    assert capsys.readouterr() == ("result\n", "loud\n")
