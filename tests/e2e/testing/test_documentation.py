"""The example of docs/testing.md, run as it stands there."""

import re
from pathlib import Path
from typing import Any

from transcriber import testing

PAGE = (Path(__file__).parents[3] / "docs/testing.md").read_text()


async def test_the_example_runs():
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(example, "docs/testing.md", "exec"), namespace)  # noqa: S102 - it is ours

    await namespace["test_every_word_arrives"]()


def test_every_public_name_is_described():
    described = PAGE.split("## What is in it")[1]

    for name in testing.__all__:
        assert re.search(rf"`{name}\b", described), name
