"""docs/tables.md from the declarations: the tables between its markers are written by

    python -m tests.tables_page

and a test holds the page to what this would write.
"""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow as pa

from twotower.tables.schema import TABLES, Column, Table

PAGE = Path(__file__).parents[1] / "docs" / "tables.md"
MARKED = re.compile(r"(<!-- columns: (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def with_columns(page: str) -> str:
    """The page with every marked part written anew; KeyError for a table that is not declared."""
    by_name = {table.name: table for table in TABLES}
    return MARKED.sub(lambda found: found[1] + columns(by_name[found[2]]) + found[4], page)


def columns(table: Table) -> str:
    """The columns of one table as Markdown."""
    head = "| column | type | may be null or absent | what it is |\n| --- | --- | --- | --- |\n"
    return head + "".join(f"| {' | '.join(cells(column))} |\n" for column in table.columns)


def cells(column: Column) -> tuple[str, str, str, str]:
    """Name, type, whether it is optional, meaning with its unit."""
    unit = f" ({column.unit})" if column.unit and not pa.types.is_timestamp(column.type) else ""
    return f"`{column.name}`", type_name(column.type), "yes" if column.optional else "", column.meaning + unit


def type_name(type: pa.DataType) -> str:
    """An Arrow type as people say it."""
    if pa.types.is_timestamp(type):
        return "time"
    if pa.types.is_list(type):
        return f"list of {type_name(type.value_type)}"
    if pa.types.is_struct(type):
        return "{" + ", ".join(f"{field.name}: {type_name(field.type)}" for field in type) + "}"
    return {"string": "text", "double": "number", "int64": "integer", "bool": "true/false"}[str(type)]


if __name__ == "__main__":
    PAGE.write_text(with_columns(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
