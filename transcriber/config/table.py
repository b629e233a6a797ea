"""The settings as a table for the documentation. In: the declarations. Out: Markdown."""

from transcriber.config import settings_fields


def settings_table() -> str:
    """The settings as a Markdown table, a row each."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in settings_fields().items():
        default = field.get_default()
        if isinstance(default, int | float):
            default = f"{default:d}" if isinstance(default, int) else f"{default:g}"
        shown = "" if default is None or field.default_factory else f"`{default}`"
        rows.append(f"| `{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(rows)
