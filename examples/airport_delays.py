"""Which airports were worst in January 2001? Daily delays per airport, from real departures.

Run it with one process, on two ranks, or in a batch job; the rows are the same::

    python examples/airport_delays.py
    hpcstream run -n 2 examples/airport_delays.py
    srun python examples/airport_delays.py

Writes out/airport-delays/*.parquet and, if matplotlib is there, a plot beside it.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

import hpcstream as hs
from hpcstream import col

HERE = Path(__file__).parent
OUT = Path("out/airport-delays")

job = hs.Job("airport-delays")
flights = job.read_parquet(HERE / "data/flights-2001-01.parquet", event_time="date")
daily = (
    flights.filter(col("delay") > -120)
    .key_by("origin")
    .window(hs.tumbling("1d"))
    .agg(
        flights=hs.count(),
        mean_delay=col("delay").mean(),
        worst=col("delay").max(),
        late=hs.when(col("delay") > 15).then(1).otherwise(0).sum(),
    )
)
daily.write_parquet(OUT)
collected = daily.collect()


def worst_airports(table: pa.Table, least_flights: int = 1000, n: int = 10) -> pa.Table:
    """Return the airports with the largest mean delay of the month."""
    weighted = table.append_column("delay", pc.multiply(table["mean_delay"], table["flights"]))
    month = weighted.group_by("origin").aggregate(
        [("flights", "sum"), ("delay", "sum"), ("worst", "max"), ("late", "sum")]
    )
    month = month.filter(pc.greater_equal(month["flights_sum"], least_flights))
    mean = pc.divide(month["delay_sum"], month["flights_sum"])
    return month.append_column("mean", mean).sort_by([("mean", "descending")]).slice(0, n)


def print_table(worst: pa.Table) -> None:
    """Print the ranking."""
    print("\nJanuary 2001: airports with at least 1,000 departures, by mean delay")
    print(f"{'airport':<8} {'departures':>10} {'mean delay':>11} {'over 15 min':>12} {'worst':>10}")
    for row in worst.to_pylist():
        share = row["late_sum"] / row["flights_sum"]
        print(
            f"{row['origin']:<8} {row['flights_sum']:>10,} {row['mean']:>7.1f} min {share:>12.1%} "
            f"{row['worst_max']:>6} min"
        )


def plot(table: pa.Table, airports: list[str]) -> Path | None:
    """Draw the daily mean delay of some airports; None without matplotlib."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    for airport in airports:
        days = table.filter(pc.equal(table["origin"], airport)).sort_by("window_start")
        axes.plot(days["window_start"].to_numpy(), days["mean_delay"].to_numpy(), label=airport)
    axes.set_title("Daily mean departure delay, January 2001 (US BTS)")
    axes.set_ylabel("minutes")
    axes.legend(ncols=len(airports), frameon=False)
    figure.autofmt_xdate()
    path = OUT / "airport-delays.png"
    figure.savefig(path, dpi=120)
    return path


if __name__ == "__main__":
    result = job.run()
    if result.is_root:
        worst = worst_airports(collected.table)
        print_table(worst)
        path = plot(collected.table, worst["origin"].to_pylist()[:5])
        print(f"\ndaily rows: {OUT}/*.parquet")
        print(f"plot: {path.resolve()}" if path else "plot: install matplotlib to draw one")
