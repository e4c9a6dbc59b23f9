"""The page's charts, as Vega-Lite specifications made by Altair; hovering shows the numbers."""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from itertools import cycle
from math import ceil, floor, log10
from typing import Any

import altair as alt
import vl_convert

Spec = dict[str, Any]

Bars = dict[str, tuple[float, Sequence[float] | None]]
"""The value of each section, with its 95 % interval where that is known."""

# distinct without color too: every series is named in a legend, a facet or the tooltip
_COLORS = {
    "ICM": "#2563eb",
    "icm": "#2563eb",
    "gold": "#b45309",
    "human": "#0f766e",
    "before": "#94a3b8",
    "after": "#2563eb",
}
_CYCLE = ["#2563eb", "#b45309", "#0f766e", "#be185d", "#6d28d9", "#64748b", "#15803d", "#b91c1c"]


@cache
def vega_bundle() -> str:
    """The JavaScript of Vega, Vega-Lite and vegaEmbed, from the package vl-convert."""
    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")


def bars(title: str, unit: str, values: Mapping[str, float], marked: str) -> Spec:
    """Horizontal bars, one a name, longest value and all written out.

    Args:
        title: What is shown.
        unit: The values' unit.
        values: By name, from top to bottom.
        marked: The name of the bar that stands out.
    """
    rows = [
        {"name": name, "value": value, "of": "this" if name == marked else "other"}
        for name, value in values.items()
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=220)),
        x=alt.X("value:Q", title=unit, scale=alt.Scale(domainMin=0)),
        tooltip=[
            alt.Tooltip("name:N", title=" "),
            alt.Tooltip("value:Q", title=unit, format=".2f"),
        ],
    )
    colors = alt.Scale(domain=["this", "other"], range=[_COLORS["ICM"], _COLORS["before"]])
    drawn = base.mark_bar(height={"band": 0.7}).encode(
        color=alt.Color("of:N", scale=colors, legend=None)
    )
    written = base.mark_text(align="left", dx=4).encode(text=alt.Text("value:Q", format=".1f"))
    return _spec(drawn + written, title, height=26 * len(values))


def ranges(title: str, unit: str, values: Bars, marked: Collection[str]) -> Spec:
    """Points with their 95 % intervals, one a name, from top to bottom.

    Args:
        title: What is shown.
        unit: The values' unit.
        values: By name.
        marked: The names whose points stand out.
    """
    rows = [
        {"name": name, "value": value, "of": "this" if name in marked else "other"}
        | ({"low": interval[0], "high": interval[1]} if interval else {})
        for name, (value, interval) in values.items()
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        y=alt.Y("name:N", sort=None, title=None, axis=alt.Axis(labelLimit=220)),
        color=_of_marked(),
        tooltip=[
            alt.Tooltip("name:N", title=" "),
            alt.Tooltip("value:Q", title=unit, format=".2f"),
            alt.Tooltip("low:Q", title="95 % from", format=".2f"),
            alt.Tooltip("high:Q", title="to", format=".2f"),
        ],
    )
    scale = alt.Scale(zero=False)
    drawn = base.mark_rule(strokeWidth=2).encode(
        x=alt.X("low:Q", title=unit, scale=scale), x2="high:Q"
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        x=alt.X("value:Q", scale=scale)
    )
    return _spec(drawn + points, title, height=20 * len(values))


def frontier(
    title: str,
    xlabel: str,
    unit: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    marked: Collection[str],
) -> Spec:
    """What is reached for what is spent: a line a name, which is written at its last point.

    Args:
        title: What is shown.
        xlabel: What is spent, above 0 and drawn by its logarithm.
        unit: What is reached.
        series: By name, points (spent, reached).
        marked: The names that stand out.
    """
    rows = [
        {
            "name": name,
            "x": x,
            "y": y,
            "of": "this" if name in marked else "other",
            "written": name if number == len(points) else "",
        }
        for name, points in series.items()
        for number, (x, y) in enumerate(points, 1)
    ]
    spent = [x for points in series.values() for x, _ in points]
    least, most = min(spent), max(spent)
    tens = [10**k for k in range(floor(log10(least)), ceil(log10(most)) + 1)]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X(
            "x:Q",
            title=xlabel,
            scale=alt.Scale(type="log", domain=[least, 4 * most], nice=False),
            axis=alt.Axis(values=tens, format="~s"),
        ),
        y=alt.Y("y:Q", title=unit, scale=alt.Scale(zero=False)),
        detail="name:N",
        color=_of_marked(),
        tooltip=[
            alt.Tooltip("name:N", title=" "),
            alt.Tooltip("x:Q", title=xlabel, format=",.0f"),
            alt.Tooltip("y:Q", title=unit, format=".1f"),
        ],
    )
    written = base.mark_text(align="left", dx=6, fontSize=9).encode(text="written:N")
    points = base.mark_point(filled=True, size=50, opacity=1)
    return _spec(base.mark_line() + points + written, title, height=300)


def _of_marked() -> alt.Color:
    """Blue what stands out, gray all else."""
    colors = alt.Scale(domain=["this", "other"], range=[_COLORS["ICM"], _CYCLE[5]])
    return alt.Color("of:N", scale=colors, legend=None)


def grouped_bars(title: str, unit: str, groups: Mapping[str, Bars]) -> Spec:
    """For each section a bar of each group, with its confidence interval where there is one."""
    rows: list[dict[str, Any]] = []
    for group, of_group in groups.items():
        for section, (value, interval) in of_group.items():
            low, high = interval or (None, None)
            rows.append(
                {"group": group, "section": section, "value": value, "low": low, "high": high}
            )
    sections = list(dict.fromkeys(row["section"] for row in rows))
    ranged = any(row["low"] is not None for row in rows)
    tooltip = [
        alt.Tooltip("section:N", title=" "),
        alt.Tooltip("group:N", title="of"),
        alt.Tooltip("value:Q", title=unit, format=".3f"),
    ]
    if ranged:
        tooltip.append(alt.Tooltip("low:Q", title="95 % from", format=".3f"))
        tooltip.append(alt.Tooltip("high:Q", title="to", format=".3f"))
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("section:N", sort=sections, title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("group:N", sort=list(groups)),
        tooltip=tooltip,
    )
    drawn = base.mark_bar().encode(
        y=alt.Y("value:Q", title=unit), color=_color("group", list(groups))
    )
    if not ranged:
        return _spec(drawn, title)
    ranges = base.mark_rule(opacity=0.75).encode(y="low:Q", y2="high:Q", strokeWidth=alt.value(1.5))
    return _spec(drawn + ranges, title)


def lines(
    title: str,
    xlabel: str,
    unit: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    band: Sequence[tuple[float, float, float]] = (),
    events: Sequence[tuple[float, str]] = (),
) -> Spec:
    """Curves over time.

    Args:
        title: What is shown.
        xlabel: What x is.
        unit: What y is.
        series: By name, points (x, y).
        band: Points (x, low, high) of a band behind them.
        events: Points (x, what happened), drawn as vertical lines.
    """
    rows = [{"of": name, "x": x, "y": y} for name, points in series.items() for x, y in points]
    x = alt.X("x:Q", title=xlabel, scale=alt.Scale(nice=False))
    near = alt.selection_point(nearest=True, on="pointerover", fields=["x"], empty=False)
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=x, y=alt.Y("y:Q", title=unit, scale=alt.Scale(zero=False))
    )
    color = _color("of", list(series), legend=len(series) > 1)
    tooltip = [
        alt.Tooltip("x:Q", title=xlabel),
        alt.Tooltip("of:N", title="of"),
        alt.Tooltip("y:Q", title=unit, format=".4f"),
    ]
    layers = [
        base.mark_line(interpolate="linear").encode(color=color),
        base.mark_point(filled=True, size=70)
        .encode(
            color=color,
            tooltip=tooltip,
            opacity=alt.condition(near, alt.value(1), alt.value(0)),
        )
        .add_params(near),
    ]
    if band:
        values = [{"x": x, "low": low, "high": high} for x, low, high in band]
        shade = alt.Chart(alt.Data(values=values)).mark_area(opacity=0.15, color=_COLORS["ICM"])
        layers.insert(0, shade.encode(x=x, y=alt.Y("low:Q", title=unit), y2="high:Q"))
    if events:
        happened = [{"x": x, "event": event} for x, event in events]
        marks = alt.Chart(alt.Data(values=happened)).mark_rule(strokeDash=[4, 3], strokeWidth=2)
        layers.append(
            marks.encode(
                x=x, tooltip=[alt.Tooltip("event:N", title=" "), alt.Tooltip("x:Q", title=xlabel)]
            )
        )
    return _spec(alt.layer(*layers), title, height=190)


def reliability(title: str, models: Mapping[str, Sequence[Mapping[str, float]]]) -> Spec:
    """How often preferences hold of which a model is so sure; perfectly so on the diagonal."""
    rows = [{"of": name, **part} for name, bins in models.items() for part in bins]
    diagonal = alt.Chart(alt.Data(values=[{"c": 0.5}, {"c": 1.0}]))
    tooltip = [
        alt.Tooltip("of:N", title="labels"),
        alt.Tooltip("confidence:Q", format=".3f"),
        alt.Tooltip("accuracy:Q", title="right", format=".3f"),
        alt.Tooltip("pairs:Q"),
    ]
    base = alt.Chart(alt.Data(values=rows)).encode(
        x=alt.X("confidence:Q", title="how sure the model is", scale=alt.Scale(domain=[0.5, 1])),
        y=alt.Y("accuracy:Q", title="held-out pairs right", scale=alt.Scale(domain=[0, 1])),
        color=_color("of", list(models)),
        tooltip=tooltip,
    )
    layers = [
        diagonal.mark_line(strokeDash=[4, 3], color=_COLORS["before"]).encode(x="c:Q", y="c:Q"),
        base.mark_line(opacity=0.5),
        base.mark_point(filled=True, opacity=1).encode(size=alt.Size("pairs:Q", legend=None)),
    ]
    return _spec(alt.layer(*layers), title)


def _color(field: str, names: Sequence[str], legend: bool = True) -> alt.Color:
    taken = {_COLORS[name] for name in names if name in _COLORS}
    spare = cycle(color for color in _CYCLE if color not in taken)
    colors = [_COLORS.get(name) or next(spare) for name in names]
    # its columns are as wide as the longest name, on a phone too
    columns = 1 if max(map(len, names)) > 20 else 3
    look = alt.Legend(title=None, orient="bottom", labelLimit=300, columns=columns)
    return alt.Color(
        f"{field}:N",
        scale=alt.Scale(domain=list(names), range=colors),
        legend=look if legend else None,
    )


def _spec(chart: alt.Chart | alt.LayerChart, title: str, height: int = 220) -> Spec:
    """The chart as wide as its place on the page, with its title as description."""
    fit = alt.AutoSizeParams(type="fit-x", contains="padding")
    sized = chart.properties(
        width="container", height=height, title=title, description=title, autosize=fit
    )
    return sized.to_dict()
