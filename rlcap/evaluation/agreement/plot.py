"""Agreement of metrics as a picture: a panel a statistic, a point a metric, its interval as a bar."""

from collections.abc import Sequence
from pathlib import Path

from rlcap.evaluation.agreement.table import Agreement, title


def require_matplotlib() -> None:
    """Raises ValueError where matplotlib is missing: before anything is scored."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ValueError("a plot needs matplotlib: pip install 'rlcap[plot]'") from error


def write_plot(path: Path, name: str, measured: Sequence[Agreement]) -> None:
    """Draws the statistics (x 100) of a benchmark's metrics into a file whose ending says the format (png, svg, pdf).

    Raises ValueError for an ending that matplotlib does not know.
    """
    require_matplotlib()
    from matplotlib.figure import Figure

    keys = list(measured[0].statistics)
    figure = Figure(figsize=(1.5 + 2.6 * len(keys), 1.2 + 0.32 * len(measured)), layout="constrained")
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    rows = range(len(measured))
    for panel, key in zip(panels, keys, strict=True):
        for row, own in zip(rows, measured, strict=True):
            if key in own.intervals:
                panel.plot(own.intervals[key], (row, row), color="#9aa5b1", linewidth=2, zorder=1)
        panel.scatter([own.statistics[key] for own in measured], rows, color="#1f4e79", s=24, zorder=2)
        panel.set_title(title(key), fontsize=10)
        panel.grid(axis="x", color="#e4e7eb")
        panel.set_axisbelow(True)
    panels[0].set_yticks(rows, [own.label for own in measured])
    panels[0].invert_yaxis()
    figure.suptitle(name, fontsize=11)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
