"""DuckDB behind Ibis: the embedded engine of the offline half.

Expressions are Ibis, so that a warehouse can run them too; what is DuckDB's own (readers, tables,
settings) stays in this module and in log_files.
"""

import tempfile
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from ibis.expr import operations


def open_engine() -> Any:
    """Open an empty in-memory DuckDB as an Ibis backend, in UTC, that spills to the temp folder."""
    con = ibis.duckdb.connect()
    spill = Path(tempfile.gettempdir()) / "rta-duckdb"
    con.con.execute("SET TimeZone = 'UTC'")
    con.con.execute("SET preserve_insertion_order = false")  # rows are numbered only for samples
    con.con.execute(f"SET temp_directory = '{spill}'")  # the default is .tmp where one stands
    return con


def table(con: Any, name: str) -> Any:
    """Give a table or view of the engine as an Ibis table.

    Ibis 12's own `con.table` and `con.sql` use calls that DuckDB 2 deprecates or dropped.
    """
    described = con.con.execute(f'DESCRIBE "{name}"').fetchall()
    read_type = con.compiler.type_mapper.from_string
    schema = ibis.schema({row[0]: read_type(row[1]) for row in described})
    return operations.DatabaseTable(name, schema=schema, source=con).to_expr()


def materialise(con: Any, name: str, expression: Any) -> Any:
    """Compute an expression into a table of the engine, so that later steps share the work."""
    con.con.execute(f'CREATE OR REPLACE TABLE "{name}" AS {con.compile(expression)}')
    return table(con, name)


def add_arrow(con: Any, name: str, rows: pa.Table) -> Any:
    """Copy an Arrow table into the engine."""
    con.con.register("arriving", rows)
    con.con.execute(f'CREATE OR REPLACE TABLE "{name}" AS FROM arriving')
    con.con.unregister("arriving")
    return table(con, name)


def keep_order(con: Any) -> None:
    """Make scans give rows in the order of their files from now on, slower and numberable."""
    con.con.execute("SET preserve_insertion_order = true")


def fetch(expression: Any) -> list[dict[str, Any]]:
    """Run an expression whose result is small and give its rows."""
    rows: list[dict[str, Any]] = expression.to_pyarrow().to_pylist()
    return rows
