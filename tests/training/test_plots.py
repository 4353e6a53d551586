from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from tocsin_training import plots


@pytest.mark.parametrize("worst", [0.003, 0.042, 0.09, 0.8])
def test_ticks_of_the_risk_coverage_curve_can_be_told_apart(worst: float) -> None:
    kept = np.linspace(0.01, 1, 50)
    figure = plots.risk_coverage_figure((kept, kept * worst), (0.8, 0.5 * worst), worst / 2)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    for axis in (figure.axes[0].xaxis, figure.axes[0].yaxis):
        ticks = [label.get_text() for label in axis.get_ticklabels()]
        assert len(ticks) > 3 and len(set(ticks)) == len(ticks)


def test_a_reliability_diagram_has_a_panel_for_each_kind_of_answer_even_for_one_without_answers(tmp_path: Path) -> None:
    bins = [(0.4, 0.5, 0.3, 0.7, 25), (0.95, 0.94, 0.92, 0.96, 900)]
    panels = [plots.Reliability("labels given", bins, 0.012), plots.Reliability("no event", [], 0.0)]
    plots.reliability_diagram(panels, tmp_path / "reliability.png")
    assert (tmp_path / "reliability.png").read_bytes().startswith(b"\x89PNG")
