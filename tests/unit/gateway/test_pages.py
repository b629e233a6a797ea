"""Serving the page: its files, their headers, and nothing else."""

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from transcriber.gateway.pages import FILES, ROUTES

CLIENT = TestClient(Starlette(routes=list(ROUTES)))


def test_the_page_is_served_with_a_policy_that_runs_nothing_but_its_own_files():
    answer = CLIENT.get("/")

    policy = answer.headers["Content-Security-Policy"]
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_every_file_that_a_file_names_is_served():
    texts = [file.content.decode() for file in FILES.values()]
    named = {name for text in texts for name in re.findall(r'"(?:\./|/web/)([a-z-]+\.[a-z]+)"', text)}

    assert len(named) > 10
    for name in named:
        assert CLIENT.get(f"/web/{name}").status_code == 200, name
    assert named | {"index.html"} == set(FILES)


def test_text_is_never_html():
    for name, file in FILES.items():
        for danger in (
            b"innerHTML",
            b"outerHTML",
            b"insertAdjacentHTML",
            b"document.write",
            b"eval(",
            b"https://",
            b"DOMParser",
        ):
            assert danger not in file.content, name


def test_a_file_that_the_browser_has_is_not_sent_again():
    first = CLIENT.get("/web/app.js")
    again = CLIENT.get("/web/app.js", headers={"If-None-Match": first.headers["ETag"]})
    other = CLIENT.get("/web/app.js", headers={"If-None-Match": '"other"'})

    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]
    assert (other.status_code, other.content) == (200, first.content)


@pytest.mark.parametrize(
    "path", ["/web/", "/web/pages.py", "/web/..%2Fpages.py", "/web/%2e%2e/pages.py", "/web//etc/passwd", "/web/a%00"]
)
def test_nothing_else_is_served(path):
    assert CLIENT.get(path).status_code == 404
