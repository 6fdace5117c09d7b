"""Memories that have a limit forget what nobody needed for longest, and nothing else."""

from __future__ import annotations

from threading import Thread

from modelsmith.repository.bounded import Recent


def test_what_nobody_saw_or_asked_for_longest_is_forgotten_first():
    recent = Recent[int](3)
    for number in (1, 2, 3):
        recent.add(number)
    assert 1 in recent
    recent.add(2)
    recent.add(4)
    assert [number for number in (1, 2, 3, 4) if number in recent] == [1, 2, 4]


def test_several_threads_may_use_it_at_the_same_time():
    recent = Recent[int](10)
    wrong = []

    def use(start):
        for number in range(start, start + 2000):
            recent.add(number % 50)
            _ = (number * 7) % 50 in recent
        wrong.extend(number for number in (-1, 50) if number in recent)

    threads = [Thread(target=use, args=(start,)) for start in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong
    assert sum(number in recent for number in range(50)) == 10
