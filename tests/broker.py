"""A RabbitMQ of a test's own: Debian's server, started on loopback ports with everything it writes in a folder of its own.

with Broker(tmp_path) as broker:
    broker.url                        # amqp://guest:guest@127.0.0.1:…/%2F
    broker.kill(); broker.start()     # as after a crash
    broker.ctl("list_queues")
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.cloud import free_port

LIBRARY = Path("/usr/lib/rabbitmq/bin")


class Broker:
    """`tls` opens a second listener (`tls_url`), whose certificate `ca` has signed."""

    def __init__(self, folder: Path, *, tls: bool = False) -> None:
        self._folder = folder
        folder.mkdir(exist_ok=True)
        self.port, self._epmd_port, dist = free_port(), free_port(), free_port()
        self.tls_port = free_port() if tls else None
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self.ca = folder / "ca.pem"
        config = folder / "rabbitmq.conf"
        lines = ["loopback_users.guest = false", f"listeners.tcp.1 = 127.0.0.1:{self.port}"]
        if tls:
            certificate(self.ca, folder / "key.pem")
            lines += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {self.ca}",
                f"ssl_options.certfile = {self.ca}",
                f"ssl_options.keyfile = {folder / 'key.pem'}",
                "ssl_options.verify = verify_none",
            ]
        config.write_text("\n".join(lines) + "\n")
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "LANG": "C.UTF-8",
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "ERL_EPMD_PORT": str(self._epmd_port),
            "RABBITMQ_NODENAME": f"nephos-{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(dist),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "RABBITMQ_CONFIG_FILE": str(config),
            "RABBITMQ_CONF_ENV_FILE": str(folder / "none"),
            "RABBITMQ_MNESIA_BASE": str(folder / "data"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
        }
        self._epmd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def tls_url(self) -> str:
        return f"amqps://guest:guest@127.0.0.1:{self.tls_port}/%2F?cafile={self.ca}"

    def __enter__(self) -> Broker:
        # one that is there already is not started as a daemon that would outlive the test
        self._epmd = subprocess.Popen(
            ["epmd", "-port", str(self._epmd_port), "-address", "127.0.0.1"],
            env=self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait()

    def start(self) -> None:
        """Returns when it takes connections."""
        with (self._folder / "out").open("ab") as out:
            self._server = subprocess.Popen(
                [str(LIBRARY / "rabbitmq-server")],
                env=self._environment,
                cwd=self._folder,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        end = time.monotonic() + 90
        while True:
            assert self._server.poll() is None, (self._folder / "out").read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                    probe.sendall(b"AMQP\0\0\x09\x01")
                    probe.settimeout(5)
                    if probe.recv(7):
                        return
            except OSError:
                assert time.monotonic() < end, (self._folder / "out").read_text()
                time.sleep(0.2)

    def kill(self) -> None:
        """As from a crash. Durable queues and what is in them stay."""
        if self._server is not None:
            os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def ctl(self, *words: str) -> str:
        done = subprocess.run(
            [str(LIBRARY / "rabbitmqctl"), *words], env=self._environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def certificate(path: Path, key_path: Path) -> None:
    """A certificate for 127.0.0.1 that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "broker of a test")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(address, critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
