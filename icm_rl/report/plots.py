"""Pictures of learning curves for the README, as SVG text."""

import io
from collections.abc import Mapping, Sequence
from statistics import fmean

import matplotlib
from matplotlib.figure import Figure

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
