"""When a worker counts as hung."""

from __future__ import annotations

from mlpq_workers.worker.watchdog import LOOKS, Pulse, Watchdog


def test_what_does_not_go_on_for_a_minute_hangs() -> None:
    lively, stuck = Pulse("lively"), Pulse("stuck")
    watchdog = Watchdog([lively, stuck])
    for _ in range(LOOKS):
        lively.tick()
        assert watchdog.look() is None
    assert watchdog.look() is stuck


def test_one_tick_is_a_sign_of_life() -> None:
    pulse = Pulse("slow")
    watchdog = Watchdog([pulse])
    for look in range(10 * LOOKS):
        if look % LOOKS == 0:
            pulse.tick()
        assert watchdog.look() is None


def test_of_what_rests_nothing_is_expected() -> None:
    pulse = Pulse("resting")
    watchdog = Watchdog([pulse])
    pulse.rests = True
    assert all(watchdog.look() is None for _ in range(10 * LOOKS))
    pulse.rests = False
    assert [watchdog.look() for _ in range(LOOKS)] == [*[None] * (LOOKS - 1), pulse]
