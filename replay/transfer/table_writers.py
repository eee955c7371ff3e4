"""Write a table in pages, as CSV, or as Parquet with pyarrow (the extra `parquet`, imported on use).

CSV is UTF-8 with a header and CRLF line ends (RFC 4180), decimals without exponent, and empty cells for missing values.
Parquet has a row group for every `GROUP_ROWS` rows, which bounds the memory.
"""

from __future__ import annotations

import csv
import importlib
import io
from decimal import Decimal
from typing import IO, Any, Protocol

from kernel.errors import NotFoundError
from replay.formatting.decimals import decimal_text
from replay.transfer.tables import ExportTable, FieldType

GROUP_ROWS = 50_000


class TableFile(Protocol):
    """Writes a table to a file."""

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        """Write rows."""

    def end(self) -> None:
        """Finish the table, leaving the file open."""


class CsvFile:
    """Writes comma-separated values."""

    def __init__(self, table: ExportTable, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        self._writer = csv.writer(self._text)
        self._writer.writerow([name for name, _ in table.columns])

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        self._writer.writerows([[_cell(value) for value in row] for row in rows])

    def end(self) -> None:
        self._text.detach()


def _cell(value: Any) -> Any:
    return decimal_text(value) if isinstance(value, Decimal) else value


class ParquetFile:
    """Writes Apache Parquet with pyarrow."""

    def __init__(self, table: ExportTable, file: IO[bytes]) -> None:
        """Open the writer. Raises `NotFoundError` if pyarrow is not installed."""
        self._arrow, parquet = pyarrow("pyarrow"), pyarrow("pyarrow.parquet")
        self._schema = self._arrow.schema([(name, _type(self._arrow, kind)) for name, kind in table.columns])
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._rows: list[tuple[Any, ...]] = []

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows += rows
        if len(self._rows) >= GROUP_ROWS:
            self._write()

    def end(self) -> None:
        if self._rows:
            self._write()
        self._writer.close()

    def _write(self) -> None:
        columns = zip(*self._rows, strict=True)
        arrays = [self._array(column, kind) for column, kind in zip(columns, self._schema.types, strict=True)]
        self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        self._rows = []

    def _array(self, column: tuple[Any, ...], kind: Any) -> Any:
        if self._arrow.types.is_decimal(kind):
            column = tuple(None if value is None else Decimal(value) for value in column)
        return self._arrow.array(column, kind)


def _type(arrow: Any, kind: FieldType) -> Any:
    if kind is FieldType.DECIMAL:
        return arrow.decimal128(38, 18)
    return arrow.decimal128(38, 0) if kind is FieldType.WHOLE else getattr(arrow, kind.value)()


def pyarrow(module: str) -> Any:
    """Import a module of pyarrow. Raises `NotFoundError` if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError as problem:
        text = "Parquet needs pyarrow, which is not installed: pip install 'exchange-kernel[parquet]'"
        raise NotFoundError(text) from problem
