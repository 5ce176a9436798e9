"""Tables of queries checked against DuckDB: NEXMark, ShuffleBench, SProBench."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from benchmarks.report.results import Record
from benchmarks.report.tables import as_markdown, spread_of

HEADER = (
    "query",
    "M events/s",
    "spread",
    "M rows in/s",
    "DuckDB",
    "rows out",
    "windows",
    "late",
    "hash",
    "answer",
)
TITLES = {"nexmark": "NEXMark", "shufflebench": "ShuffleBench", "sprobench": "SProBench"}
"""Of the sections of the report, in their order."""

_INTRO = """\
Millions of events a second, medians; DuckDB has the same rows in memory and as many threads as
there are ranks, and answers once at the end. Rows out, windows fired and late rows are of one run,
the hash is of its rows."""


def cells(record: Record) -> tuple[str, ...]:
    """Return the cells of one query, below `HEADER`."""
    peer = record.get("duckdb_rows_per_second")
    checked = "checked" if "duckdb_s" in record else "not checked"
    return (
        record["query"],
        f"{record['rows_per_second'] / 1e6:.2f}",
        spread_of(record["all_seconds"]),
        f"{record['rows_in'] / record['seconds'] / 1e6:.2f}",
        f"{peer / 1e6:.2f}" if peer else "-",
        f"{record['rows_out']:,}",
        str(record["windows"] or "-"),
        str(record["late_rows"]),
        record["answer"]["mix"],
        record["fault"] or checked,
    )


def sections(records: Sequence[Record]) -> list[str]:
    """Return the parts of the report about these suites, each with a table for each label."""
    return [part for suite, title in TITLES.items() for part in _section(records, suite, title)]


def _section(records: Sequence[Record], suite: str, title: str) -> list[str]:
    queries = [r for r in records if r["kind"] == "query" and r["suite"] == suite]
    if not queries:
        return []
    parts = [f"## {title}", _INTRO]
    for label, rows in dict.fromkeys((r["label"], r["rows"]) for r in queries):
        mine = [r for r in queries if (r["label"], r["rows"]) == (label, rows)]
        parts += [f"**{label}**, {rows:,} events:", as_markdown(HEADER, map(cells, mine))]
    parts.append(_list(_notes(queries)))
    missing = [r for r in records if r["kind"] == "missing" and r["suite"] == suite]
    if missing:
        texts = (f"`{r['query']}` {r['title']}: needs {r['needs']}" for r in missing)
        parts += ["What the operators of today cannot say yet:", _list(dict.fromkeys(texts))]
    return parts


def _list(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)


def _notes(queries: Sequence[Record]) -> Iterator[str]:
    """Yield what a query asks, how it differs from the published one, and what it read."""
    for query in {r["query"]: r for r in queries}.values():
        inputs = ", ".join(f"{name} {found}" for name, found in query.get("input", {}).items())
        differs = f"; {query['differs']}" if query["differs"] else ""
        read = f" (input: {inputs})" if inputs else ""
        yield f"`{query['query']}` {query['title']}{differs}{read}"
