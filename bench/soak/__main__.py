"""``python -m bench.soak``."""

from bench.lib.report import run
from bench.soak.command import add_options, measure

if __name__ == "__main__":
    raise SystemExit(not run("soak", measure, add_options)["good"])
