"""Days, weeks and months of time zones: against DuckDB, Polars and the clocks of `zoneinfo`."""

import datetime as dt
import functools
import itertools
import zoneinfo

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hpcstream as hs
from hpcstream import col
from hpcstream.columns.event_time import MAX_TIME, MIN_TIME
from hpcstream.operators.windows.assigners.calendar import CalendarGrid
from hpcstream.operators.windows.assigners.periods import CalendarWindows, Period
from hpcstream.testing import run_ranks
from tests.unit.windows.instances import Instances, spec_of

ZONES = [
    "America/New_York",
    "Europe/Berlin",
    "America/Havana",  # midnight comes twice, once a year
    "America/Santiago",  # midnight does not exist, once a year
    "Australia/Lord_Howe",  # half an hour of summer time
    "Asia/Kathmandu",
    "Pacific/Apia",  # 2011-12-30 does not exist
    "Africa/Casablanca",
    "UTC",
]
PER_SECOND = 1_000_000
UTC = dt.UTC
EPOCH = dt.datetime(1970, 1, 1, tzinfo=UTC)


def ticks(moment):
    return (moment - EPOCH) // dt.timedelta(microseconds=1)


def windows(size, slide=None, zone="UTC", offset=dt.timedelta(0), **options):
    size, slide = Period.parse(size), Period.parse(slide or size)
    return CalendarWindows(size, slide, offset, zone, PER_SECOND, **options)


@functools.cache
def instants(zone, seed, n=5_000):
    """Return moments of 2000 to 2030, half of them close to changes of the clocks."""
    random = np.random.default_rng(seed)
    low, high = (ticks(dt.datetime(year, 1, 1, tzinfo=UTC)) for year in (2000, 2030))
    anywhere = random.integers(low, high, n // 2)
    day = 86_400 * PER_SECOND
    offsets = [offset(zone, time) for time in range(low, high, day)]
    starts = np.array([low + n * day for n in changes(offsets)] or [low])
    close = random.choice(starts, n // 2) + random.integers(-day, 3 * day, n // 2)
    return np.concatenate([anywhere, close, starts])


def changes(values):
    return [n for n, (one, following) in enumerate(itertools.pairwise(values)) if one != following]


def offset(zone, time):
    moment = EPOCH + dt.timedelta(microseconds=int(time))
    return moment.astimezone(zoneinfo.ZoneInfo(zone)).utcoffset()


def starts(assigner, times):
    slicing = assigner.slicing()
    numbers = slicing.grid.numbers_of(times)
    return slicing.grid.starts_of(numbers)


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "Africa/Casablanca"])
@pytest.mark.parametrize(
    ("size", "unit"),
    [("1d", "day"), ("1w", "week"), ("1mo", "month"), ("3mo", "quarter"), ("1y", "year")],
)
def test_periods_begin_where_duckdb_says(zone, size, unit):
    times = instants(zone, 1)
    connection = duckdb.connect()
    connection.execute(f"SET TimeZone = '{zone}'")
    connection.register("rows", pa.table({"t": pa.array(times, pa.timestamp("us", "UTC"))}))
    found = connection.sql(f"SELECT epoch_us(date_trunc('{unit}', t)) AS s FROM rows").fetchnumpy()

    assert_equal_but_at_odd_midnights(
        zone, times, starts(windows(size, zone=zone), times), found["s"]
    )


@pytest.mark.parametrize("zone", [zone for zone in ZONES if zone != "Pacific/Apia"])
@pytest.mark.parametrize("size", ["1d", "1w", "1mo", "6mo", "1y"])
def test_periods_begin_where_polars_says(zone, size):
    times = instants(zone, 2)
    moments = pl.Series(times).cast(pl.Datetime("us", "UTC")).dt.convert_time_zone(zone)
    local = moments.dt.replace_time_zone(None).dt.truncate(size)
    begin = local.dt.replace_time_zone(zone, ambiguous="earliest", non_existent="null")

    found = starts(windows(size, zone=zone), times)

    known = begin.is_not_null().to_numpy()
    assert known.mean() > 0.9
    assert found[known].tolist() == begin.drop_nulls().dt.epoch("us").to_list()


def assert_equal_but_at_odd_midnights(zone, times, found, expected):
    """Where midnight does not exist, or twice, DuckDB names a time that is not the day's first."""
    differ = np.flatnonzero(found != expected)
    zone = zoneinfo.ZoneInfo(zone)
    for row in differ.tolist():
        before, first, now = (
            (EPOCH + dt.timedelta(microseconds=int(t))).astimezone(zone).date()
            for t in (found[row] - 1, found[row], times[row])
        )
        assert before < first <= now
        assert not has_one_midnight(zone, first)
    assert len(differ) < 0.2 * len(times)


def has_one_midnight(zone, day):
    midnight = dt.datetime.combine(day, dt.time(), zone)
    exists = midnight.astimezone(UTC).astimezone(zone).time() == dt.time()
    return exists and midnight.utcoffset() == midnight.replace(fold=1).utcoffset()


@settings(max_examples=300)
@given(
    zone=st.sampled_from(ZONES),
    time=st.datetimes(dt.datetime(1950, 1, 1), dt.datetime(2090, 1, 1)),
    hour=st.integers(-23, 23),
    unit=st.sampled_from([("1d", 1), ("3d", 3)]),
)
def test_a_day_holds_the_moments_whose_clocks_say_so(zone, time, hour, unit):
    size, n_days = unit
    moment = ticks(time.replace(tzinfo=UTC))
    grid = windows(size, zone=zone, offset=dt.timedelta(hours=hour)).grid

    number = grid.number_at(moment)

    assert grid.numbers_of(np.array([moment])).tolist() == [number]
    assert grid.start_of(number) <= moment < grid.start_of(number + 1)
    clock = zoneinfo.ZoneInfo(zone)
    start = (EPOCH + dt.timedelta(microseconds=grid.start_of(number))).astimezone(clock)
    planned = dt.datetime(1970, 1, 1, tzinfo=clock) + dt.timedelta(days=n_days * number, hours=hour)
    assert start.replace(tzinfo=None) - planned.replace(tzinfo=None) in (
        dt.timedelta(0), dt.timedelta(minutes=30), dt.timedelta(hours=1), dt.timedelta(days=1),
        dt.timedelta(days=1) - dt.timedelta(hours=hour % 24),
    )  # fmt: skip


def test_a_day_without_midnight_begins_with_its_first_instant():
    grid = windows("1d", zone="America/Santiago").grid
    spring = dt.datetime(2023, 9, 3, 4, 0, tzinfo=UTC)  # 00:00 would be: clocks show 01:00
    number = grid.number_at(ticks(spring))
    assert grid.start_of(number) == ticks(spring)
    assert grid.start_of(number + 1) - grid.start_of(number) == 23 * 3600 * PER_SECOND


def test_a_start_within_a_gap_is_the_first_instant_after_it():
    half_past = dt.timedelta(hours=2, minutes=30)
    grid = windows("1d", zone="Europe/Berlin", offset=half_past).grid
    gap = dt.datetime(2024, 3, 31, 1, 0, tzinfo=UTC)  # from 02:00 to 03:00
    number = grid.number_at(ticks(gap))
    assert grid.start_of(number) == ticks(gap)
    assert grid.number_at(ticks(gap) - 1) == number - 1


def test_weeks_begin_on_monday_and_an_offset_goes_by_the_clocks():
    grid = windows("1w", zone="Europe/Berlin", offset=dt.timedelta(hours=6)).grid
    berlin = zoneinfo.ZoneInfo("Europe/Berlin")
    for week in range(2700, 2900):
        moment = (EPOCH + dt.timedelta(microseconds=grid.start_of(week))).astimezone(berlin)
        assert (moment.weekday(), moment.hour, moment.minute) == (0, 6, 0)


@pytest.mark.parametrize("watermark", [MIN_TIME, MIN_TIME + 1, -(2**61), 2**61, MAX_TIME])
@pytest.mark.parametrize("size", ["1d", "1mo", "100y"])
def test_there_is_a_slice_before_and_after_all(watermark, size):
    assigner = windows(size, zone="Europe/Berlin")
    slicing = assigner.slicing()
    number = slicing.first_unfinished_slice(watermark)
    now = slicing.grid.number_at(ticks(dt.datetime(2024, 1, 1, tzinfo=UTC)))
    assert (number > now) == (watermark > 0)
    assert number not in (now, now + 1)
    slicing.next_window(watermark), slicing.first_open_slice(watermark)


def test_times_of_all_centuries_at_once_are_found():
    grid = windows("1d", zone="Europe/Berlin").grid
    years = [2, 1066, 1492, 1970, 2024, 2500, 9898]
    times = np.array([ticks(dt.datetime(year, 6, 1, 12, tzinfo=UTC)) for year in years])
    assert grid.numbers_of(times).tolist() == [grid.number_at(int(time)) for time in times]


@pytest.mark.parametrize("time", [2**62, -(2**62)])
def test_times_without_a_calendar_are_refused(time):
    grid = windows("1d").grid
    with pytest.raises(ValueError, match="where there is no calendar: is the unit"):
        grid.store_times(np.array([time]))


@pytest.mark.parametrize(
    ("size", "step"), [("1mo", "1d"), ("1y", "1d"), ("3mo", "1mo"), ("2w", "1d"), ("1y", "3mo")]
)
def test_cumulating_periods_begin_where_tumbling_ones_do(size, step):
    zone = "Europe/Berlin"
    times = instants(zone, 3, 400)
    slicing = windows(size, step, zone, cumulates=True).slicing()
    whole = starts(windows(size, zone=zone), times)
    for time, start in zip(times.tolist(), whole.tolist(), strict=True):
        number = slicing.grid.number_at(time)
        of_slice = slicing.layout.windows_of(number)
        firsts, stops = slicing.bounds(np.array(list(of_slice)))
        assert set(firsts.tolist()) == {start}
        assert (stops > time).all()
        assert [number in slicing.layout.slices_of(window) for window in of_slice]
        assert slicing.layout.slices_of(of_slice[-1] + 1).start > number
        ranges = slicing.layout.ranges_of(np.array([of_slice[0]]))
        assert slicing.layout.slices_of(of_slice[0]) == range(int(ranges[0][0]), int(ranges[1][0]))


ROWS = pa.table(
    {
        "t": pa.array(np.sort(instants("Europe/Berlin", 4, 4000)), pa.timestamp("us")),
        "key": pa.array(np.arange(4000 + len(instants("Europe/Berlin", 4, 0))) % 7),
    }
).slice(0, 4000)


@pytest.mark.parametrize("ranks", [1, 2, 3])
@pytest.mark.parametrize(("size", "unit"), [("1d", "day"), ("1mo", "month")])
def test_jobs_give_the_rows_of_sql(ranks, size, unit):
    def build():
        job = hs.Job("calendar")
        rows = job.from_batches(ROWS.to_batches(max_chunksize=300), event_time="t")
        windowed = rows.key_by("key").window(hs.tumbling(size, tz="Europe/Berlin"))
        return job, windowed.agg(n=hs.count()).collect()

    found = run_ranks(ranks, build, batch_rows=250).table

    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'Europe/Berlin'")
    connection.register("rows", ROWS.set_column(0, "t", ROWS["t"].cast(pa.timestamp("us", "UTC"))))
    query = f"""SELECT key, date_trunc('{unit}', t) AS s, s + INTERVAL 1 {unit} AS e, count(*) AS n
        FROM rows GROUP BY ALL ORDER BY ALL"""
    expected = connection.sql(f"SELECT key, epoch_us(s), epoch_us(e), n FROM ({query})").fetchall()
    columns = [found[name].cast("int64").to_pylist() for name in found.column_names]
    assert sorted(zip(*columns, strict=True)) == sorted(expected)


@settings(max_examples=40)
@given(
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40)), min_size=1, max_size=6),
        max_size=8,
    ),
    assigner=st.sampled_from(
        [
            windows("1d", zone="Europe/Berlin"),
            windows("3d", "1d", zone="America/New_York"),
            windows("1mo", "1d", zone="Europe/Berlin", cumulates=True, only_changed=True),
        ]
    ),
    sizes=st.lists(st.integers(1, 3), min_size=9, max_size=9),
)
def test_restarts_on_other_numbers_of_instances_change_nothing(batches, assigner, sizes):
    """Rows of March 2024, six hours apart at least; the watermark is a day behind the last row."""
    spec = spec_of(assigner, ("count_rows", "sum"))
    steady, moved = Instances(spec, 1), Instances(spec, sizes[0])
    march = ticks(dt.datetime(2024, 3, 1, tzinfo=UTC))
    hour = 3600 * PER_SECOND
    latest = march
    for rows, n_instances in zip(batches, sizes[1:], strict=False):
        found = [(key, march + step * 18 * hour, 0, step) for key, step in rows]
        latest = max(latest, *(time for _, time, _, _ in found))
        for instances in (steady, moved):
            instances.add(found)
        watermark = latest - 24 * hour
        assert moved.advance(watermark) == steady.advance(watermark)
        moved = moved.restarted(n_instances)
    assert moved.advance(MAX_TIME) == steady.advance(MAX_TIME)
    assert moved.late == steady.late


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hs.tumbling("1h", tz="UTC"), "windows in a time zone are made of whole days"),
        (lambda: hs.tumbling("0d", tz="UTC"), "'0d' is no number of days"),
        (lambda: hs.tumbling("1d", tz="Europe/Berln"), "no time zone of this name"),
        (lambda: hs.tumbling("1mo"), r"tumbling\(size='1mo'\): months and years are those"),
        (lambda: hs.sliding("1mo", "1d", tz="UTC"), "days and months do not go together"),
        (lambda: hs.sliding("1d", "2d", tz="UTC"), "slide 2d exceeds size 1d"),
        (lambda: hs.cumulate("1mo", "1w", tz="UTC"), "1mo is not a whole number of steps of 1w"),
        (lambda: hs.tumbling("1d", "24h", tz="UTC"), "the offset must be less than 1d"),
    ],
)
def test_windows_that_no_calendar_has_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_event_time_in_days_has_no_local_day():
    job = hs.Job("days")
    rows = job.from_batches(pa.table({"t": pa.array([1], pa.date32())}), event_time="t")
    with pytest.raises(hs.PlanError, match="event time in days has no time of day"):
        rows.window_all(hs.tumbling("1d", tz="Europe/Berlin"))


def test_ranks_with_other_data_of_time_zones_do_not_start(monkeypatch):
    def build():
        job = hs.Job("clocks")
        rows = job.from_batches(ROWS, event_time="t").key_by("key")
        windowed = rows.window(hs.tumbling("1d", tz="Europe/Berlin"))
        return job, windowed.agg(n=hs.count(), most=col("key").max()).collect()

    answers = iter(["old", *["new"] * 99])
    monkeypatch.setattr(CalendarGrid, "digest", lambda self: next(answers))
    with pytest.raises(hs.PlanError, match="environment"):
        run_ranks(2, build)
