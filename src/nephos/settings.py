"""One typed struct, one TOML file (`<state>/nephos.toml`), everything defaulted.

Unknown keys and wrong types are refused with the key's path. Paths below the state directory are derived here and
nowhere else.
"""

from __future__ import annotations

import tomllib
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from typing import Annotated, Literal

import msgspec

from nephos.errors import SettingsError
from nephos.wiring.base import Fallback, Physical

DEFAULT_STATE = Path("/var/lib/nephos")
SERVER_USER = "nephos"
SERVER_THREADS = 64
"""Request threads. Slow transfers hold one each, so there are many more than cores; an idle one costs some kilobytes."""
WORKER_THREADS = 24
"""What else in a server may use the ledger: operations and their outside work, streams, deliveries."""


class Log(msgspec.Struct, forbid_unknown_fields=True):
    """`path` is a directory; empty means `<state>/log`. `level` is DEBUG, INFO, WARNING or ERROR (S1-44)."""

    path: str = ""
    level: str = "INFO"


class Rate(msgspec.Struct, forbid_unknown_fields=True):
    """`count` requests in `seconds` for each user, of a verb (`*`: any) to what `path` matches.

    A path is written as in the catalogue, `/compute/v2.1/servers`, and may hold `*` (within a part), `**` (any) and
    `{names}` (one part). Before a log-in it is not a user that counts but the address.
    """

    path: Annotated[str, msgspec.Meta(pattern="^/")]
    count: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
    seconds: Annotated[int, msgspec.Meta(ge=1, le=31 * 86400)] = 60
    verb: str = "*"


class Api(msgspec.Struct, forbid_unknown_fields=True):
    """The HTTP listener. `rate_limit` is requests a minute for each user, verb and service; 0 is no limit. `rates`
    are for verbs and paths. `limit_rates` switches all of them off (S1-44).

    `trusted_proxies` are addresses or CIDRs of reverse proxies whose word on scheme, host, prefix and client is taken.
    `cors_origins` are the pages (scheme://host[:port], or "*") whose scripts may use the APIs from a browser.
    """

    rate_limit: Annotated[int, msgspec.Meta(ge=0)] = 0
    rates: list[Rate] = []
    limit_rates: bool = True
    max_body: Annotated[int, msgspec.Meta(ge=1024)] = 1 << 20
    max_limit: int = 1000
    trusted_proxies: list[str] = []
    cors_origins: list[str] = []


class Tls(msgspec.Struct, forbid_unknown_fields=True):
    """HTTPS of the APIs, and TLS of the streams listener. `mode` is auto (on, but for a loopback address), on, or off: for
    TLS that ends at a proxy.

    The cloud issues its own certificates, for the listening address, this machine's name, the host of `public_url` and
    `names`; servers' last `server_days`, hosts' `host_days`, and each is renewed when a third of that is left.
    `certificate` and `key` are PEM files of an operator's own, which the server's user must be able to read; clients get
    that one, agents go on to trust the cloud's.
    """

    mode: Literal["auto", "on", "off"] = "auto"
    names: list[str] = []
    certificate: str = ""
    key: str = ""
    authority_days: Annotated[int, msgspec.Meta(ge=1)] = 3650
    server_days: Annotated[int, msgspec.Meta(ge=1)] = 90
    host_days: Annotated[int, msgspec.Meta(ge=1)] = 90


class Tokens(msgspec.Struct, forbid_unknown_fields=True):
    """`lifetime` is seconds; a service may have a token shown that expired up to `expired_window` seconds ago.

    New tokens are of the form `provider`; those of the other one count until they expire. `bcrypt_rounds` is the cost of
    a password hash.
    """

    provider: Literal["fernet", "jws"] = "fernet"
    lifetime: Annotated[int, msgspec.Meta(ge=1)] = 3600
    expired_window: Annotated[int, msgspec.Meta(ge=0)] = 172800
    bcrypt_rounds: int = 12


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of tokens, credentials and receipts. Of each kind `max_active` are kept: one staged, one primary, and
    those that only verify. They are rotated every `rotate_hours`; 0 leaves it to the operator."""

    max_active: Annotated[int, msgspec.Meta(ge=3)] = 3
    rotate_hours: Annotated[int, msgspec.Meta(ge=0)] = 0


class Security(msgspec.Struct, forbid_unknown_fields=True):
    """What passwords must be like and what wrong ones cost; 0 and "" switch each off, as they are by default.

    `lockout_attempts` wrong passwords in a row lock a user out for `lockout_seconds`. A password lasts `password_days`,
    may not be changed again by its user within `password_least_days`, and differs from the last `password_history`
    ones. `password_regex` must match, `password_words` says it to people. With `password_change_first` one that an
    administrator set is good for nothing but choosing another. A user who does not log in for `inactive_days` is
    disabled.
    """

    lockout_attempts: Annotated[int, msgspec.Meta(ge=0)] = 0
    lockout_seconds: Annotated[int, msgspec.Meta(ge=0)] = 1800
    password_days: Annotated[int, msgspec.Meta(ge=0)] = 0
    password_least_days: Annotated[int, msgspec.Meta(ge=0)] = 0
    password_history: Annotated[int, msgspec.Meta(ge=0)] = 0
    password_regex: str = ""
    password_words: str = ""
    password_change_first: bool = False
    inactive_days: Annotated[int, msgspec.Meta(ge=0)] = 0


class Quota(msgspec.Struct, forbid_unknown_fields=True):
    """Default limits; -1 is unlimited. The names are those of the services' quota APIs."""

    instances: int = 10
    cores: int = 20
    ram: int = 51200
    key_pairs: int = 100
    metadata_items: int = 128
    server_groups: int = 10
    server_group_members: int = 10
    injected_files: int = 5
    injected_file_content_bytes: int = 10240
    injected_file_path_bytes: int = 255
    network: int = 100
    subnet: int = 100
    port: int = 500
    router: int = 10
    floatingip: int = 50
    security_group: int = 10
    security_group_rule: int = 100
    subnetpool: int = -1
    rbac_policy: int = 10
    address_group: int = 10
    trunk: int = -1
    segment: int = -1


class Limits(msgspec.Struct, forbid_unknown_fields=True):
    """How unified limits of projects and their domains bind each other: not at all, or with `strict_two_level` a project
    gets no more than its parent and there are no more than two levels of projects below a domain."""

    model: Literal["flat", "strict_two_level"] = "flat"


class NetworkRanges(msgspec.Struct, forbid_unknown_fields=True):
    """What tenants' networks are made of: `tenant_type` where nobody says otherwise, with an id out of the ranges.

    `vni_min` to `vni_max` are VXLAN's, `gre` and `geneve` FIRST:LAST, `vlan` the same for each physical network.
    `mtu` is that of the network between the hosts, in bytes; tunnels run over IP version `tunnel_ip`. An external network
    of which nobody says what carries it is flat on the physical network `external`, while that is free.
    """

    tenant_type: str = "vxlan"
    vni_min: int = 1
    vni_max: int = 1 << 20
    gre: str = "1:65535"
    geneve: str = "1:65535"
    vlan: dict[str, str] = {}
    mtu: int = 1500
    tunnel_ip: Literal[4, 6] = 4
    external: str = "public"
    dns_domain: str = "openstacklocal."


class Compute(msgspec.Struct, forbid_unknown_fields=True):
    """Overcommit and defaults of the compute service.

    `resize_to_same_host`: a resize may stay on its host, where that has room. One that nobody confirmed or reverted for
    `resize_confirm_window` seconds is confirmed, with 0 never. A shelved server's host is freed `shelved_offload_time`
    seconds later: with 0 at once, with -1 only when somebody asks for it.
    """

    cpu_ratio: float = 4.0
    ram_ratio: float = 1.0
    disk_ratio: float = 1.0
    reserved_ram_mb: int = 512
    build_timeout: int = 600
    zone: str = "nova"
    resize_to_same_host: bool = True
    resize_confirm_window: Annotated[int, msgspec.Meta(ge=0)] = 0
    shelved_offload_time: Annotated[int, msgspec.Meta(ge=-1)] = 0


class Webhook(msgspec.Struct, forbid_unknown_fields=True):
    """Where notifications are POSTed to, signed with `secret` (or `file:PATH`). `link_local` allows such addresses."""

    url: str
    secret: str
    link_local: bool = False


class Notifications(msgspec.Struct, forbid_unknown_fields=True):
    """What happened, told to others; with no sink set nothing is written down.

    Sinks are `log` (`<log>/notifications/notifications.log`, `log_bytes` large at most, with `log_files` older ones),
    `rabbitmq` (an amqp:// or amqps:// address, or `file:PATH` of a file that holds it) and `webhooks` by name. `durable` and
    `queues` are how exchanges and queues are made where they are missing. `format` is identity's: cadf or basic.
    `omit` are event types that nobody gets, those of log-ins with the outcome at the end. What could not be delivered
    for `max_age` seconds is a dead letter.
    """

    log: bool = False
    log_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 64 << 20
    log_files: Annotated[int, msgspec.Meta(ge=1)] = 4
    rabbitmq: str = ""
    durable: bool = False
    queues: bool = True
    webhooks: dict[str, Webhook] = {}
    format: Literal["cadf", "basic"] = "cadf"
    omit: tuple[str, ...] = ("identity.authenticate.success", "identity.authenticate.pending")
    max_age: Annotated[int, msgspec.Meta(ge=60)] = 86400


class Rates(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """A rate in each direction, as guests see it (egress is what they send), and for both together."""

    egress: int = 0
    ingress: int = 0
    any: int = 0


class Host(msgspec.Struct, forbid_unknown_fields=True):
    """Settings of the agent's own host. `libvirt` is a socket path; empty means the system's.

    `switch`, `underlay`, `tunnel_fallback` and `meter_seconds` are described in `wiring.base.WiringSettings`.
    `bandwidths` (kbit/s, by physical network, rp_tunnelled for the tunnels) and `packet_rate` (thousands a second) are
    what ports with minimum rules may have of the host together; what is not there such ports do not get.
    `server` is wss://HOST:PORT of the servers elsewhere, separated by commas, for a host that joined; empty means this
    machine's own.
    """

    name: str = ""
    server: str = ""
    tunnel_address: str = ""
    tunnel_port: int = 4789
    tunnel_fallback: Fallback | None = None
    physical: dict[str, Physical] = {}
    switch: Literal["linux", "openvswitch"] = "linux"
    underlay: Physical | None = None
    meter_seconds: float = 60.0
    bandwidths: dict[str, Rates] = {}
    packet_rate: Rates = Rates()
    acceleration: str = ""
    libvirt: str = ""

    @property
    def network_capacity(self) -> dict[str, dict[str, int]]:
        """`bandwidths` and `packet_rate` as `hosts.wire.HostHello` has them."""
        rates = {**self.bandwidths, "": self.packet_rate}
        return {
            name: {way: getattr(each, way) for way in each.__struct_fields__ if getattr(each, way) > 0}
            for name, each in rates.items()
        }


class Settings(msgspec.Struct, forbid_unknown_fields=True):
    """All settings. `state` is where the file was found; `hypervisor` is libvirt or fake.

    `database` is empty for the embedded ledger, or postgresql://… or mariadb://…, or `file:PATH` of a file that holds
    it; with one, `servers` server processes run on this machine. `connections` is the most that each asks the database
    for (0: as many as it has threads, and no more than its share of what the database gives). `number` is which of
    this machine's servers a process is; its command line says so.
    What a deleted server leaves (its row, its events) is kept for `retention_days`, 0 for ever.
    `doorbell` is empty, or RabbitMQ's address (as of `notifications.rabbitmq`) for several servers on one ledger.
    """

    state: Path = DEFAULT_STATE
    cloud_id: str = ""
    region: str = "RegionOne"
    listen: str = "127.0.0.1:5000"
    public_url: str = ""
    database: str = ""
    servers: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    connections: Annotated[int, msgspec.Meta(ge=0)] = 0
    number: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    doorbell: str = ""
    hypervisor: str = "libvirt"
    fake_hosts: int = 1
    retention_days: Annotated[int, msgspec.Meta(ge=0, le=36_500)] = 365
    log: Log = msgspec.field(default_factory=Log)
    api: Api = msgspec.field(default_factory=Api)
    tls: Tls = msgspec.field(default_factory=Tls)
    tokens: Tokens = msgspec.field(default_factory=Tokens)
    keys: Keys = msgspec.field(default_factory=Keys)
    security: Security = msgspec.field(default_factory=Security)
    quota: Quota = msgspec.field(default_factory=Quota)
    limits: Limits = msgspec.field(default_factory=Limits)
    network: NetworkRanges = msgspec.field(default_factory=NetworkRanges)
    compute: Compute = msgspec.field(default_factory=Compute)
    notifications: Notifications = msgspec.field(default_factory=Notifications)
    host: Host = msgspec.field(default_factory=Host)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port of the HTTP listener. IPv6 hosts are written in brackets."""
        host, _, port = self.listen.rpartition(":")
        if not host or not port.isdigit():
            raise SettingsError(f"listen: {self.listen!r} is not HOST:PORT")
        return host.strip("[]"), int(port)

    @property
    def url(self) -> str:
        """What clients reach the HTTP listener by, without a slash at the end."""
        if self.public_url:
            return self.public_url.rstrip("/")
        return self.local_url

    @property
    def local_url(self) -> str:
        """What this machine reaches the HTTP listener by, whatever stands before it for others."""
        host, port = self.address
        shown = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)
        return f"{'https' if self.https else 'http'}://{shown}:{port}"

    @property
    def client_authority(self) -> Path | None:
        """What clients are told to verify the cloud by; None when they know its authority anyway, or there is no TLS."""
        return self.authority_file if self.https and not self.tls.certificate else None

    @property
    def https(self) -> bool:
        """Whether the listeners speak TLS."""
        if self.tls.mode != "auto":
            return self.tls.mode == "on"
        return not is_loopback(self.address[0])

    @property
    def tls_dir(self) -> Path:
        """The cloud's authority and the server's certificate."""
        return self.server_dir / "tls"

    @property
    def authority_file(self) -> Path:
        """The authority's certificate, for everybody: what clients of this machine verify the cloud by."""
        return self.state / "ca.pem"

    @property
    def server_name(self) -> str:
        """This server among all of one ledger, the same after a restart."""
        return f"{gethostname()}:{self.number}"

    @property
    def server_roles(self) -> list[str]:
        """What this machine's servers are called where processes and logs are; none on a host that joined a cloud elsewhere."""
        return [] if self.host.server else [_numbered("server", number) for number in range(1, self.servers + 1)]

    @property
    def streams_ports(self) -> tuple[int, ...]:
        """Every server of this machine has its own, so that a console reaches the very one that was asked."""
        first = self.address[1] + 1
        return tuple(range(first, first + self.servers))

    @property
    def streams_port(self) -> int:
        return self.address[1] + self.number

    @property
    def server_dir(self) -> Path:
        """The server's own: ledger, keys, images. Owned by the server's user, 0700."""
        return self.state / "server"

    @property
    def agent_dir(self) -> Path:
        """The agent's own: its key, cached images, instances. Owned by root; QEMU's user may pass through."""
        return self.state / "agent"

    @property
    def run_dir(self) -> Path:
        """Process ids, written by root."""
        return self.state / "run"

    @property
    def secrets_dir(self) -> Path:
        """Passwords and keys of the operator: root only."""
        return self.state / "secrets"

    @property
    def log_dir(self) -> Path:
        return Path(self.log.path) if self.log.path else self.state / "log"

    @property
    def notifications_log(self) -> Path:
        """In a directory of the server's own, which turns the file over."""
        return self.log_dir / "notifications" / "notifications.log"

    @property
    def streams_sockets(self) -> tuple[Path, ...]:
        """Where a local agent reaches the servers, whatever network namespace it lives in."""
        return tuple(self.server_dir / _numbered("streams", number, ".sock") for number in range(1, self.servers + 1))

    @property
    def streams_socket(self) -> Path:
        return self.server_dir / _numbered("streams", self.number, ".sock")

    @property
    def lock_file(self) -> Path:
        """Held by the one process that is this server."""
        return self.server_dir / _numbered("lock", self.number)

    @property
    def database_url(self) -> str:
        """With its password. Raises SettingsError when the file that holds it cannot be read."""
        return secret(self.database) or f"sqlite:///{self.server_dir / 'ledger.db'}"

    @property
    def database_connections(self) -> int:
        """The most that one server asks a database for: one for each thread that may want one."""
        return self.connections or SERVER_THREADS + WORKER_THREADS


def _numbered(name: str, number: int, suffix: str = "") -> str:
    return f"{name}{suffix}" if number == 1 else f"{name}-{number}{suffix}"


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def load(state: Path) -> Settings:
    """Read `<state>/nephos.toml`; defaults when there is none.

    Raises SettingsError with the file and the key that is wrong.
    """
    path = state / "nephos.toml"
    try:
        raw = tomllib.loads(path.read_text()) if path.exists() else {}
        settings = msgspec.convert(raw, Settings, dec_hook=_decode)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, OSError) as wrong:
        raise SettingsError(f"{path}: {wrong}") from wrong
    settings.state = state
    return settings


def secret(text: str) -> str:
    """A setting that others may not read: `file:PATH` stands for what the file holds. Raises SettingsError."""
    if not text.startswith("file:"):
        return text
    try:
        return Path(text.removeprefix("file:")).read_text().strip()
    except (OSError, UnicodeDecodeError) as wrong:
        raise SettingsError(f"{text}: {wrong}") from wrong


def save(settings: Settings) -> None:
    """Write the settings that differ from the defaults, so that a later default still reaches this cloud."""
    plain = _difference(msgspec.to_builtins(settings, enc_hook=str), msgspec.to_builtins(Settings(), enc_hook=str))
    plain.pop("state", None)
    path = settings.state / "nephos.toml"
    part = path.with_suffix(".part")
    part.write_text(_toml(plain))
    part.chmod(0o644)
    part.replace(path)


def _decode(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise NotImplementedError(kind)


def _difference(value: dict[str, object], default: dict[str, object]) -> dict[str, object]:
    changed: dict[str, object] = {}
    for key, item in value.items():
        other = default.get(key)
        if isinstance(item, dict) and isinstance(other, dict) and key != "physical":
            inner = _difference(item, other)
            if inner:
                changed[key] = inner
        elif item != other:
            changed[key] = item
    return changed


def _toml(plain: dict[str, object], path: tuple[str, ...] = ()) -> str:
    lines = [
        f"{key} = {_value(value)}" for key, value in plain.items() if not isinstance(value, dict) and value is not None
    ]
    head = [f"[{'.'.join(path)}]"] if path and lines else []
    text = "\n".join(head + lines) + ("\n" if lines else "")
    for key, value in plain.items():
        if isinstance(value, dict):
            text += ("\n" if text else "") + _toml(value, (*path, key))
    return text


def _value(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_value(item)}" for key, item in value.items() if item is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    return msgspec.json.encode(value).decode()
