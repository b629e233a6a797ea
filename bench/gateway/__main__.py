"""``python -m bench.gateway``."""

from bench.gateway import add_options, measure
from bench.lib.report import run

if __name__ == "__main__":
    run("gateway", measure, add_options)
