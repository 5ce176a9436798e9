"""What every report says of itself: the rules it was measured by, and what is unfair."""

from __future__ import annotations

RULES = """\
- Rows that are made up come from a seed and the number of the row or event, never from time: the
  same on any machine and any number of ranks. Hashes of inputs and results are published.
- Answers are checked before they count. Core workloads: rows, sum of counts, a hash of keys,
  windows and counts, sums to 1e-9, against the one-pass loop. Queries of the suites: rows, a hash
  of all values that are not floats, sums to 1e-9, against DuckDB over the same rows; the timed runs
  must return as many rows. A wrong answer is named in the table and makes the exit status 1.
- Windows fired, rows out and late rows stand beside the figures of the suites; result rows of the
  core workloads are in the table of inputs and answers. A paced run must count every row.
- The driver is apart. Core workloads read a file that lies in memory. NEXMark, ShuffleBench and
  SProBench make their rows while the query runs, so that its cost is inside the figure, unless they
  are told otherwise (`python -m benchmarks.nexmark --driver` measures it alone, `--input ipc` reads
  files). The ranks make paced rows themselves, a block ahead, inside the run.
- A paced load is open: rows are due whatever the engine does. The sustained rate is the highest
  without growing lag; its section says how that is judged.
- Input is columnar (Arrow). Text as input is reported apart: `ysb-json`, whose rows are lines of
  JSON parsed in the timed part by every system but the one-pass loop, and the lines of SProBench.
- Start-up, import and compilation are outside the timed part, and are shown for all.
- Systems take turns on the same cores, repetition by repetition."""

UNFAIR = """\
Against hpcstream:

- DuckDB and Polars answer the query over the whole file at once: no event time, no watermarks,
  no late rows, no rows handed out before the end. That is less work than hpcstream does.
- Flink gets only the columns that a query reads, as Arrow batches in its memory, before the clock
  starts, and takes no checkpoints.
- The peers use threads that share memory; hpcstream's ranks are processes, which share nothing but
  the messages that they have for one another.
- DuckDB and Polars scan the mapped file as it lies; hpcstream also adds a shift to the event
  time of each replay, so that it reads one endless stream.
- hpcstream's results go through a sink in the timed part; those of DuckDB and Polars stay where
  they are.
- The one-pass loop knows the keys as dense numbers before the clock starts, does not hash, parses
  nothing, and runs on one core.

For hpcstream:

- Bytewax runs with one worker. Event by event it gets a file of 50,000 rows, as Python values
  made before its clock starts, filtered and joined already. With batches, its Polars has all cores,
  and it makes windows at the end of the file.
- Spark runs in one process on local cores, on files of three million rows at most, for it takes
  half a minute for ten; it reads uncompressed Parquet files, which cost more than Arrow files in
  memory, and pays the start of a streaming query in each pass. Longer files would do it more
  justice.
- Flink runs in one process with a slot for each core, on files of two million rows at most: its
  source keeps the rows in the description of the job, which it copies several times. Each pass is a
  job of its own, whose start, planning and generated code are in the timed part, a second or two,
  and so are its results, written as CSV. It takes rows one by one out of Arrow batches. Its SQL has
  no join to a small table that is copied: `ysb` joins by event time, which holds rows back until
  the watermark has passed them. Longer files would do it more justice.
- hpcstream's kernels are compiled for these aggregates, and the timed run is never its first; a
  job that runs once pays the compilation that the tables show apart.
- NEXMark's events of kinds that a query does not read are not made, which flatters it by up to an
  eighth; texts of few values are dictionaries.
- DuckDB answers the queries of the suites once, not repeatedly, with its tables in memory."""
