"""The address of a Redis server, as redis-cli takes it, and whether the server speaks TLS."""

from __future__ import annotations

import os
import shlex
import socket
import ssl
from dataclasses import dataclass
from typing import Literal, Self
from urllib.parse import parse_qs, unquote, urlsplit

PORT = 6379
PING = b"PING\r\n"
_SAID_BY_REDIS = (b"+", b"-")
"""RESP begins every answer to PING, also a refusal, with one of these: https://redis.io/docs/latest/develop/reference/protocol-spec."""
_OPTIONS = {"ssl_ca_certs": "--cacert", "ssl_certfile": "--cert", "ssl_keyfile": "--key"}
"""Parameters of redis-py's URLs, and what redis-cli calls them."""

Spoken = Literal["plain", "tls", "untrusted", ""]


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A URL of redis-py without its password."""

    scheme: str
    host: str
    port: int
    socket_path: str
    user: str
    asks_password: bool
    database: str
    options: dict[str, str]
    """The parameters behind the question mark."""

    @classmethod
    def of(cls, url: str) -> Self:
        """Return the address; ValueError for a URL that has no port that can be."""
        parts = urlsplit(url)
        options = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        is_socket = parts.scheme == "unix"
        in_path = "" if is_socket else unquote(parts.path).strip("/")
        return cls(
            parts.scheme,
            unquote(parts.hostname or "localhost"),
            (None if is_socket else parts.port) or PORT,
            unquote(parts.path) if is_socket else "",
            unquote(parts.username or "") or options.get("username", ""),
            bool(parts.password or options.get("password")),
            options.get("db", in_path) or "0",
            options,
        )

    def command(self, *words: str, as_user: bool = True) -> str:
        """Return the shell command that sends `words` to the server, as the user of the URL unless it takes another; it asks for a password."""
        server = (
            ["-s", self.socket_path] if self.scheme == "unix" else ["-h", self.host, "-p", str(self.port), *self._tls()]
        )
        user = ["--user", self.user] if self.user and as_user else []
        password = ["--askpass"] if self.asks_password else []
        database = ["-n", self.database] if self.database != "0" else []
        return shlex.join(["redis-cli", *server, *user, *password, *database, *words])

    def _tls(self) -> list[str]:
        if self.scheme != "rediss":
            return []
        insecure = ["--insecure"] if self.options.get("ssl_cert_reqs") == "none" else []
        named = [
            word for name, option in _OPTIONS.items() if name in self.options for word in (option, self.options[name])
        ]
        return ["--tls", *insecure, *named]

    def spoken(self, seconds: float) -> Spoken:
        """Return what the server speaks where that is not what the URL says; an empty string where it is, or nobody answers.

        `untrusted` is TLS with a certificate that this machine does not trust.
        """
        if self.scheme == "rediss":
            if self._answers_plainly(seconds):
                return "plain"
            return "untrusted" if self._shakes_hands(seconds) and not self._shakes_hands(seconds, trusted=True) else ""
        if self.scheme == "redis" and not self._answers_plainly(seconds) and self._shakes_hands(seconds):
            return "tls"
        return ""

    def _answers_plainly(self, seconds: float) -> bool:
        try:
            with socket.create_connection((self.host, self.port), timeout=seconds) as connection:
                connection.sendall(PING)
                return connection.recv(1) in _SAID_BY_REDIS
        except OSError:
            return False

    def _shakes_hands(self, seconds: float, *, trusted: bool = False) -> bool:
        context = ssl.create_default_context(cafile=self._authorities())
        if not trusted:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        elif self.options.get("ssl_check_hostname", "true").lower() in {"false", "0", "no"}:
            context.check_hostname = False
        try:
            with (
                socket.create_connection((self.host, self.port), timeout=seconds) as connection,
                context.wrap_socket(connection, server_hostname=self.host),
            ):
                return True
        except OSError:
            return False

    def _authorities(self) -> str | None:
        named = self.options.get("ssl_ca_certs")
        return named if named and os.path.isfile(named) else None
