"""The configuration: every key, every rule, and where values come from."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from daemon import paths
from daemon.config import Config, address, load, missing_folders, read
from daemon.documents import Document
from daemon.errors import ConfigError
from daemon.folders import unusable

PASSWORD = "correct-horse"


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


class Files:
    def __init__(self, place: Path) -> None:
        self.place = place
        self.photos = place / "photos"
        self.photos.mkdir()
        self.file = place / "lookalike.yaml"

    def load(self, text: str, *folders: Path, **environment: str) -> Config:
        self.file.write_text(text)
        return load(self.file, folders or (self.photos,), environment)

    def refused(self, text: str, *folders: Path, named: bool = True, **environment: str) -> tuple[str, ...]:
        self.file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load(self.file, folders or ((self.photos,) if named else ()), environment)
        assert caught.value.source in {str(self.file), "the configuration"}
        assert PASSWORD not in str(caught.value)
        return caught.value.problems


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def keys(model: type[BaseModel]) -> dict[str, Any]:
    """Return every key below a model with its default, as the shipped file writes it."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        default = field.get_default(call_default_factory=True)
        if isinstance(default, BaseModel):
            found[name] = keys(type(default))
        else:
            found[name] = list(default) if isinstance(default, tuple) else default
    return found


def test_the_shipped_file_has_every_key_with_its_default_and_nothing_else() -> None:
    document = Document.read(paths.shipped("lookalike.yaml"))
    expected = keys(Config)
    for key in ("data_dir", "cache_dir", "runtime_dir"):
        assert expected[key] == getattr(paths, key)()
        expected[key] = None
    assert expected["models"] == ["efficientnet-lite0", "words"]
    expected["models"] = None
    assert document.problems == []
    assert document.data == expected


def test_the_shipped_file_means_the_same_to_every_yaml_reader_and_is_the_defaults(files: Files) -> None:
    text = paths.shipped("lookalike.yaml").read_text()
    assert yaml.safe_load(text) == Document("shipped", text).data
    assert files.load(text) == files.load("")


def test_the_shipped_file_names_every_variable_of_the_environment_and_every_credential() -> None:
    from daemon.config import CREDENTIALS, ENVIRONMENT

    text = paths.shipped("lookalike.yaml").read_text()
    assert all(variable in text for variable in (*ENVIRONMENT, *CREDENTIALS))


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    config = load(None, (tmp_path / "photos",), {})
    assert config.folders[0].path == tmp_path / "photos"
    assert config.folders[0].watch == "auto"
    assert config.data_dir == tmp_path / "home/.local/share/lookalike"
    assert config.cache_dir == tmp_path / "home/.cache/lookalike"
    assert config.socket_path == tmp_path / "run/lookalike/lookalike.sock"


def test_a_key_without_a_value_has_its_default(files: Files) -> None:
    names = "\n".join(f"{key}:" for key in Config.model_fields)
    assert files.load(names) == files.load("")
    assert files.load("watch:\n  # settle_seconds: 2\n") == files.load("")


def test_an_unknown_key_without_a_value_is_still_refused(files: Files) -> None:
    assert files.refused("wacth:") == ("At 'wacth' (line 1): this key is not known; remove it, or check its spelling",)


def test_all_problems_are_told_at_once_with_their_lines(files: Files) -> None:
    text = """\
library: Photos
library: photos
models: []
watch:
  settle_secnods: 2
  poll_seconds: 0
  max_delete_ratio: 1.5
folders:
- /mnt/a
- path: /mnt/b
  watch: sometimes
milvus:
  index: FLATT
log: {level: loud}
"""
    assert files.refused(text, named=False) == (
        "At 'library' (line 2): this key was already given on line 1",
        "At 'folders[1].watch' (line 11): should be 'auto', 'events' or 'poll'",
        "At 'models' (line 3): should name at least one model",
        "At 'milvus.index' (line 13): should be 'auto', 'FLAT', 'IVF_FLAT' or 'HNSW'",
        "At 'watch.poll_seconds' (line 6): should be greater than or equal to 1",
        "At 'watch.max_delete_ratio' (line 7): should be less than or equal to 1",
        "At 'watch.settle_secnods' (line 5): this key is not known; remove it, or check its spelling",
        "At 'log.level' (line 14): should be 'debug', 'info', 'warning' or 'error'",
    )


@pytest.mark.parametrize(
    "text",
    [
        "library: 9photos", "library: a-b", "library: ''", f"library: {'a' * 33}", "library: 7",
        "models: efficientnet-lite0", "data_dir: ''", "data_dir: 7", 'data_dir: "a\\0b"', "data_dir: ~nobody-at-all/x",
        "socket: ''", "redis: redis://host", "redis: {url: ''}", "redis: {url: localhost:6379}", "milvus: {uri: ''}",
        "milvus: {uri: ./milvus.db}", "milvus: {uri: /var/milvus.db}", "milvus: {timeout_seconds: 0}",
        "watch: {settle_seconds: -1}", "watch: {settle_seconds: .nan}", "watch: {settle_seconds: 3601}", "watch: {settle_seconds: no}",
        "watch: {pause_seconds: 61}", "watch: {rescan_seconds: 0.5}", "watch: {max_pending: 0}", "watch: {max_pending: 1.5}",
        "watch: {ignore: .*}", "watch: {ignore: [7]}", "watch: {max_delete_ratio: -0.1}", "watch: {max_delete_count: -1}",
        "watch: [settle_seconds]", "watch: 12:30:45",
        "limits: {max_file_bytes: 0}", "limits: {max_pixels: 0}", "encode: {threads: 257}", "encode: {threads: -1}",
        "encode: {batch_photos: 0}", "encode: {queue_mebibytes: 0}", "search: {limit: 0}", "search: {max_limit: 16385}",
        "search: {limit: 20, max_limit: 10}", "log: {level: 3}", "log: debug",
    ],
)  # fmt: skip
def test_a_value_outside_of_its_rule_is_one_problem_on_its_line(files: Files, text: str) -> None:
    (problem,) = files.refused(text)
    assert problem.startswith("At '")
    assert "(line 1)" in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models: words", "At 'models' (line 1): should be a list of names, such as [words]"),
        ("models: ''", "At 'models' (line 1): should be a list of names, such as [efficientnet-lite0]"),
        ("models: []", "At 'models' (line 1): should name at least one model"),
        ("models: {words: 1}", "At 'models' (line 1): should be a list"),
        ("models: [words, 7]", "At 'models[1]' (line 1): should be a text"),
        ("models: [words, '']", "At 'models[1]' (line 1): should be a model's name, or the path of its spec; it is empty"),
        ("models: [~nobody-at-all/x]", "At 'models[0]' (line 1): should begin with a home directory that is known; ~nobody-at-all is not"),
        ("models: [words, words]", "At 'models' (line 1): should name each model once; words is named twice"),
        ("watch: {ignore: .*}", "At 'watch.ignore' (line 1): should be a list"),
        ("encode: {provider_options: 7}", "At 'encode.provider_options' (line 1): should be a mapping of keys to values"),
    ],
)  # fmt: skip
def test_what_should_be_a_list_is_said_in_words_of_yaml(files: Files, text: str, said: str) -> None:
    assert files.refused(text) == (said,)


def test_what_the_command_line_says_is_not_blamed_on_the_file(files: Files) -> None:
    files.file.write_text("library: photos\nmodels: [words]\nfolders: [/mnt/nas]\n")
    with pytest.raises(ConfigError) as caught:
        load(files.file, (files.photos, files.photos), {}, models=("words", "words"))
    assert str(caught.value) == (
        "the configuration cannot be used:\n  On the command line, --model: should name each model once; words is named twice"
    )
    with pytest.raises(ConfigError) as caught:
        load(files.file, (files.photos, files.photos), {})
    assert caught.value.problems == (f"On the command line: {files.photos} is named twice",)
    with pytest.raises(ConfigError) as caught:
        load(files.file, (), {"LOOKALIKE_MILVUS_URI": "./milvus.db"})
    (problem,) = caught.value.problems
    assert problem.startswith("In LOOKALIKE_MILVUS_URI: should be the address of a server")


def test_the_file_is_named_when_it_is_wrong_as_well(files: Files) -> None:
    files.file.write_text("library: photos\nflavour: mild\n")
    with pytest.raises(ConfigError) as caught:
        load(files.file, (files.photos,), {}, models=("words", "words"))
    assert caught.value.source == str(files.file)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "On the command line, --model",
        "At 'flavour' (line 2)",
    ]


def test_a_spec_s_path_starts_at_the_file_that_names_it(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = files.place / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    text = "models: [words, ./specs/a.yaml, ../b.yaml, ~/c.yaml, /d.yaml]"
    assert files.load(text).models == (
        "words", f"{files.place}/specs/a.yaml", f"{files.place.parent}/b.yaml", f"{files.place}/home/c.yaml", "/d.yaml",
    )  # fmt: skip
    monkeypatch.chdir(files.place)
    assert load(Path("lookalike.yaml"), (files.photos,), {}).models[1] == f"{files.place}/specs/a.yaml"


def test_a_spec_s_path_on_the_command_line_starts_where_one_is(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = files.place / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    files.file.write_text("models: [./a.yaml]")
    assert load(files.file, (files.photos,), {}, models=("./b.yaml",)).models == (f"{elsewhere}/b.yaml",)
    assert load(None, (files.photos,), {}, models=("~/b.yaml",)).models == (f"{files.place}/home/b.yaml",)


def test_two_paths_of_one_spec_are_one_model(files: Files) -> None:
    (problem,) = files.refused("models: [./a.yaml, ./specs/../a.yaml]")
    assert problem.endswith(f"should name each model once; {files.place}/a.yaml is named twice")


def test_models_are_known_whatever_else_is_wrong(files: Files) -> None:
    files.file.write_text("library: UPPER\nmodels:\n- words\n- 7\n- ./a.yaml\n- words\nwatch: {poll: 1}\n")
    reading = read(files.file, (), {})
    assert reading.models == ((("models", 0), "words"), (("models", 2), f"{files.place}/a.yaml"))
    assert [key for key in Config.model_fields if reading.is_wrong(key)] == ["library", "models", "watch"]
    assert reading.config.library == "default"


def test_a_file_without_folders_can_be_read_where_nothing_is_watched(files: Files) -> None:
    files.file.write_text("models: [words]\n")
    assert read(files.file, (), {}, watching=False).refusal() is None
    assert read(files.file, (), {}).refusal() is not None


@pytest.mark.parametrize(
    "folder",
    ["7", "[a]", "{watch: poll}", "{path: /a, colour: red}", "''", '"a\\0b"', "~nobody-at-all/x", "~", "{path: ''}"],
)
def test_a_folder_that_is_none_is_refused_with_its_line(files: Files, folder: str) -> None:
    (problem,) = files.refused(f"folders:\n- {folder}\n", named=False)
    assert problem.startswith("At 'folders[0]")
    assert "(line 2)" in problem


def test_folders_are_paths_or_mappings_and_paths_are_made_whole(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files.place)
    files.file.write_text("folders:\n- ~/Pictures\n- here/../there/\n- path: /mnt/nas\n  watch: poll\n- no\n")
    config = load(files.file, (), {})
    assert [str(folder.path) for folder in config.folders] == [
        f"{files.place}/home/Pictures", f"{files.place}/there", "/mnt/nas", f"{files.place}/no",
    ]  # fmt: skip
    assert [folder.watch for folder in config.folders] == ["auto", "auto", "poll", "auto"]


def test_folders_of_the_command_line_stand_in_place_of_the_file_s(files: Files) -> None:
    config = files.load("folders: [/mnt/other]\n", files.photos)
    assert [folder.path for folder in config.folders] == [files.photos]


def test_a_folder_s_name_may_be_any_bytes(files: Files) -> None:
    name = os.fsdecode(os.fsencode(files.photos) + b"/\xff")
    assert os.fsencode(files.load("", Path(name)).folders[0].path).endswith(b"\xff")


@pytest.mark.parametrize("text", ["", "folders: []", "folders:", "search: {limit: 7}"])
def test_without_a_folder_there_is_nothing_to_do(files: Files, text: str) -> None:
    assert files.refused(text, named=False) == (
        "there is no folder to watch; name one on the command line or under 'folders'",
    )


def test_a_folder_in_another_one_or_named_twice_is_refused(files: Files) -> None:
    (files.place / "link").symlink_to(files.photos)
    text = f"folders:\n- {files.photos}\n- {files.photos}/2024\n- {files.place}/link\n- {files.photos}2\n"
    assert files.refused(text, named=False) == (
        f"At 'folders[1]' (line 3): {files.photos}/2024 lies inside {files.photos}, which is watched already",
        f"At 'folders[1]' (line 3): {files.photos}/2024 lies inside {files.place}/link, which is watched already",
        f"At 'folders[2]' (line 4): {files.place}/link is named twice",
    )


@pytest.mark.parametrize("key", ["data_dir", "cache_dir", "runtime_dir"])
def test_a_folder_in_a_directory_of_ours_is_refused(files: Files, key: str) -> None:
    for own in (files.place, files.photos):
        problems = files.refused(f"{key}: {own}\nfolders: ['{files.photos}']\n", named=False)
        assert (
            f"{files.photos} lies in {key} ({own}), where lookaliked keeps its own files; watch another folder"
            in problems[0]
        )


@pytest.mark.parametrize("key", ["data_dir", "cache_dir", "runtime_dir", "socket"])
def test_a_place_of_ours_in_a_folder_is_refused_unless_it_is_left_alone(files: Files, key: str) -> None:
    inside = files.photos / "a" / "b"
    (problem,) = files.refused(f"{key}: {inside}\n")
    assert (
        f"{key} ({inside}) lies inside {files.photos}, where nothing may be written; set {key} to a place outside"
        in problem
    )
    assert files.load(f"{key}: {files.photos}/.lookalike/b\n")
    assert files.load(f"{key}: {files.photos}/a/@eaDir/b\n")
    assert "nothing may be written" in files.refused(f"{key}: {files.photos}/.lookalike/b\nwatch: {{ignore: []}}\n")[0]


def test_a_link_does_not_hide_where_a_directory_lies(files: Files) -> None:
    (files.place / "link").symlink_to(files.photos)
    assert "nothing may be written" in files.refused(f"data_dir: {files.place}/link/data\n")[0]


def test_the_home_directory_can_be_watched_with_our_directories_hidden_in_it(files: Files) -> None:
    home = files.place / "home"
    home.mkdir()
    assert files.load("", home).folders[0].path == home


def test_the_environment_stands_over_the_file(files: Files) -> None:
    text = "redis: {url: 'redis://file'}\nmilvus: {uri: 'http://file', timeout_seconds: 3}\ndata_dir: /file\nsocket: /file.sock\n"
    config = files.load(
        text,
        LOOKALIKE_REDIS_URL="rediss://:secret@environment/2",
        LOOKALIKE_MILVUS_URI="https://environment",
        LOOKALIKE_MILVUS_TOKEN="root:milvus",
        LOOKALIKE_DATA_DIR="~/environment",
        LOOKALIKE_SOCKET="/environment.sock",
    )
    assert config.redis.url == SecretStr("rediss://:secret@environment/2")
    assert (config.milvus.uri, config.milvus.timeout_seconds) == ("https://environment", 3)
    assert config.milvus.token == SecretStr("root:milvus")
    assert config.data_dir == files.place / "home/environment"
    assert config.socket_path == Path("/environment.sock")


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    directory = tmp_path / "credentials"
    directory.mkdir()
    return directory


def test_credentials_stand_over_the_file_and_below_the_environment(files: Files, credentials: Path) -> None:
    files.file.write_text(
        f"folders: [{files.photos}]\nredis: {{url: redis://file}}\nmilvus: {{uri: http://file, token: file}}\n"
    )
    (credentials / "redis-url").write_text("redis://credential\n")
    (credentials / "milvus-token").write_text("credential")
    (credentials / "api-token").write_text("0123456789abcdef\n")
    (credentials / "milvus-uri").write_text("\n")
    environment = {"CREDENTIALS_DIRECTORY": str(credentials), "LOOKALIKE_MILVUS_TOKEN": "environment"}
    config = load(files.file, (), environment)
    assert config.redis.url is not None
    assert config.redis.url.get_secret_value() == "redis://credential"
    assert config.milvus.uri == "http://file"
    assert config.milvus.token is not None
    assert config.milvus.token.get_secret_value() == "environment"
    assert config.api.token is not None
    assert config.api.token.get_secret_value() == "0123456789abcdef"


def test_a_credential_that_is_refused_is_named_and_not_shown(files: Files, credentials: Path) -> None:
    (credentials / "redis-url").write_text("http://:hunter2@host")
    with pytest.raises(ConfigError) as caught:
        load(None, (files.photos,), {"CREDENTIALS_DIRECTORY": str(credentials)})
    (problem,) = caught.value.problems
    assert problem.startswith("In the credential redis-url: should be a URL")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_a_credential_that_cannot_be_read_is_a_bad_configuration(
    files: Files, credentials: Path, content: bytes | None
) -> None:
    path = credentials / "milvus-token"
    path.mkdir() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigError, match="the credential milvus-token cannot be read: "):
        load(None, (files.photos,), {"CREDENTIALS_DIRECTORY": str(credentials)})


def test_empty_variables_say_nothing(files: Files) -> None:
    assert files.load("data_dir: /file", LOOKALIKE_DATA_DIR="", LOOKALIKE_REDIS_URL="").data_dir == Path("/file")


def test_the_environment_of_the_process_is_read(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOOKALIKE_DATA_DIR", "/environment")
    assert load(None, (files.photos,)).data_dir == Path("/environment")


@pytest.mark.parametrize("section", [PASSWORD, f"[{PASSWORD}]", "7"])
def test_a_section_that_is_none_is_refused_with_a_variable_over_it_as_without(files: Files, section: str) -> None:
    environments: tuple[dict[str, Any], ...] = ({}, {"LOOKALIKE_REDIS_URL": "redis://host"})
    for environment in environments:
        (problem,) = files.refused(f"redis: {section}", **environment)
        assert problem.startswith("At 'redis' (line 1): should be a mapping of keys to values")


def test_secrets_are_never_shown(files: Files) -> None:
    config = files.load(f"milvus: {{token: 'root:{PASSWORD}'}}", LOOKALIKE_REDIS_URL=f"redis://:{PASSWORD}@host")
    for shown in (repr(config), str(config), config.model_dump_json(), repr(config.redis), str(config.milvus)):
        assert PASSWORD not in shown
    assert config.redis.url is not None
    assert PASSWORD in config.redis.url.get_secret_value()


def test_secrets_that_are_refused_are_not_shown_either(files: Files) -> None:
    for text in (
        f"redis: {{url: '{PASSWORD}@host'}}",
        f"milvus: {{token: [{PASSWORD}]}}",
        f"redis: {{password: {PASSWORD}}}",
    ):
        files.refused(text)
    with pytest.raises(ValidationError) as caught:
        Config.model_validate({"redis": {"url": PASSWORD}, "milvus": f"http://{PASSWORD}@host"})
    assert PASSWORD not in str(caught.value)


def test_a_configuration_cannot_be_changed(files: Files) -> None:
    config = files.load("")
    with pytest.raises(ValidationError):
        config.watch.settle_seconds = 5.0  # type: ignore[misc]


def test_a_disk_that_comes_later_is_no_reason_not_to_start(files: Files) -> None:
    absent = files.place / "absent"
    config = files.load("", files.photos, absent)
    assert missing_folders(config) == [(("folders", 1), f"{absent} does not exist")]


def test_why_a_folder_cannot_be_used_is_a_sentence(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    (files.place / "file").write_text("")
    (files.place / "loop").symlink_to(files.place / "loop")
    assert unusable(files.photos) == ""
    assert unusable(files.place / "file") == f"{files.place}/file is not a folder"
    assert unusable(files.place / "file" / "x") == f"{files.place}/file/x does not exist"
    assert "too many levels of symbolic links" in unusable(files.place / "loop")
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert unusable(files.photos) == f"{files.photos} cannot be read by this user"


def test_a_folder_below_a_directory_that_may_not_be_entered_is_a_sentence_too(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(os, "stat", refuse)
    assert unusable(files.photos) == f"{files.photos} cannot be read by this user: permission denied"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("api: {listen: '127.0.0.1:8077'}", "api.listen needs a token"),
        (
            "api: {listen: '127.0.0.1:8077', token: short}",
            "At 'api.token' (line 1): should have 16 characters at least",
        ),
        (
            "api: {listen: '127.0.0.1:8077', token: 'with a blank in its middle'}",
            "At 'api.token' (line 1): should have",
        ),
        ("api: {listen: '127.0.0.1'}", "At 'api.listen' (line 1): should be an IP address and a port"),
        ("api: {listen: 'nas.local:80'}", "At 'api.listen' (line 1): should be an IP address and a port"),
        ("api: {listen: '127.0.0.1:0'}", "At 'api.listen' (line 1): should end in a port"),
        ("api: {listen: '127.0.0.1:65536'}", "At 'api.listen' (line 1): should end in a port"),
        ("api: {listen: '0.0.0.0:80', token: 0123456789abcdefg}", "At 'api.listen' (line 1): an address that other"),
        ("api: {certificate: /c.pem}", "a certificate and its key are named together"),
        ("api: {key: /k.pem}", "a certificate and its key are named together"),
    ],
)
def test_tcp_that_would_let_strangers_in_is_refused(files: Files, text: str, problem: str) -> None:
    (found,) = files.refused(text)
    assert problem in found


def test_tcp_on_this_machine_takes_a_token_and_elsewhere_a_certificate_too(files: Files) -> None:
    token = "0123456789abcdef"
    for host in ("127.0.0.1", "localhost", "[::1]"):
        config = files.load(f"api: {{listen: '{host}:8077'}}", LOOKALIKE_API_TOKEN=token)
        assert config.api.token == SecretStr(token)
        assert config.api.listen is not None
        assert address(config.api.listen).port == 8077
    files.load("api: {listen: '192.0.2.1:443', certificate: /c.pem, key: /k.pem}", LOOKALIKE_API_TOKEN=token)


@pytest.mark.parametrize("text", ["data_dir: /data\n", "data_dir: /data\ncache_dir:\n"])
def test_without_a_home_directory_the_cache_lies_in_the_data_directory_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file = tmp_path / "lookalike.yaml"
    file.write_text(text)
    for variable in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME", "CACHE_DIRECTORY", "STATE_DIRECTORY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 54321)
    assert load(file, environment={}, watching=False).cache_dir == Path("/data/cache")
    assert load(None, environment={"LOOKALIKE_DATA_DIR": "/given"}, watching=False).cache_dir == Path("/given/cache")


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (
            "private/",
            "should be a shell pattern for one name, and not for a path: no name holds a /; 'private' leaves ",
        ),
        (
            "/a/b",
            "should be a shell pattern for one name, and not for a path: no name holds a /; 'b' leaves every file ",
        ),
        ("**/*.png", "should be a shell pattern for one name, and not for a path: no name holds a /; '*.png' leaves "),
        ("/", "should be a shell pattern for one name, and not for a path: no name holds a /"),
        ("", "should be a shell pattern for a name; no file has such a name"),
    ],
)
def test_a_pattern_that_no_name_can_match_is_refused(files: Files, pattern: str, said: str) -> None:
    (refusal,) = files.refused(f"watch: {{ignore: ['.*', '{pattern}']}}")
    assert refusal.startswith(f"At 'watch.ignore[1]' (line 1): {said}")


def test_a_folder_has_one_form_however_it_is_written(files: Files) -> None:
    files.file.write_text("folders: [//srv//photos/, /srv/./more/../other]\n")
    assert [str(folder.path) for folder in load(files.file, (), {}).folders] == ["/srv/photos", "/srv/other"]
