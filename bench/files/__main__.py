"""``python -m bench.files``."""

from bench.files import measure
from bench.report import run

if __name__ == "__main__":
    run("files", measure)
