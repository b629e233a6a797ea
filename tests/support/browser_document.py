"""docs/browser.md as tests use it: its examples, its broker, and what npm installs for them."""

import os
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import nkeys
import pytest
import trustme

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S
from transcriber.testing.broker import EmbeddedBroker

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/browser.md").read_text()
INSTALLED = ROOT / "tests/e2e/clients/npm/node_modules"
SITE = "https://desk.example.org"
PASSWORDS = {name: f"{name}-secret" for name in ("desk", "hall", "clips", "relay")}

HASHES = {"hall": "$2a$04$3HZ/jSZIfEpnFqjZw27H2ejJL5CnO7jN9UPJnDYWpoTzhUKbJWqaS"}
"""What the broker is given instead of a password."""


def blocks(language):
    """The blocks of code in a language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


class GuardedBroker:
    """nats-server with the configuration of the page; only the ports are others.

    ``daemon`` are the settings of a daemon that it lets in.
    """

    def __init__(self, folder):
        self.websocket_port = free_port()
        (conf,) = blocks("conf")
        assert conf.count("port: 8443") == 1
        self._conf = folder / "nats.conf"
        self._conf.write_text(conf.replace("port: 8443", f"port: {self.websocket_port}\n  host: 127.0.0.1"))
        seed = nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_USER)
        (folder / "seed").write_bytes(seed)
        self.daemon = {"NATS_NKEY_SEED_FILE": str(folder / "seed"), "NATS_INBOX_PREFIX": "_INBOX_daemon"}
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(folder / "key.pem")
        issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
        self.authority = authority
        self._environment = {
            "NATS_SERVER_CERT": str(folder / "cert.pem"),
            "NATS_SERVER_KEY": str(folder / "key.pem"),
            "DAEMON": nkeys.from_seed(bytearray(seed)).public_key.decode(),
        } | {f"{name.upper()}_PASSWORD": password for name, password in (PASSWORDS | HASHES).items()}

    @contextmanager
    def running(self):
        with pytest.MonkeyPatch.context() as environment:
            for name, value in self._environment.items():
                environment.setenv(name, value)
            with EmbeddedBroker("--config", str(self._conf)) as broker:
                self.url = broker.url
                yield self

    def url_of(self, user):
        return self.url.replace("//", f"//{user}:{PASSWORDS[user]}@")


def node_modules():
    """The folder; without it the test is skipped."""
    for name in (*filter(None, os.environ.get("NODE_PATH", "").split(os.pathsep)), str(INSTALLED)):
        folder = Path(name)
        if (folder / "@nats-io/nats-core").is_dir() and (folder / "esbuild").is_dir():
            return folder.resolve()
    return pytest.skip("no node modules: npm ci in tests/e2e/clients/npm")


def bundled(folder, name, script):
    """``script``, bundled as the page says: the text of the bundle."""
    (command,) = blocks("sh")
    install, bundle = command.splitlines()
    assert install == "npm install @nats-io/nats-core esbuild"
    if not (folder / "node_modules").exists():
        (folder / "node_modules").symlink_to(node_modules())
    (folder / f"{name}.js").write_text(script)
    subprocess.run(
        ["bash", "-euc", bundle.replace("desk", name)],
        cwd=folder,
        check=True,
        capture_output=True,
        timeout=PATIENCE_S,
    )
    return (folder / f"{name}.bundle.js").read_text()
