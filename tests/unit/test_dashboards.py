"""The dashboards in ``k8s/grafana``: up to date, complete, and of metrics that there are."""

import json
import re

import pytest

from docs.dashboards import BOARDS, BROKER, FOLDER, as_json
from transcriber.telemetry.figures import Counters
from transcriber.telemetry.instruments import GATEWAY_INSTRUMENTS, INSTRUMENTS

UNITS = {"ms": "_milliseconds", "s": "_seconds", "By": "_bytes", "Cel": "_celsius", "W": "_watts"}
OURS = [board for board in BOARDS if board is not BROKER]


def names(instrument):
    """In Prometheus: with the unit, and as a collector without it has them."""
    base = instrument.name.replace(".", "_")
    suffixes = {"counter": ["_total"], "histogram": ["_bucket", "_count"]}.get(instrument.kind, [""])
    units = {UNITS.get(instrument.unit, ""), ""}
    return {base + unit + suffix for unit in units for suffix in suffixes}


def asked(board):
    """Patterns of the names that a dashboard asks for."""
    expressions = [query for row in board.rows.values() for shown in row for query in shown.queries.values()]
    text = " ".join(expressions)
    return set(re.findall(r'__name__=~"([^"]+)"', text)) | set(re.findall(r"\b((?:transcriber|http)_\w+)\{", text))


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_a_dashboard_is_up_to_date(board):
    assert (FOLDER / f"{board.name}.json").read_text() == as_json(board), "run: python docs/dashboards.py"


def test_there_are_no_other_dashboards():
    assert {path.stem for path in FOLDER.glob("*.json")} == {board.name for board in BOARDS}


@pytest.mark.parametrize("instrument", [*INSTRUMENTS, *GATEWAY_INSTRUMENTS], ids=lambda instrument: instrument.name)
def test_every_metric_is_on_a_panel_under_each_of_its_names(instrument):
    patterns = {pattern for board in OURS for pattern in asked(board)}
    found = {name for name in names(instrument) if any(re.fullmatch(pattern, name) for pattern in patterns)}

    with_unit, without = (
        {n for n in found if (UNITS.get(instrument.unit, "\0") in n) is unit} for unit in (True, False)
    )
    assert without
    assert with_unit or instrument.unit not in UNITS


@pytest.mark.parametrize("board", OURS, ids=lambda board: board.name)
def test_a_dashboard_asks_for_metrics_that_there_are(board):
    exported = {name for instrument in (*INSTRUMENTS, *GATEWAY_INSTRUMENTS) for name in names(instrument)}

    assert asked(board)
    for pattern in asked(board):
        assert any(re.fullmatch(pattern, name) for name in exported), pattern


def test_the_dashboard_of_a_stream_asks_for_what_has_streams():
    (board,) = [board for board in BOARDS if board.name == "stream"]
    per_stream = {
        name
        for instrument in INSTRUMENTS
        if instrument.key in Counters.__slots__ or instrument.kind == "histogram"
        for name in names(instrument)
    }

    for pattern in asked(board):
        assert any(re.fullmatch(pattern, name) for name in per_stream), pattern


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.name)
def test_panels_have_ids_of_their_own_lie_beside_each_other_and_share_one_data_source(board):
    panels = json.loads(as_json(board))["panels"]
    places = [
        (x, y)
        for panel in panels
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
    assert {panel["datasource"]["uid"] for panel in panels if panel["type"] != "row"} == {"${datasource}"}
