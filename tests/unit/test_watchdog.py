"""When a pulse counts as hanging."""

from __future__ import annotations

from mlpq_workers.worker.watchdog import CHECK_SECONDS, Pulse, Watchdog


def test_pulse_without_ticks_for_a_minute_hangs() -> None:
    ticking, stuck = Pulse("ticking"), Pulse("stuck")
    watchdog = Watchdog([ticking, stuck])
    assert 12 * CHECK_SECONDS == 60
    for _ in range(12):
        ticking.tick()
        assert watchdog.check() is None
    assert watchdog.check() is stuck


def test_one_tick_restarts_the_count() -> None:
    pulse = Pulse("slow")
    watchdog = Watchdog([pulse])
    for check in range(120):
        if check % 12 == 0:
            pulse.tick()
        assert watchdog.check() is None


def test_paused_pulse_does_not_hang() -> None:
    pulse = Pulse("paused")
    watchdog = Watchdog([pulse])
    pulse.paused = True
    assert all(watchdog.check() is None for _ in range(120))
    pulse.paused = False
    assert [watchdog.check() for _ in range(12)] == [*[None] * 11, pulse]
