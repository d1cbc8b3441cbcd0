"""The settings of ``mq9 serve``, declared once for its options, its variables and its file.

A value comes from the first of these that gives it: an option of the command line, an environment
variable (``MQ9_MAX_BYTES`` for ``max_bytes``), the configuration file, the default.
"""

from __future__ import annotations

import dataclasses
import logging
import os
import pkgutil
import ssl
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from mq9.address import shown
from mq9.dialects import Dialects
from mq9.discovery.embeddings import Embeddings, checked, default_embeddings
from mq9.engine.commands import Limits
from mq9.errors import InvalidRequest
from mq9.http import is_loopback
from mq9.protocol.address_patterns import AddressPatterns
from mq9.protocol.headers import PayloadEncoding
from mq9.server.limits import ServerLimits, SnapshotLimits
from mq9.server.users import Guard, OpenGuard, Users
from mq9.storage.store import Durability

logger = logging.getLogger("mq9.broker")

PREFIX = "MQ9_"
_STORED = Limits()
_NETWORK = ServerLimits()
_LOG = SnapshotLimits()


def _words(value: object) -> object:
    """Split the value of a variable at white space; keep lists."""
    return value.split() if isinstance(value, str) else value


Count = Annotated[int, Field(ge=1)]
Unread = Annotated[int, Field(ge=65_536)]
Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]


class ServerSettings(BaseSettings):
    """The settings of a server. A field's ``title`` is the placeholder of its value."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    config: Path | None = Field(
        None, description="TOML file of these options, such as max-bytes = 1_000_000."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        4222, ge=0, le=65535, title="PORT", description="Port to listen on. 0: any free port."
    )
    data: Path | None = Field(None, description="File of the mail.  [default: one per user]")
    memory: bool = Field(False, description="Keep the mail in memory only.")
    cluster: SecretStr | None = Field(
        None,
        title="URL",
        description="NATS servers with JetStream that store the mail. This server becomes one of "
        "their gateways. With --port it also accepts direct connections.",
    )
    reply_prefix: Names = Field(
        ("_INBOX.",),
        title="PREFIX",
        description="Prefix of the reply subjects of a cluster's clients. Repeatable.",
    )
    snapshot_records: int = Field(
        _LOG.snapshot_records,
        ge=1_000,
        le=10_000_000,
        description="Records of a cluster's log until the next snapshot.",
    )
    snapshot_bytes: int = Field(
        _LOG.snapshot_bytes,
        ge=1024 * 1024,
        description="Bytes of a cluster's log until the next snapshot.",
    )
    snapshot_age: float = Field(
        _LOG.snapshot_age,
        ge=60,
        le=365 * 86_400,
        allow_inf_nan=False,
        title="SECONDS",
        description="Age of a cluster's oldest record until the next snapshot.",
    )
    durability: Durability = Field(
        Durability.NORMAL,
        description="normal: answered mail survives a killed server. full: a power failure also.",
    )
    auth_token: SecretStr | None = Field(
        None,
        description="Token that clients must send. Use the variable: other users of this machine "
        "see the command line.",
    )
    users: Path | None = Field(
        None, description="TOML file of users, and the agents that they are."
    )
    tls_cert: Path | None = Field(None, description="Certificate chain in PEM.")
    tls_key: Path | None = Field(None, description="Key of the certificate in PEM.")
    insecure: bool = Field(False, description="Accept clients of other machines without a login.")
    admin_host: str = Field("127.0.0.1", description="Address of metrics and health.")
    admin_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        title="PORT",
        description="Port of metrics and health. 0: any free port.  [default: 9090 if it is free]",
    )
    admin: bool = Field(True, description="Serve metrics and health.")
    admin_allow_host: Names = Field(
        (),
        title="NAME",
        description="Host name under which metrics and health may be called. Repeatable.",
    )
    metrics_mailbox: Names = Field(
        (),
        title="PATTERN",
        description="Mailboxes with metrics of their own, such as team.*. Repeatable.",
    )
    max_metrics_mailboxes: Annotated[Count, Field(le=1_000)] = Field(
        100, description="Most mailboxes with metrics of their own, the first by address."
    )
    mcp: bool = Field(False, description="Also serve MCP, at /mcp of the admin port.")
    mcp_agent: str | None = Field(
        None,
        title="NAME",
        description="Agent of MCP clients. With --users, their tokens decide.",
    )
    mcp_allow_host: Names = Field(
        (),
        title="NAME",
        description="Host name under which MCP may be called. Repeatable.",
    )
    mcp_allow_origin: Names = Field(
        (), title="ORIGIN", description="Web origin that may call MCP. Repeatable."
    )
    desk: bool = Field(False, description="Also serve the desk, at /desk of the admin port.")
    desk_as: str | None = Field(
        None, title="NAME", description="Person at the desk. With --users, people log in."
    )
    payload_encoding: PayloadEncoding = Field(
        PayloadEncoding.AUTO,
        description="Encoding of bodies for clients that do not choose one. auto: recognize the "
        "client.",
    )
    dialects: Dialects = Field(
        Dialects.ALL,
        description="Generations of the protocol to serve. older-sdks: answer every client as "
        "robustmq 1.0 if it may be one.",
    )
    embeddings: str | None = Field(
        None,
        title="MODULE:NAME",
        description="Model for the search by meaning.  [default: WordLlama, if installed]",
    )
    max_connections: Count = Field(
        _NETWORK.max_connections, description="Most clients at the same time."
    )
    max_pending: Unread = Field(_NETWORK.max_pending, description="Most unread bytes of a client.")
    max_agent_pending: Unread = Field(
        _NETWORK.max_agent_pending,
        description="Most unread bytes of all clients of an agent.",
    )
    max_total_pending: Unread = Field(
        _NETWORK.max_total_pending, description="Most unread bytes of all clients."
    )
    max_mailboxes: Count = Field(_STORED.max_mailboxes, description="Most mailboxes.")
    max_messages: Count = Field(_STORED.max_messages, description="Most messages in a mailbox.")
    max_bytes: Count = Field(_STORED.max_bytes, description="Most bytes in a mailbox.")
    max_payload: Annotated[Count, Field(le=64 * 1024 * 1024)] = Field(
        _STORED.max_payload, description="Most bytes in a message."
    )
    max_agents: Count = Field(_STORED.max_agents, description="Most registered agents.")
    max_ids: Count = Field(
        _STORED.max_ids, description="Most idempotency ids in a mailbox, kept for 7 days."
    )
    drain: float = Field(
        10.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Time to finish requests after a signal.",
    )
    log_level: str = Field("info", description="debug, info, warning, error or critical.")
    log_format: str = Field("text", description="text or json, on standard error.")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _refusal(error, values) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return where values come from, the first before the others."""
        return init_settings, env_settings, _ConfigFile(settings_cls)

    @property
    def limits(self) -> Limits:
        """Limits of the broker."""
        return Limits(**self._named_as(Limits))

    @property
    def server_limits(self) -> ServerLimits:
        """Limits of the network."""
        return ServerLimits(**self._named_as(ServerLimits))

    @property
    def snapshot_limits(self) -> SnapshotLimits:
        """Limits of a cluster's log."""
        return SnapshotLimits(**self._named_as(SnapshotLimits))

    def _named_as(self, limits: type) -> dict[str, Any]:
        """Return the settings that are fields of a dataclass."""
        names = {field.name for field in dataclasses.fields(limits)} & set(type(self).model_fields)
        return {name: getattr(self, name) for name in names}

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.data is not None and self.data.parts[:1] and self.data.parts[0].endswith(":"):
            # A path drops a slash of the URL.
            raise InvalidRequest(f"data: {self.data} is a URL; give the path of a file")
        if self.memory and self.data is not None:
            raise InvalidRequest(f"memory: give either --memory or --data, which is {self.data}")
        if self.cluster is not None and self.memory:
            raise InvalidRequest("memory: a gateway of a cluster keeps its copy in a file")
        if self.cluster is not None and self.durability is not Durability.NORMAL:
            raise InvalidRequest("durability: the log of a cluster decides it, not its gateways")
        for name in ("reply_prefix", *self._named_as(SnapshotLimits)):
            if self.cluster is None and name in self.model_fields_set:
                raise InvalidRequest(f"{option(name)}: it is for gateways; give --cluster, too")
        if self.auth_token is not None and self.users is not None:
            raise InvalidRequest("users: give either a users file or an auth token")
        if (self.tls_cert is None) != (self.tls_key is None):
            raise InvalidRequest("tls-key: TLS needs both a certificate and its key")
        if self.memory and self.durability is not Durability.NORMAL:
            raise InvalidRequest("durability: what is kept in memory survives nothing")
        AddressPatterns("metrics-mailbox", self.metrics_mailbox)
        self._check_mcp()
        self._check_desk()
        if not self.insecure:
            self._check_access()
        return self

    def _check_mcp(self) -> None:
        if not self.mcp:
            if self.mcp_agent is not None:
                raise InvalidRequest(f"mcp-agent: {self.mcp_agent!r} is for --mcp")
            return
        if not self.admin:
            raise InvalidRequest("mcp: it is served on the admin port, and there is none")
        if (self.users is None) == (self.mcp_agent is None):
            raise InvalidRequest(
                "mcp: say who MCP clients are, by --users, whose tokens they then need, or by "
                "--mcp-agent NAME, which all of them are"
            )
        if self.auth_token is not None:
            raise InvalidRequest(
                "mcp: with --auth-token MCP clients would come in without it; use --users"
            )

    def _check_desk(self) -> None:
        if not self.desk:
            if self.desk_as is not None:
                raise InvalidRequest(f"desk-as: {self.desk_as!r} is for --desk")
            return
        if not self.admin:
            raise InvalidRequest("desk: it is served on the admin port, and there is none")
        if self.auth_token is not None:
            raise InvalidRequest("desk: an auth token does not say who somebody is; use --users")
        if (self.users is None) == (self.desk_as is None):
            raise InvalidRequest(
                "desk: say whose desk it is by --desk-as NAME, or give --users, who then log in"
            )
        if self.users is None and not is_loopback(self.admin_host):
            raise InvalidRequest(
                f"desk: {self.admin_host} can be reached from other machines; give --users, who "
                "then log in"
            )

    def _check_access(self) -> None:
        """Refuse what lets anybody in from other machines."""
        if not is_loopback(self.host) and self.auth_token is None and self.users is None:
            raise InvalidRequest(
                f"host: {self.host} can be reached from other machines, and anybody would be let "
                "in; ask for a token (--auth-token) or for users (--users), or say --insecure"
            )
        if self.admin and not is_loopback(self.admin_host):
            raise InvalidRequest(
                f"admin-host: {self.admin_host} can be reached from other machines, and metrics "
                "ask for no password; say --insecure if that is meant"
            )

    def embedder(self) -> Embeddings | None:
        """Return what finds agents by meaning, if there is anything."""
        if self.embeddings is None:
            return default_embeddings()
        try:
            found = pkgutil.resolve_name(self.embeddings)
            made = found() if isinstance(found, type) else found
        except (ImportError, AttributeError, ValueError, TypeError) as error:
            raise InvalidRequest(f"embeddings: {self.embeddings!r}: {error}") from error
        return checked("embeddings", made)

    def warn_of_secrets(self) -> None:
        """Log a warning if others can read secrets in the configuration file."""
        path = self.config
        if path is None or not {"auth_token", "cluster"} & _ConfigFile.read(path).keys():
            return
        if os.name == "posix" and path.stat().st_mode & 0o077:
            logger.warning("%s holds secrets and others may read it; chmod 600 it", path)

    def guard(self) -> Guard:
        """Return what decides who may connect."""
        if self.users is not None:
            return Users.from_file(self.users)
        if self.auth_token is not None:
            return Users.with_token(self.auth_token.get_secret_value())
        return OpenGuard()

    def tls(self) -> ssl.SSLContext | None:
        """Return what to encrypt with, if with anything."""
        if self.tls_cert is None or self.tls_key is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            raise InvalidRequest(
                f"tls-cert: {self.tls_cert} and {self.tls_key} cannot be used: {error}"
            ) from None
        return context


class _ConfigFile(PydanticBaseSettingsSource):
    """The file that ``config`` names. Unlike that of pydantic-settings, it has to be there."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return no value: all of them are returned at once."""
        return None, field_name, False

    def __call__(self) -> dict[str, Any]:
        """Return the values by the names of the fields."""
        path = self.current_state.get("config")
        return self.read(Path(path)) if isinstance(path, str | Path) else {}

    @staticmethod
    def read(path: Path) -> dict[str, Any]:
        """Return the values of a file by the names of the fields."""
        try:
            table = tomllib.loads(path.read_text("utf-8"))
        except OSError as error:
            raise InvalidRequest(f"config: {path} cannot be read: {error.strerror}") from None
        except ValueError as error:  # not TOML, or not UTF-8
            raise InvalidRequest(f"config: {path} is not TOML: {error}") from None
        known = {option(name): name for name in ServerSettings.model_fields if name != "config"}
        for key in table:
            if key not in known:
                raise InvalidRequest(
                    f"config: {path} has {shown(key)}, which is none of {', '.join(known)}"
                )
        return {known[key]: value for key, value in table.items()}


def option(name: str) -> str:
    """Return the name of a field on the command line and in the file: ``max-bytes``."""
    return name.replace("_", "-")


def variable(name: str) -> str:
    """Return the environment variable of a field: ``MQ9_MAX_BYTES``."""
    return f"{PREFIX}{name.upper()}"


def _refusal(error: ValidationError, given: dict[str, Any]) -> InvalidRequest:
    """Return the first thing that is wrong, with the place where it stands."""
    first = error.errors()[0]
    raised = first.get("ctx", {}).get("error")
    if isinstance(raised, InvalidRequest):
        return raised
    name = str(first["loc"][0])
    if name in given or name not in ServerSettings.model_fields:
        where = option(name)
    elif os.environ.get(variable(name)):
        where = variable(name)
    else:
        where = f"{option(name)} in the configuration file"
    value = "" if name in {"auth_token", "cluster"} else f" {shown(first['input'])}:"
    return InvalidRequest(f"{where}:{value} {first['msg'][:1].lower()}{first['msg'][1:]}")
