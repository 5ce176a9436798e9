"""Hints for names of pandas, Polars, Spark, Flink and SQL that hpcstream calls otherwise or lacks.

Each hint follows "has no attribute" in the error.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

_NO_JOIN = (
    "joins of two streams do not exist yet; join_table() enriches rows from a table that fits in "
    "memory"
)
_SESSIONS = "sessions are windows: .key_by(...).window(hs.session('30min'))"
_NO_PROCESS = (
    "process functions with state do not exist yet; map_batches() runs functions without, "
    ".key_by(...).window(...).agg(...) keeps state"
)
_NO_SQL = (
    "there is no SQL; use filter(), select(), key_by().window().agg() and join_table() instead"
)
_NO_CONNECTOR = (
    "there is no connector for it; pass your own to job.source() or stream.sink(), see the page "
    "'Write your own source and sink'"
)
_MAP = "use with_columns() or select() for expressions, map_batches() for functions of batches"
_NESTED = (
    "take fields of structs and items of lists in map_batches(), for example with "
    "pyarrow.compute.struct_field(batch['x'], 'field')"
)
_MAP_VALUES = "compute with expressions, or with map_batches() for functions of batches"
_AGGREGATE = "aggregates of a column are methods of it, as in col('amount').{name}()"
_ROWS = "rows exist after the run: rows = stream.collect(); job.run(); rows.table"
_LOOK = "stream.print() shows the first 20 rows as they arrive; limit= changes the number"
_SAY_WINDOW = "aggregates need windows: .key_by(...).window(...).agg(...)"
_IN_AGG = "name the aggregates in agg(), as in .agg(n=hs.count(), mean=col('x').mean())"
_BESIDE_ROWS = (
    "expressions see one row at a time; use hs.sliding() for rolling windows, map_batches() for "
    "functions of batches"
)
_BY_KEY = (
    "earlier rows are those of a key: .key_by('key').with_columns(y=col('x').{name}()); see "
    "shift(), diff(), cum_sum(), forward_fill(), ewm_mean(), changed()"
)
_DEDUPLICATE = "write .key_by(...).deduplicate(within='1h'); within=None hides repetitions for ever"
_NO_SORT = "a stream has no end, so it cannot be sorted; sort the table of collect()"
_NO_POSITIONS = f"rows of a stream have no positions; {_ROWS}"
_NO_LENGTH = (
    "the number of rows is known after the run: rows = stream.collect(); job.run(); rows.table"
)
_READ_OF_JOB = "sources belong to a job: job = hs.Job('name'); job.{name}(...)"
_FROM_MEMORY = "job.from_batches() takes tables, data frames and batches"


def _all(text: str, *names: str) -> dict[str, str]:
    return {name: text.format(name=name) for name in names}


def _called(**names: str) -> dict[str, str]:
    return {name: f"it is called {there}" for name, there in names.items()}


_CONNECTORS = _all(
    _NO_CONNECTOR,
    *("read_kafka", "from_kafka", "kafka", "read_mqtt", "read_zmq", "read_socket"),
    *("read_excel", "read_pickle", "read_avro", "read_orc", "read_xml", "read_html", "to_excel"),
    *("read_sql", "read_database", "read_s3", "read_delta", "read_iceberg", "read_zarr"),
    *("write_kafka", "to_kafka", "write_sql", "write_delta", "write_iceberg", "write_zarr"),
)

_AGGREGATES = ("sum", "mean", "min", "max", "std", "var", "median", "quantile", "first", "last")

_INSTEAD: dict[str, Mapping[str, str]] = {
    "Stream": {
        **_all(_NO_JOIN, "join", "window_join", "interval_join", "join_asof", "merge", "connect"),
        **_all(_NO_PROCESS, "process", "reduce", "fold", "scan", "stateful_map", "with_state"),
        **_all(_MAP, "map", "apply", "transform", "assign", "eval", "pipe", "mapPartitions"),
        **_all(_SAY_WINDOW, "agg", "aggregate", "describe"),
        **_all(_BESIDE_ROWS, "rolling", "over", "resample"),
        **_all(_BY_KEY, "shift", "diff", "cum_sum", "forward_fill", "ewm_mean"),
        **_called(cumsum="cum_sum(), of an expression, behind key_by()"),
        **_all(
            f"{_ROWS}.to_pandas()", "to_pandas", "toPandas", "to_arrow", "to_polars", "to_pydict"
        ),
        **_all(_ROWS, "table", "compute", "fetch", "execute_and_collect", "to_pylist"),
        **_all(_LOOK, "head", "show", "limit", "tail", "take", "sample", "first_rows", "display"),
        **_all(_NO_SQL, "sql", "query"),
        **_CONNECTORS,
        **_called(group_by="key_by()", groupby="key_by()", keyBy="key_by()", keyed="key_by()"),
        **_called(where="filter()", concat="union()", vstack="union()", extend="union()"),
        **_called(columns="schema.names", dtypes="schema.types", dtype="schema", info="schema"),
        **_called(
            flatMap="flat_map()", explode="flat_map(), or map_batches()", unnest="flat_map()"
        ),
        **_called(add_sink="sink()", sink_to="sink()", write="sink(), or write_parquet()"),
        **_called(to_parquet="write_parquet()", to_csv="write_csv()", to_hdf="write_hdf5()"),
        **_called(
            assign_timestamps_and_watermarks="with_event_time()", with_watermark="with_event_time()"
        ),
        **_called(repartition="rebalance()", shuffle="rebalance()", coalesce="on(ranks=...)"),
        **_called(map_partitions="map_batches()", mapInArrow="map_batches()"),
        **_all(_NO_SORT, "sort", "sort_by", "sort_values", "order_by", "orderBy", "sort_index"),
        **_all(_NO_POSITIONS, "iloc", "loc", "iat", "at", "index", "iterrows", "itertuples"),
        **_all(_NO_LENGTH, "shape", "size", "empty", "num_rows", "height"),
        **_all("count by key: .key_by(...).window(...).agg(n=hs.count())", "value_counts"),
        **_all("write .filter(col('x').is_not_null())", "dropna", "drop_nulls", "drop_na"),
        **_all("write .with_columns(x=col('x').fill_null(0))", "fillna", "fill_null", "replace"),
        "write_json": "there is no writer of JSON; write_csv(), write_parquet(), or sink()",
        "to_json": "there is no writer of JSON; write_csv(), write_parquet(), or sink()",
        **_all(_DEDUPLICATE, "distinct", "drop_duplicates", "unique", "dropDuplicates"),
        **_all("write .key_by(...).rate_limit(10, per='1min')", "throttle", "rate_limit"),
        "run": "run the job, not a stream: job.run()",
        "execute": "run the job, not a stream: job.run()",
        "explain": "the plan is that of the job: job.explain()",
        "session": _SESSIONS,
    },
    "KeyedStream": {
        **_all(_NO_PROCESS, "process", "reduce", "fold", "map", "apply", "flat_map", "scan"),
        **_all(_SAY_WINDOW, "aggregate", "size", "nunique"),
        **_all(
            "a keyed stream only has windows; do this before key_by()",
            *("filter", "select", "map_batches", "collect", "print", "sink"),
        ),
        **_all(_BESIDE_ROWS, "rolling", "over", "transform"),
        **_all(_BY_KEY, "shift", "diff", "cum_sum", "forward_fill", "ewm_mean"),
        **_called(cumsum="cum_sum(), of an expression, in with_columns()"),
        **_called(
            time_window="window()", windowed="window()", windowBy="window()", resample="window()"
        ),
        "session": _SESSIONS,
        **_called(distinct="deduplicate()", unique="deduplicate()", dedup="deduplicate()"),
        **_called(drop_duplicates="deduplicate()", throttle="rate_limit()"),
        "window_all": "window_all() is for a stream without a key; here it is window()",
    },
    "WindowedStream": {
        **_all(_IN_AGG, "aggregate", "size", "nunique", "apply", "map"),
        **_all(_NO_PROCESS, "process", "reduce", "fold", "trigger", "evictor"),
        **_called(sideOutputLateData="late(), on the result of agg()", lateness="allowed_lateness"),
        **_all(
            "call agg() first, which turns windows into rows",
            *("filter", "select", "with_columns", "map_batches", "collect", "print", "sink"),
        ),
    },
    "Job": {
        **_CONNECTORS,
        **_all(_NO_SQL, "sql", "query", "table", "register"),
        **_all(_FROM_MEMORY, "from_pandas", "from_polars", "from_arrow", "from_table"),
        **_all(_FROM_MEMORY, "from_elements", "from_collection", "from_pydict", "from_pylist"),
        **_all("set options in job.run()", "config", "configure", "set_parallelism", "option"),
        **_called(
            read_feather="read_ipc()", read_arrow="read_ipc()", scan_parquet="read_parquet()"
        ),
        **_called(scan_csv="read_csv()", read_ndjson="read_json()", read_hdf="read_hdf5()"),
        **_called(scan_ndjson="read_json()", readStream="read_parquet(), read_csv(), ... source()"),
        **_called(add_source="source()", from_source="source()", input="source()"),
        **_called(execute="run()", start="run()", compute="run()", collect="stream.collect()"),
        **_called(plan="explain()", show="explain()"),
    },
    "Collected": {
        **_all("the rows are an Arrow table: .table.to_pandas()", "to_pandas", "toPandas", "df"),
        **_all("the rows are an Arrow table: .table", "to_arrow", "rows", "result", "data"),
        **_all("the rows are an Arrow table: .table.{name}", "num_rows", "schema", "column_names"),
        **_all("the rows are an Arrow table: .table.{name}()", "to_pylist", "to_pydict", "sort_by"),
        **_all("the rows are an Arrow table: pl.from_arrow(rows.table)", "to_polars"),
    },
    "Expression": {
        **_called(avg="mean()", average="mean()", nunique="count_distinct()", stddev="std()"),
        **_called(n_unique="count_distinct()", countDistinct="count_distinct()", variance="var()"),
        **_called(approx_count_distinct="count_distinct()", percentile="quantile()", len="count()"),
        **_called(isnull="is_null()", isna="is_null()", isNull="is_null()", fillna="fill_null()"),
        **_called(notnull="is_not_null()", notna="is_not_null()", isNotNull="is_not_null()"),
        **_called(isin="is_in()", isnan="is_nan()", between="is_between()", astype="cast()"),
        **_called(size="count()", rename="alias()", as_="alias()", coalesce="fill_null()"),
        **_called(contains="str.contains()", like="str.contains()", rlike="str.contains()"),
        **_called(startswith="str.starts_with()", starts_with="str.starts_with()"),
        **_called(endswith="str.ends_with()", ends_with="str.ends_with()", substr="str.slice()"),
        **_called(lower="str.lower()", upper="str.upper()", strip="str.strip()"),
        **_called(hour="dt.hour()", day="dt.day()", date="dt.date()", year="dt.year()"),
        **_called(truncate="dt.truncate()", strftime="dt.strftime()", epoch="dt.epoch()"),
        **_all(_MAP_VALUES, "map", "apply", "map_elements", "udf", "where", "pipe"),
        **_all(_NESTED, "field", "struct", "getField", "get", "list", "arr"),
        **_all(_BESIDE_ROWS, "over", "lead", "rolling", "rank"),
        **_called(lag="shift()", cumsum="cum_sum()", cummax="cum_max()", cummin="cum_min()"),
        **_called(ffill="forward_fill()", ewm="ewm_mean()", cumcount="cum_count()"),
        **_all("use hs.when(...).then(...).otherwise(...)", "when", "case", "then", "otherwise"),
        **_all("for the first value that is not null, write a.fill_null(b)", "combine_first"),
        "values": "an expression has no values before the job runs",
    },
    "StringFunctions": {
        **_called(upcase="upper()", downcase="lower()", to_uppercase="upper()"),
        **_called(to_lowercase="lower()", lstrip="strip_start()", rstrip="strip_end()"),
        **_called(strip_chars="strip()", trim="strip()", len_chars="length()", like="contains()"),
        **_called(startswith="starts_with()", endswith="ends_with()", match="contains()"),
        **_called(substring="slice()", substr="slice()", sub="replace()", replace_all="replace()"),
        **_called(to_date="to_datetime()", strptime="to_datetime()", to_timestamp="to_datetime()"),
        **_all(_MAP_VALUES, "split", "extract", "findall", "format", "join", "zfill", "title"),
        "cast": "it is a method of the expression: col('x').cast(...)",
    },
    "TimeFunctions": {
        **_called(
            floor="truncate()", round="truncate()", trunc="truncate()", dayofweek="weekday()"
        ),
        **_called(ordinal_day="day_of_year()", dayofyear="day_of_year()", isoweek="week()"),
        **_called(timestamp="epoch()", to_string="strftime()", format="strftime()"),
        **_called(total_microseconds="total_seconds()", seconds="second()", minutes="minute()"),
    },
    "hpcstream": {
        **_called(sessions="session()", session_window="session()", SessionWindows="session()"),
        **_called(EventTimeSessionWindows="session()", CumulativeWindows="cumulate()"),
        **_all(_AGGREGATE, *_AGGREGATES, "count_distinct"),
        **_all(_AGGREGATE.format(name="mean"), "avg", "average"),
        **_all(_AGGREGATE.format(name="count_distinct"), "nunique", "n_unique", "countDistinct"),
        **_all(_READ_OF_JOB, "read_parquet", "read_csv", "read_json", "read_hdf5", "read_ipc"),
        **_all(_READ_OF_JOB, "generate", "from_batches", "source", "run", "explain"),
        **_all("a stream starts at a job: hs.Job('name')", "Dataflow", "Pipeline", "Context"),
        **_all("a stream starts at a job: hs.Job('name')", "StreamExecutionEnvironment", "job"),
        **_all("result = job.run(); result.rank, result.is_root", "rank", "is_root", "world_rank"),
        **_all("result = job.run(); result.ranks", "size", "ranks", "nranks", "world_size"),
        **_all("the column of a name is hs.col('name')", "column", "F", "c", "field", "element"),
        **_all("write hs.when(...).then(...).otherwise(...)", "case", "where", "if_else", "iff"),
        **_all("write a.fill_null(b)", "coalesce", "fill_null", "nvl"),
        **_all(_NO_SQL, "sql"),
        **_CONNECTORS,
        **_called(tumble="tumbling()", Tumbling="tumbling()", TumblingWindows="tumbling()"),
        **_called(hop="sliding()", slide="sliding()", SlidingWindows="sliding()", literal="lit()"),
        **_called(window="tumbling() or sliding()", TumblingEventTimeWindows="tumbling()"),
        **_called(Window="tumbling() or sliding()", DataStream="Stream", DataFrame="Stream"),
        **_called(udf="Stream.map_batches()", value="lit()"),
    },
}


def missing_attribute(
    owner: str, name: str, known: Iterable[str], aggregates: Iterable[str] = ()
) -> AttributeError:
    """Return the error of a name that is not there: what to write instead, where that is known.

    ``aggregates`` are methods of expressions, which are looked for elsewhere. Names with a
    leading underscore are asked for by protocols, often, and typed by nobody.
    """
    subject = f"module {owner!r}" if owner == "hpcstream" else f"{owner!r} object"
    instead = _INSTEAD.get(owner, {}).get(name)
    if instead is None and name in aggregates:
        instead = _IN_AGG if owner == "WindowedStream" else _SAY_WINDOW
    hint = f": {instead}" if instead else "" if name[:1] == "_" else did_you_mean(name, known)
    # With its name, but without the object: Python would add a guess of its own to ours.
    return AttributeError(f"{subject} has no attribute {name!r}{hint}", name=name)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return a question for the known name that is most similar; empty if none is similar.

    Capitals and underscores do not count: ``withColumns`` is similar to ``with_columns``.
    """
    plain = {_plain(candidate): candidate for candidate in known if candidate[:1] != "_"}
    found = difflib.get_close_matches(_plain(name), plain, n=1)
    return f"; did you mean {plain[found[0]]!r}?" if found else ""


def _plain(name: str) -> str:
    return name.replace("_", "").casefold()
