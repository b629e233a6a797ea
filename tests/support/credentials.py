"""Keys, JWTs and certificates of a broker and its users, made as they are needed."""

import base64
import json
import os

import nkeys
import trustme


def new_nkey(kind=nkeys.PREFIX_BYTE_USER):
    """Seed and public key of a new user, account or operator."""
    seed = nkeys.encode_seed(os.urandom(32), kind)
    return seed.decode(), nkeys.from_seed(bytearray(seed)).public_key.decode()


def jwt(issuer_seed, issuer, subject, kind, **more):
    """A JWT as NATS signs them (ADR-14): ed25519 by the issuer's nkey."""

    def part(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    claims = {"iss": issuer, "sub": subject, "name": kind, "iat": 1, "jti": "x", "nats": {"type": kind, "version": 2}}
    if kind == "account":
        unlimited = ("subs", "data", "payload", "imports", "exports", "conn", "leaf")
        claims["nats"]["limits"] = dict.fromkeys(unlimited, -1) | {"wildcards": True}
    if kind == "user":
        claims["nats"] |= dict.fromkeys(("subs", "data", "payload"), -1) | more
    head = part(b'{"typ":"JWT","alg":"ed25519-nkey"}') + b"." + part(json.dumps(claims).encode())
    return (head + b"." + part(nkeys.from_seed(bytearray(issuer_seed.encode())).sign(head))).decode()


def operator_mode(folder, **of_the_user):
    """The configuration of a broker whose users come with JWTs, and the JWT and seed of one."""
    (op_seed, op), (account_seed, account), (user_seed, user) = map(
        new_nkey, (nkeys.PREFIX_BYTE_OPERATOR, nkeys.PREFIX_BYTE_ACCOUNT, nkeys.PREFIX_BYTE_USER)
    )
    (folder / "operator.jwt").write_text(jwt(op_seed, op, op, "operator"))
    conf = (
        f'operator: "{folder}/operator.jwt", resolver: MEMORY\n'
        f"resolver_preload {{ {account}: {jwt(op_seed, op, account, 'account')} }}"
    )
    return conf, jwt(account_seed, account, user, "user", **of_the_user), user_seed


def credentials(user_jwt, user_seed):
    """A credentials file."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n"
        f"\n-----BEGIN USER NKEY SEED-----\n{user_seed}\n------END USER NKEY SEED------\n"
    )


def certificates(folder):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name in ("127.0.0.1", "client"):
        issued = authority.issue_cert(name)
        issued.private_key_pem.write_to_path(folder / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    server = f'cert_file: "{folder}/127.0.0.1.pem", key_file: "{folder}/127.0.0.1.key", ca_file: "{folder}/ca.pem"'
    return server, {"NATS_TLS_CA": folder / "ca.pem"}
