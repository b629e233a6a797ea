"""``python -m bench.chaos``."""

from bench.chaos.command import add_options, measure
from bench.lib.report import run

if __name__ == "__main__":
    raise SystemExit(bool(run("chaos", measure, add_options)["failed"]))
