"""Work that a thread does ahead of its user."""

import threading

import pytest

from avsc_core.processes import look_ahead


def test_the_next_item_is_computed_while_one_is_used():
    computed = []
    both = threading.Event()

    def square(number: int) -> int:
        computed.append(number)
        if number == 1:
            both.set()
        return number * number

    results = look_ahead(square, range(4))
    assert next(results) == 0
    assert both.wait(10)  # number 1 without having been asked for
    assert computed == [0, 1]  # and nothing beyond it: a batch is large
    assert list(results) == [1, 4, 9]
    assert list(look_ahead(square, [])) == []


def test_what_goes_wrong_ahead_is_raised_where_it_is_used():
    results = look_ahead(lambda number: 1 // number, [1, 0, 1])
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_a_reader_that_stops_early_leaves_no_thread():
    before = threading.active_count()
    results = look_ahead(abs, range(100))
    next(results)
    results.close()
    assert threading.active_count() == before
