"""The picture: well-formed, and longer bars for larger figures."""

import xml.etree.ElementTree as ElementTree

from tests.benchmark.picture import WIDTH, Scale, draw
from tests.benchmark.table import Cell

CELLS = {
    ("SET <1>", "respraft"): Cell(12_000.0, 1.0, 9.0, 60.0),
    ("SET <1>", "redis"): Cell(50_000.0, 0.5, 2.0, 12.0),
    ("GET", "respraft"): Cell(300_000.0, 2.0, 4.0, 6.0),
}


def test_every_figure_has_a_bar_and_every_workload_a_name() -> None:
    root = ElementTree.fromstring(draw(CELLS))
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"SET <1>", "GET", "respraft", "redis"} <= set(texts)
    rectangles = list(root.iter("{http://www.w3.org/2000/svg}rect"))
    assert len(rectangles) == 1 + 2 + 2 * len(CELLS)  # Background, legend, two bars a figure.


def test_a_scale_holds_its_values_and_is_logarithmic() -> None:
    scale = Scale.over([20.0, 900.0], 100.0)
    assert scale.decades() == [10.0, 100.0, 1000.0]
    assert (scale.x(10.0), scale.x(100.0), scale.x(1000.0)) == (100.0, 100.0 + WIDTH / 2, 100.0 + WIDTH)
