"""``python -m bench.files``."""

from bench.files import add_options, measure
from bench.lib.report import run

if __name__ == "__main__":
    run("files", measure, add_options)
