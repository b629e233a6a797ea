"""The generated tables of these pages. In: the declarations of settings, metrics and alerts. Out: Markdown, between its marks.

    python docs/tables.py

writes what has changed. A table stands between ``<!-- table: NAME -->`` and ``<!-- end of table -->``; nothing else is touched.
"""

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from transcriber.config import settings_fields
from transcriber.telemetry import INSTRUMENTS
from transcriber.telemetry.instruments import GATEWAY_INSTRUMENTS, Instrument

DOCS = Path(__file__).parent
RULES = DOCS.parent / "k8s/prometheus/rules.yaml"
_MARKED = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end of table -->)", re.DOTALL)


def settings_table() -> str:
    """Every setting, in the order of declaration."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in settings_fields().items():
        default = field.get_default()
        if isinstance(default, int | float):
            default = f"{default:d}" if isinstance(default, int) else f"{default:g}"
        shown = "" if default in (None, "") or field.default_factory else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)


def metrics_table(instruments: tuple[Instrument, ...] = INSTRUMENTS) -> str:
    """Every instrument, in the order of declaration."""
    rows = ["| metric | kind | unit | meaning |", "|---|---|---|---|"]
    for instrument in instruments:
        unit = f"`{instrument.unit}`" if instrument.unit else ""
        rows.append(f"| `{instrument.name}` | {instrument.kind} | {unit} | {instrument.description} |")
    return "\n".join(rows)


def alerts_table() -> str:
    """Every alert of the Prometheus rules, in their order."""
    rows = ["| alert | severity | fires after | what it means, and what to do |", "|---|---|---|---|"]
    rules: dict[str, Any] = yaml.safe_load(RULES.read_text())
    for rule in (rule for group in rules["groups"] for rule in group["rules"]):
        meaning = html.escape(" ".join(rule["annotations"]["description"].split()), quote=False)
        rows.append(f"| `{rule['alert']}` | {rule['labels']['severity']} | {rule.get('for', 'at once')} | {meaning} |")
    return "\n".join(rows)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "metrics": metrics_table,
    "gateway_metrics": lambda: metrics_table(GATEWAY_INSTRUMENTS),
    "alerts": alerts_table,
}


def with_tables(page: str) -> str:
    """A page, with each marked table as the code has it now."""
    return _MARKED.sub(lambda mark: f"{mark[1]}{mark[2]}\n{TABLES[mark[1]]()}\n\n", page)


def main() -> None:
    for path in sorted(DOCS.glob("*.md")):
        old = path.read_text()
        new = with_tables(old)
        if new != old:
            path.write_text(new)


if __name__ == "__main__":
    main()
