"""Mean and worst delay of each airport and day: the script that the README begins with.

Run it where ``examples/data`` is::

    python examples/delays.py
    hpcstream run -n 2 examples/delays.py
"""

import hpcstream as hs
from hpcstream import col

job = hs.Job("airport-delays")
flights = job.read_parquet("examples/data/*.parquet", event_time="date", watermark_delay="1h")
delays = (
    flights.filter(col("delay") > -120)
    .key_by("origin")
    .window(hs.tumbling("1d"))
    .agg(flights=hs.count(), mean_delay=col("delay").mean(), worst=col("delay").max())
)
delays.write_parquet("out/delays")

if __name__ == "__main__":
    job.run()
