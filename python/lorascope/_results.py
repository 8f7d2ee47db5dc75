"""What an analysis or a study found: tables, sentences, figures."""

from __future__ import annotations

import html
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple, Union

from lorascope import _native

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow


@dataclass(frozen=True)
class Column:
    """A column of a table: name, type (``text``, ``int``, ``float``, ``bool``), unit, meaning."""

    name: str
    type: str
    unit: str
    doc: str


class Table:
    """A table in Arrow's memory layout.

    It has ``__arrow_c_stream__``, so ``pyarrow.table(table)`` and ``polars.DataFrame(table)`` take it without a copy.
    """

    def __init__(self, native: _native.Table) -> None:
        self._native = native
        #: Name, as in ``tables/NAME.csv`` of a run folder.
        self.name = native.name
        #: What a row is.
        self.doc = native.doc
        #: The columns.
        self.columns = [Column(*column) for column in native.columns()]

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._native.__arrow_c_stream__(requested_schema)

    def __len__(self) -> int:
        return len(self._native)

    def to_arrow(self) -> "pyarrow.Table":
        """As a ``pyarrow.Table``, without a copy."""
        import pyarrow

        return pyarrow.table(self)

    def to_pandas(self) -> "pandas.DataFrame":
        """As a ``pandas.DataFrame``; needs pyarrow."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> "polars.DataFrame":
        """As a ``polars.DataFrame``, without a copy."""
        import polars

        return polars.DataFrame(self)

    def __repr__(self) -> str:
        return f"Table {self.name}, {len(self)} rows: {', '.join(column.name for column in self.columns)}"


@dataclass(frozen=True)
class Section:
    """An analysis's part of the report."""

    id: str
    title: str
    question: str
    #: The answer, a paragraph each.
    paragraphs: List[str]
    figures: List[_native.Figure]
    #: Small tables for reading: title, columns (name, meaning, whether numeric), rows of texts.
    tables: List[Tuple[str, List[Tuple[str, str, bool]], List[List[str]]]]
    #: What a reader must know before trusting it.
    notes: List[str]

    def _html(self) -> str:
        parts = [f"<h3>{html.escape(self.title)}</h3>", f"<p><em>{html.escape(self.question)}</em></p>"]
        parts += [f"<p>{html.escape(text)}</p>" for text in self.paragraphs]
        for figure in self.figures:
            parts.append(f"<figure>{figure._repr_svg_()}<figcaption>{html.escape(figure.caption)}</figcaption></figure>")
        for title, columns, rows in self.tables:
            head = "".join(f'<th title="{html.escape(doc)}">{html.escape(name)}</th>' for name, doc, _ in columns)
            body = "".join("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
            parts.append(f"<table><caption>{html.escape(title)}</caption><tr>{head}</tr>{body}</table>")
        parts += [f"<p><small>{html.escape(text)}</small></p>" for text in self.notes]
        return "\n".join(parts)

    _repr_html_ = _html


class Result:
    """What an analysis or a study found. In a notebook it shows its sentences and figures."""

    def __init__(self, native: _native.Result, out: Optional[str] = None) -> None:
        self._native = native
        #: The run folder, where one was named.
        self.out = out
        #: Tables by name.
        self.tables: Dict[str, Table] = {table.name: Table(table) for table in native.tables()}
        #: Sections of the report, in order.
        self.sections: List[Section] = [Section(**section) for section in native.sections()]
        #: Figures by name; each has ``render("svg" | "png" | "pdf" | "csv")``.
        self.figures: Dict[str, _native.Figure] = {f.name: f for section in self.sections for f in section.figures}
        #: What a reader must know before anything else.
        self.warnings: List[str] = native.warnings()
        #: What was said on the way: how long each analysis took, where the report lies.
        self.notes: List[str] = native.notes()

    @property
    def text(self) -> str:
        """The report's sentences."""
        paragraphs = [text for section in self.sections for text in section.paragraphs]
        return "\n\n".join([*self.warnings, *paragraphs])

    @property
    def verdicts(self) -> List[Dict[str, str]]:
        """What a study says of its questions: ``question``, ``claim``, ``about``, ``verdict``, ``statement``, ``value``."""
        keys = ("question", "claim", "about", "verdict", "statement", "value")
        return [dict(zip(keys, verdict)) for verdict in self._native.verdicts()]

    def html(self) -> str:
        """The whole report as one HTML page, which needs no network."""
        return self._native.html()

    def save_html(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes :meth:`html` to a file."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(self.html())

    def _repr_html_(self) -> str:
        warnings = [f"<p><strong>{html.escape(text)}</strong></p>" for text in self.warnings]
        return "\n".join([*warnings, *(section._html() for section in self.sections)])

    def __repr__(self) -> str:
        sections = ", ".join(section.id for section in self.sections)
        return f"Result of {sections}: tables {', '.join(self.tables)}; figures {', '.join(self.figures)}"
