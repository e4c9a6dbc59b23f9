"""A page of figures, tables and the label browser, as HTML and as Markdown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from icm_rl.report import charts


@dataclass(frozen=True)
class Figure:
    """A chart, and what to look for in it."""

    spec: charts.Spec
    look: str


@dataclass(frozen=True)
class Table:
    """Rows of texts and numbers; a folded one is opened by whoever wants it."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    folded: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page, with a sentence that says what to look for."""

    id: str
    title: str
    look: str
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    browser: bool = False


@dataclass(frozen=True)
class Card:
    """One of the figures that stand first."""

    name: str
    value: str
    note: str


@dataclass(frozen=True)
class Page:
    """What the HTML page and its Markdown show."""

    title: str
    intro: str
    sections: Sequence[Section]
    cards: Sequence[Card] = field(default_factory=list)
    audit: str = ""


def html(page: Page, labels: Mapping[str, Any] | None = None) -> str:
    """The page with its styles and scripts, which loads nothing from elsewhere.

    Args:
        page: What it shows.
        labels: The label browser's data, where it has one.
    """
    loader = PackageLoader("icm_rl.report")
    environment = Environment(
        loader=loader,
        autoescape=True,
        trim_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters["figure"] = _figure

    def source(name: str) -> str:
        return loader.get_source(environment, name)[0]

    return environment.get_template("page.html.j2").render(
        page=page,
        labels=labels,
        css=source("page.css"),
        js=source("page.js"),
        vega=charts.vega_bundle().replace("</script", "<\\/script"),
    )


def markdown(page: Page) -> str:
    """The page's figures as Markdown, for a model card."""
    lines = [f"# {page.title}", "", page.intro, ""]
    if page.cards:
        lines += ["| | | |", "|---|---|---|"]
        lines += [f"| {_cell(c.name)} | {_cell(c.value)} | {_cell(c.note)} |" for c in page.cards]
        lines.append("")
    if page.audit:
        lines += [page.audit, ""]
    for section in page.sections:
        tables = [table for table in section.tables if table.rows]
        if tables:
            lines += [f"## {section.title}", ""]
        for table in tables:
            lines += [f"{table.caption}:", "", "| " + " | ".join(map(_cell, table.head)) + " |"]
            lines += ["|" + "---|" * len(table.head)]
            lines += ["| " + " | ".join(map(_cell, row)) + " |" for row in table.rows]
            lines.append("")
    return "\n".join(lines)


def _figure(value: float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3f}"


def _cell(value: Any) -> str:
    """A value as Markdown shows it in a table: nothing in it is read as markup."""
    if isinstance(value, int | float):
        return _figure(value)
    text = value["text"] if isinstance(value, Mapping) else str(value)
    for mark in "\\`*_{}[]<>|#!":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"
