from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from ktdn_plugin.data.decoding import Source, in_order
from ktdn_plugin.data.interrupts import defer_interrupts


def test_it_is_raised_where_it_is_asked_for_and_nowhere_else() -> None:
    before = signal.getsignal(signal.SIGINT)
    with defer_interrupts() as check:
        check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            check()
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_does_not_touch_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    found = []

    def work() -> None:
        with defer_interrupts() as check:
            check()
            found.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [before]


def test_work_in_order_ends_between_two_images() -> None:
    before = signal.getsignal(signal.SIGINT)
    sources = [Source("clear", n, Path("x"), "x", 1, 1, (1, 1), None) for n in range(100)]
    done = []

    def consume() -> None:
        for source, _ in in_order(lambda source: source.number, sources, workers=2):
            if source.number == 3:
                signal.raise_signal(signal.SIGINT)  # as if it came while this writes
            done.append(source.number)

    with pytest.raises(KeyboardInterrupt):
        consume()
    assert done == [0, 1, 2, 3]
    assert signal.getsignal(signal.SIGINT) is before
