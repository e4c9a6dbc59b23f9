"""The report's pictures, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

COLORS = {"icm": "#2563eb", "gold": "#ca8a04", "human": "#64748b", "before": "#94a3b8"}
COLORS |= {"after": "#2563eb", "line": "#2563eb", "other": "#94a3b8"}
_CYCLE = ("#94a3b8", "#ca8a04", "#2563eb")


def _svg(figure: Figure, title: str) -> str:
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "icm_rl"}):
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _figure(panels: int = 1, height: float = 2.7, width: float = 5.2):
    """Panels of that size in inches, at most three a row."""
    rows, columns = -(-panels // 3), min(panels, 3)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = [figure.add_subplot(rows, columns, 1 + panel) for panel in range(panels)]
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
        axis.grid(axis="y", alpha=0.25)
    return figure, axes


def bars(title: str, values: Mapping[str, float], unit: str, colors: Sequence[str]) -> str:
    """Horizontal bars, one a name, each with its value."""
    figure, (axis,) = _figure(height=0.6 + 0.36 * len(values))
    names = list(values)
    axis.barh(names, list(values.values()), color=list(colors), height=0.62)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    for row, value in enumerate(values.values()):
        axis.text(value, row, f" {value:.1f}{unit}", va="center", fontsize=8)
    axis.set_xlim(0, max(*values.values(), 1) * 1.15)
    axis.set_title(title, fontsize=9, loc="left")
    return _svg(figure, title)


def grouped_bars(
    title: str, groups: Mapping[str, Mapping[str, float]], limit: float | None = None
) -> str:
    """Vertical bars: for each section a bar of each group."""
    figure, (axis,) = _figure()
    sections = list(next(iter(groups.values())))
    width = 0.8 / len(groups)
    for index, (name, values) in enumerate(groups.items()):
        xs = [k + (index - (len(groups) - 1) / 2) * width for k in range(len(sections))]
        heights = [values[section] for section in sections]
        drawn = axis.bar(xs, heights, width * 0.92, label=name, color=COLORS[name])
        axis.bar_label(drawn, fmt="%.2g" if limit == 1 else "%.3g", fontsize=6.5, padding=1)
    axis.set_xticks(range(len(sections)), sections)
    if limit:
        axis.set_ylim(0, limit * 1.08)
    axis.legend(fontsize=7, frameon=False, ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.1))
    axis.set_title(title, fontsize=9, loc="left")
    return _svg(figure, title)


def line(
    title: str, x: Sequence[float], y: Sequence[float], xlabel: str, band: Sequence | None = None
) -> str:
    """One curve, with a band from ``band[0]`` to ``band[1]`` where given."""
    figure, (axis,) = _figure(height=2.3, width=3.4)
    axis.plot(x, y, color=COLORS["line"], linewidth=1.4)
    if band:
        axis.fill_between(x, band[0], band[1], color=COLORS["line"], alpha=0.15, linewidth=0)
    axis.set_xlabel(xlabel, fontsize=8)
    axis.set_title(title, fontsize=9, loc="left")
    return _svg(figure, title)


def reliability(title: str, models: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """How often preferences hold of which a model is so sure; perfectly so on the diagonal."""
    figure, (axis,) = _figure(height=2.7, width=3.4)
    axis.plot([0.5, 1], [0.5, 1], color=COLORS["other"], linewidth=1, linestyle="--")
    for name, bins in models.items():
        xs, ys = ([part[key] for part in bins] for key in ("confidence", "accuracy"))
        axis.plot(xs, ys, color=COLORS[name], linewidth=1.2, alpha=0.6)
        sizes = [6 + part["pairs"] for part in bins]
        axis.scatter(xs, ys, s=sizes, color=COLORS[name], label=name)
    axis.set(xlabel="confidence", ylabel="held-out pairs right", ylim=(0, 1.05))
    axis.xaxis.label.set_size(8)
    axis.yaxis.label.set_size(8)
    axis.legend(fontsize=7, frameon=False, loc="lower right")
    axis.set_title(title, fontsize=9, loc="left")
    return _svg(figure, title)


def curves(
    panels: Mapping[str, Mapping[str, Sequence[tuple[Sequence[float], Sequence[float]]]]],
    xlabels: Sequence[str],
) -> str:
    """Panels, three a row; in each, every name's runs as thin lines and their mean as a thick one.

    Args:
        panels: Each panel's title, and in it each name's runs, (x, y) each, of equal lengths.
        xlabels: What the panels' x axes show.
    """
    figure, axes = _figure(len(panels), 3.0, 3.6)
    for axis, xlabel, (title, names) in zip(axes, xlabels, panels.items(), strict=True):
        for color, (name, runs) in zip(_CYCLE, names.items(), strict=False):
            for x, y in runs:
                axis.plot(x, y, color=color, linewidth=0.6, alpha=0.4)
            xs, ys = (map(fmean, zip(*part, strict=True)) for part in zip(*runs, strict=True))
            axis.plot(list(xs), list(ys), color=color, linewidth=1.8, label=name)
        axis.set_xlabel(xlabel, fontsize=8)
        axis.set_title(title, fontsize=9, loc="left")
        axis.legend(fontsize=7, frameon=False, loc="lower right")
    return _svg(figure, ", ".join(panels))
