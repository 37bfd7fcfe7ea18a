import asyncio
import time

import pytest

from prefect_replicate.emulator.clock import Clock


def test_a_stopped_clock_moves_by_advance_alone() -> None:
    clock = Clock(speed=0)
    start = clock.now()
    time.sleep(0.01)

    assert clock.now() == start
    assert clock.advance(3600) == start + 3600


def test_a_fast_clock_passes_a_minute_in_little_time() -> None:
    clock = Clock(speed=6000)
    start = clock.now()
    time.sleep(0.02)

    assert clock.now() - start > 60


def test_a_change_of_speed_does_not_jump() -> None:
    clock = Clock(speed=0)
    before = clock.now()
    clock.speed = 1

    assert 0 <= clock.now() - before < 1


async def test_sleepers_wake_when_the_clock_is_moved() -> None:
    clock = Clock(speed=0)
    moment = clock.now() + 3600
    sleeper = asyncio.create_task(clock.sleep_until(lambda: moment))
    await asyncio.sleep(0.01)
    assert not sleeper.done()

    await asyncio.to_thread(clock.advance, 3600)

    await asyncio.wait_for(sleeper, 1)


async def test_sleepers_wake_after_their_real_limit() -> None:
    clock = Clock(speed=0)
    start = time.monotonic()

    await clock.sleep_until(lambda: clock.now() + 1, real_limit=0.02)

    assert 0.02 <= time.monotonic() - start < 1


def test_time_does_not_go_back() -> None:
    with pytest.raises(ValueError, match="cannot go back"):
        Clock().advance(-1)


@pytest.mark.parametrize("speed", [-1, float("inf"), float("nan")])
def test_a_speed_that_makes_no_sense_is_refused(speed: float) -> None:
    with pytest.raises(ValueError, match="speed must be zero"):
        Clock(speed)
