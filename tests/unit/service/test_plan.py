"""What would be done to a machine, before anything is: in directories that stand for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from daemon.errors import AlreadyRunning, ConfigError, ServiceError
from daemon.index.embedded import DataLock
from daemon.service import reach
from daemon.service.carrying_out import carry_out
from daemon.service.installing import Request, plan_installation
from daemon.service.places import Places
from daemon.service.plan import Command, Plan, Writing
from daemon.service.uninstalling import plan_removal
from daemon.service.units import MARK

if TYPE_CHECKING:
    from collections.abc import Sequence

LOOKALIKED = Path("/usr/bin/env")


@pytest.fixture(autouse=True)
def _no_directory_is_private(monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's own directories are temporary ones.
    monkeypatch.setattr(reach, "PRIVATE", (Path("/nowhere"),))
    for name in [name for name in os.environ if name.startswith(("LOOKALIKE_", "XDG_"))]:
        monkeypatch.delenv(name)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    home = tmp_path / "home"
    found = Places(
        "user",
        units=home / ".config/systemd/user",
        config=home / ".config/lookalike/lookalike.yaml",
        credentials=home / ".config/lookalike/credentials",
        data_dir=home / ".local/share/lookalike",
        cache_dir=home / ".cache/lookalike",
        runtime_dir=tmp_path / "run",
    )
    monkeypatch.setenv("HOME", str(home))
    for name, value in found.variables.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "home" / "Pictures"
    path.mkdir(parents=True)
    return path


def planned(places: Places, *folders: Path, version: int = 252, **wishes: object) -> Plan:
    return plan_installation(places, Request(folders, **wishes), LOOKALIKED, version)  # type: ignore[arg-type]


def install(places: Places, *folders: Path) -> None:
    carry_out(planned(places, *folders, start=False), lambda _: None)


def names(writings: Sequence[Writing]) -> set[str]:
    return {writing.path.name for writing in writings}


def test_a_first_installation_writes_configuration_and_units_and_starts(places: Places, folder: Path) -> None:
    plan = planned(places, folder)
    assert names(plan.writings) == {"lookalike.yaml", "lookaliked.service", "lookaliked.socket", "10-installed.conf"}
    assert all(writing.is_new for writing in plan.writings)
    assert [str(command) for command in plan.commands] == [
        "systemctl --user daemon-reload",
        "systemctl --user enable lookaliked.socket lookaliked.service",
        "systemctl --user restart lookaliked.socket lookaliked.service",
    ]
    # Nothing is done by planning.
    assert [path.name for path in places.data_dir.parents[2].iterdir()] == ["Pictures"]


def test_a_dry_run_shows_every_line_of_a_new_file(places: Places, folder: Path) -> None:
    shown = list(planned(places, folder).shown())
    assert f"new file {places.config}" in shown
    assert f"    ExecStart={LOOKALIKED} run" in shown
    assert f"    ReadWritePaths=-{places.data_dir}" in shown
    assert shown[-1] == "run systemctl --user restart lookaliked.socket lookaliked.service"


def test_what_is_written_can_be_carried_out_and_is_unchanged_the_second_time(places: Places, folder: Path) -> None:
    install(places, folder)
    assert f"ReadOnlyPaths=-{folder}\n" in (places.units / "lookaliked.service.d/10-installed.conf").read_text()
    assert (places.config.stat().st_mode & 0o777, places.data_dir.stat().st_mode & 0o777) == (0o600, 0o700)
    again = planned(places)
    assert (again.changed, next(again.shown())) == ([], f"unchanged {places.config}")


def test_a_change_by_hand_is_shown_before_it_is_written_over(places: Places, folder: Path) -> None:
    install(places, folder)
    unit = places.units / "lookaliked.service"
    unit.write_text(unit.read_text().replace("Nice=10", "Nice=19"))
    (changed,) = planned(places).changed
    difference = list(changed.shown())
    assert changed.path == unit
    assert "-Nice=19" in difference
    assert "+Nice=10" in difference


def test_a_configuration_that_is_there_is_kept_and_gets_the_folder(places: Places, folder: Path) -> None:
    old = folder.parent / "Old"
    old.mkdir()
    places.config.parent.mkdir(parents=True)
    places.config.write_text(f"# mine\nfolders:\n- {old}\nlibrary: mine\n")
    (changed,) = planned(places, folder).changed
    assert changed.text == f"# mine\nfolders:\n- {folder}\n- {old}\nlibrary: mine\n"
    assert planned(places).changed == []


def test_without_a_folder_nothing_is_installed(places: Places) -> None:
    with pytest.raises(ConfigError, match="there is no folder to watch"):
        planned(places)


def test_a_configuration_that_cannot_work_is_not_installed(places: Places, folder: Path) -> None:
    places.config.parent.mkdir(parents=True)
    places.config.write_text(f"folders: [{folder}]\nflavour: mild\nmodels: [efficientnet-lite9]\n")
    with pytest.raises(ConfigError) as caught:
        planned(places)
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigError, match="does not exist"):
        planned(places, folder.parent / "nowhere")


def test_what_lies_in_a_temporary_directory_is_not_seen_by_a_service(
    places: Places, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "PRIVATE", (folder.parent,))
    with pytest.raises(ConfigError, match="does not see"):
        planned(places, folder)
    monkeypatch.setattr(reach, "PRIVATE", (LOOKALIKED.parent.resolve(),))
    with pytest.raises(ServiceError, match="python3 -m venv /opt/lookalike"):
        planned(places, folder)


@pytest.mark.parametrize(
    ("text", "drop_ins"),
    [
        ("", set()),
        ("redis: {url: unix:///run/redis.sock}\n", set()),
        ("redis: {url: 'redis://nas'}\n", {"network.conf"}),
        ("milvus: {uri: 'http://nas:19530'}\n", {"network.conf"}),
    ],
)
def test_the_network_is_opened_where_the_configuration_needs_it(
    places: Places, folder: Path, text: str, drop_ins: set[str]
) -> None:
    places.config.parent.mkdir(parents=True)
    places.config.write_text(f"folders: [{folder}]\n{text}")
    usual = {"lookalike.yaml", "lookaliked.service", "lookaliked.socket", "10-installed.conf"}
    assert names(planned(places).writings) - usual == drop_ins
    assert names(planned(places, network=True).writings) - usual == {"network.conf"}


def test_a_drop_in_that_nothing_asks_for_any_more_goes(places: Places, folder: Path) -> None:
    carry_out(planned(places, folder, network=True, start=False), lambda _: None)
    network = places.units / "lookaliked.service.d" / "network.conf"
    mine = network.with_name("gpu.conf")
    mine.write_text("[Service]\nPrivateDevices=no\n")
    plan = planned(places)
    assert plan.removals == (network,)
    assert f"delete {network}" in plan.shown()


def test_a_disk_that_is_away_is_no_reason_not_to_install(places: Places, folder: Path) -> None:
    places.config.parent.mkdir(parents=True)
    places.config.write_text(f"folders: [{folder}, {folder.parent}/away]\n")
    assert planned(places).changed == []


def test_a_credential_of_a_store_elsewhere_opens_the_network_too(places: Places, folder: Path) -> None:
    places.credentials.mkdir(parents=True)
    (places.credentials / "redis-url").write_text("redis://:secret@nas\n")
    plan = planned(places, folder)
    assert "network.conf" in names(plan.writings)
    assert "secret" not in "\n".join(plan.shown())


def test_a_systemd_that_knows_growing_pauses_gets_them(places: Places, folder: Path) -> None:
    assert "restart-back-off.conf" not in names(planned(places, folder, version=253).writings)
    assert "restart-back-off.conf" in names(planned(places, folder, version=254).writings)


def test_an_index_elsewhere_may_be_written(places: Places, folder: Path, tmp_path: Path) -> None:
    places.config.parent.mkdir(parents=True)
    places.config.write_text(f"folders: [{folder}]\ndata_dir: {tmp_path}/index\n")
    install(places)
    assert (
        f"ReadWritePaths=-{tmp_path}/index\n" in (places.units / "lookaliked.service.d/10-installed.conf").read_text()
    )
    assert (tmp_path / "index").is_dir()


def test_variables_that_say_where_things_are_go_with_the_service(
    places: Places, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/srv/ann")
    text = next(one.text for one in planned(places, folder).writings if one.path.name == "10-installed.conf")
    assert "Environment=XDG_DATA_HOME=/srv/ann\n" in text
    assert "ReadWritePaths=-/srv/ann/lookalike\n" in text


def test_without_a_start_the_commands_are_told(places: Places, folder: Path) -> None:
    plan = planned(places, folder, start=False)
    assert plan.commands == ()
    assert any("systemctl --user enable" in notice for notice in plan.notices)


def test_a_file_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    plan = Plan(writings=(Writing(tmp_path / "file" / "unit", "text", None),))
    with pytest.raises(ServiceError, match="cannot be changed"):
        carry_out(plan, lambda _: None)


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    kept = tmp_path / "dotfiles.yaml"
    kept.write_text("old")
    kept.chmod(0o640)
    link = tmp_path / "lookalike.yaml"
    link.symlink_to(kept)
    carry_out(Plan(writings=(Writing(link, "new", "old"),)), lambda _: None)
    assert link.is_symlink()
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == ("new", 0o640)


def test_a_command_that_fails_ends_it_unless_it_may() -> None:
    told: list[str] = []
    carry_out(Plan(commands=(Command(("false",), optional=True),)), told.append)
    assert told == ["running false"]
    with pytest.raises(ServiceError, match="ls --nonsense failed: ls: unrecognized option"):
        carry_out(Plan(commands=(Command(("ls", "--nonsense")),)), told.append)
    with pytest.raises(ServiceError, match="no-such-command cannot be run: No such file"):
        carry_out(Plan(commands=(Command(("no-such-command",)),)), told.append)


# Taking away


def removed(places: Places, *, purge: bool = False) -> Plan:
    plan = plan_removal(places, purge=purge, running=False)
    carry_out(plan, lambda _: None)
    return plan


def fill(places: Places) -> None:
    for path in ("valkey/appendonlydir/a.aof", "milvus/b", "logs/c", "models/clip/d", "valkey.damaged-2026/e"):
        file = places.data_dir / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    for name in ("lock", "valkey.pid"):
        (places.data_dir / name).touch()
    (places.cache_dir / "models" / "m").mkdir(parents=True)


def test_taking_the_service_away_leaves_what_it_knows(places: Places, folder: Path) -> None:
    install(places, folder)
    fill(places)
    plan = removed(places)
    assert list(places.units.iterdir()) == []
    assert places.config.is_file()
    assert (places.data_dir / "valkey").is_dir()
    assert any("--purge" in notice for notice in plan.notices)


def test_a_purge_leaves_nothing_of_ours(places: Places, folder: Path) -> None:
    install(places, folder)
    fill(places)
    (places.credentials / "milvus-token").write_text("secret")
    removed(places, purge=True)
    assert not places.data_dir.exists()
    assert not places.cache_dir.exists()
    assert not places.config.parent.exists()
    assert folder.is_dir()


def test_a_purge_leaves_a_directory_that_holds_other_things_too(places: Places, folder: Path) -> None:
    install(places, folder)
    fill(places)
    others = {places.data_dir / "taxes.pdf", places.cache_dir / "thumbnails", places.config.parent / "notes.txt"}
    for file in others:
        file.touch()
    plan = removed(places, purge=True)
    assert all(file.exists() for file in others)
    assert others.isdisjoint(plan.removals)
    # They may be models of theirs.
    assert (places.data_dir / "models" / "clip" / "d").is_file()
    assert (places.cache_dir / "models" / "m").is_dir()
    assert f"{places.data_dir} stays as it is, for it holds other things too: taxes.pdf" in plan.notices
    assert f"{places.cache_dir} stays as it is, for it holds other things too: thumbnails" in plan.notices
    assert not places.config.exists()


def test_one_directory_for_index_and_cache_is_purged_too(places: Places, folder: Path) -> None:
    install(places, folder)
    fill(places)
    places.config.write_text(f"folders: ['{folder}']\ncache_dir: '{places.data_dir}'\n")
    removed(places, purge=True)
    assert not places.data_dir.exists()


def test_a_purge_reaches_no_photo(places: Places, folder: Path) -> None:
    install(places, folder)
    places.config.write_text(f"folders: [{folder}]\ndata_dir: {folder}/index\n")
    (folder / "index" / "models").mkdir(parents=True)
    with pytest.raises((ConfigError, ServiceError), match="inside"):
        removed(places, purge=True)
    assert (folder / "index" / "models").is_dir()


def test_a_purge_waits_for_no_daemon_that_still_works(places: Places, folder: Path) -> None:
    install(places, folder)
    lock = DataLock(places.data_dir)
    lock.acquire()
    with pytest.raises(AlreadyRunning):
        removed(places, purge=True)
    lock.release()
    assert (places.data_dir / "lock").exists()


def test_a_unit_that_somebody_else_wrote_stays(places: Places) -> None:
    places.units.mkdir(parents=True)
    mine = places.units / "lookaliked.service"
    mine.write_text("[Service]\nExecStart=/usr/bin/true\n")
    (places.units / "lookaliked.socket").write_text(MARK + "\n")
    plan = removed(places)
    assert mine.is_file()
    assert [path.name for path in plan.removals] == ["lookaliked.socket"]
    assert f"{mine} stays: it was not written by install-service" in plan.notices


def test_a_service_that_came_another_way_is_not_stopped(places: Places) -> None:
    places.units.mkdir(parents=True)
    (places.units / "lookaliked.service").write_text("[Service]\nExecStart=/usr/bin/true\n")
    assert plan_removal(places, purge=False, running=True).first == ()
    (places.units / "lookaliked.socket").write_text(MARK + "\n")
    assert [str(command) for command in plan_removal(places, purge=False, running=True).first] == [
        "systemctl --user disable --now lookaliked.socket lookaliked.service",
        "systemctl --user reset-failed lookaliked.socket lookaliked.service",
        "systemctl --user clean --what=runtime lookaliked.service",
    ]


def test_where_nothing_is_installed_that_is_said(places: Places) -> None:
    with pytest.raises(ServiceError, match="no service is installed"):
        removed(places)
