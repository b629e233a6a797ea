"""The link that opens the page with its key, in a real browser."""

from tests.support.browser import chromium, opened
from transcriber.config import load_settings
from transcriber.gateway.embedded import EmbeddedGateway
from transcriber.testing.broker import EmbeddedBroker

KEPT = "sessionStorage.getItem('transcriber-key')"


def test_the_link_opens_the_page_and_leaves_no_key_in_its_address_and_replaces_none():
    settings = load_settings(gateway_port="0")
    with EmbeddedBroker() as broker, EmbeddedGateway(broker.url, settings) as gateway, chromium() as browser:
        link = gateway.line.removeprefix("page: ")
        with opened(browser, link) as page:
            page.wait_for_url(f"{gateway.url}/#/")
            with page.expect_response("**/v1/streams") as streams:
                page.reload()
            assert streams.value.status == 200
            assert page.evaluate(KEPT) == gateway.key

            page.goto(f"{gateway.url}/#/key/another")
            page.wait_for_url(f"{gateway.url}/#/")
            assert page.evaluate(KEPT) == gateway.key
