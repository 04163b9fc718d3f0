"""Permissions, room, file systems, memory and descriptors: real directories, real mounts where root may make them."""

from __future__ import annotations

import os
import resource
from typing import TYPE_CHECKING

import pytest

from daemon.doctor.checks.file_systems import _other_case
from tests.namespaces import mounted

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.doctor.conftest import Clinic


def has_mountinfo(clinic: Clinic, kind: str, place: Path) -> None:
    """Let the machine have a file system of this type at `place`."""
    clinic.limits()
    table = clinic.root / "proc" / "self" / "mountinfo"
    table.parent.mkdir()
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/sda1 rw\n" + f"2 1 0:9 / {place} rw - {kind} what rw\n", encoding="utf-8"
    )


@pytest.mark.mounts
def test_a_disk_that_is_nearly_full_is_a_problem(clinic: Clinic) -> None:
    with mounted(clinic.data_dir, "size=2m", "mode=700"):
        (clinic.data_dir / "full").write_bytes(bytes(1_500_000))

        found = clinic.worst("space")

    assert found.level == "problem"
    assert f"data_dir ({clinic.data_dir}) has " in found.sentence
    assert found.mend == (f"df -h {clinic.data_dir}",)


@pytest.mark.mounts
def test_used_up_inodes_are_a_problem_of_their_own(clinic: Clinic) -> None:
    with mounted(clinic.data_dir, "size=1g", "nr_inodes=20", "mode=700"):
        found = [one for one in clinic.look("space") if one.level == "problem"]

    assert [one.mend for one in found] == [(f"df -i {clinic.data_dir}",)]
    assert "room for" in found[0].sentence


@pytest.mark.mounts
def test_the_room_for_many_photos_is_reckoned_from_their_number(clinic: Clinic) -> None:
    clinic.status = {"data_dir": str(clinic.data_dir), "stores": [], "folders": [], "photos": 100_000}
    with mounted(clinic.data_dir, "size=1g", "mode=700"):
        found = clinic.worst("space", folders=())

    # 100,000 x (2 x 4 x 1,280 + 2,048) bytes.
    assert (found.level, "about 1.23 GB" in found.sentence) == ("problem", True)


@pytest.mark.mounts
def test_data_in_memory_is_told_of(clinic: Clinic) -> None:
    with mounted(clinic.data_dir, "size=2m", "mode=700"):
        found = clinic.worst("file_systems")

    assert (found.level, "is empty after a restart of the machine" in found.sentence) == ("warning", True)


@pytest.mark.mounts
def test_a_disk_that_is_read_only_is_a_problem(clinic: Clinic) -> None:
    with mounted(clinic.data_dir, "size=2m", "mode=700", "ro"):
        found = clinic.worst("permissions")

    assert (found.level, "is mounted read-only" in found.sentence) == ("problem", True)


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs"])
def test_a_folder_on_a_network_is_polled_and_told_how_to_be_faster(clinic: Clinic, kind: str) -> None:
    has_mountinfo(clinic, kind, clinic.folder)

    polled, data_dir = clinic.look("file_systems")

    assert (polled.level, data_dir.level) == ("note", "ok")
    assert f"{clinic.folder} lies on {kind}" in polled.sentence
    assert "so it is polled every 60 s; run lookaliked on the machine that has the disk" in polled.sentence
    assert polled.mend[0].startswith(f"lookalike sync {clinic.folder}")


def test_events_asked_of_a_network_are_a_warning(clinic: Clinic) -> None:
    has_mountinfo(clinic, "nfs", clinic.folder)
    clinic.configure(f"folders: [{{path: {clinic.folder}, watch: events}}]\n")

    assert clinic.worst("file_systems", folders=()).level == "warning"


@pytest.mark.parametrize("kind", ["nfs", "vfat"])
def test_stores_on_a_disk_that_cannot_carry_them_are_a_problem(clinic: Clinic, kind: str) -> None:
    has_mountinfo(clinic, kind, clinic.data_dir)

    found = clinic.worst("file_systems")

    assert (found.level, "the embedded stores are not safe" in found.sentence) == ("problem", True)


def test_sockets_need_a_local_directory(clinic: Clinic) -> None:
    has_mountinfo(clinic, "nfs", clinic.root / "run")

    assert "there can be no sockets" in clinic.worst("file_systems").sentence


def test_fat_is_told_of_for_its_inodes(clinic: Clinic) -> None:
    has_mountinfo(clinic, "exfat", clinic.folder)

    assert "numbers files anew with each mount" in clinic.worst("file_systems").sentence


def test_a_name_in_another_case_is_found(tmp_path: Path) -> None:
    (tmp_path / "Pictures").mkdir()

    assert _other_case(tmp_path / "pictures") == str(tmp_path / "Pictures")
    assert _other_case(tmp_path / "Pictures") == ""


def test_directories_that_are_ours_alone_are_well(clinic: Clinic) -> None:
    clinic.data_dir.mkdir(mode=0o700)

    (found,) = clinic.look("permissions")

    assert found.level == "ok"


@pytest.mark.parametrize(("mode", "level"), [(0o777, "problem"), (0o755, "warning"), (0o500, "problem")])
def test_a_directory_that_others_may_enter_or_we_may_not_is_told_with_its_chmod(
    clinic: Clinic, mode: int, level: str
) -> None:
    clinic.data_dir.mkdir()
    clinic.data_dir.chmod(mode)

    found = clinic.worst("permissions")

    assert found.level == level
    assert found.mend[0].startswith("chmod ")
    assert found.mend[0].endswith(f" {clinic.data_dir}")


@pytest.mark.needs_root("only root can give files away")
def test_a_directory_that_a_group_may_write_is_a_problem(clinic: Clinic) -> None:
    clinic.data_dir.mkdir()
    os.chown(clinic.data_dir, -1, 65533)
    clinic.data_dir.chmod(0o770)
    found = clinic.worst("permissions")
    assert (found.level, found.mend) == ("problem", (f"chmod g-w {clinic.data_dir}",))


@pytest.mark.needs_root("only root can give files away")
def test_a_file_of_another_user_is_a_problem_with_its_chown(clinic: Clinic) -> None:
    stranger = clinic.data_dir / "milvus" / "wal"
    stranger.parent.mkdir(parents=True)
    clinic.data_dir.chmod(0o700)
    stranger.touch()
    os.chown(stranger, 65534, 65534)

    found = clinic.worst("permissions")

    assert found.sentence.startswith(f"{stranger} does not belong to root")
    assert found.mend == (f"sudo chown -R root: {clinic.data_dir}",)


def test_secrets_that_everybody_may_read_are_a_problem(clinic: Clinic) -> None:
    clinic.configure("redis: {url: 'redis://:secret@localhost'}\nmilvus: {uri: 'http://x', token: secret}\n")
    clinic.file.chmod(0o644)

    found = clinic.worst("permissions")

    assert (
        found.sentence == f"{clinic.file} holds redis.url and milvus.token, and every user of this machine may read it"
    )
    assert "secret" not in found.sentence
    clinic.file.chmod(0o600)
    assert clinic.worst("permissions").level == "ok"


def test_an_address_without_a_password_is_no_secret(clinic: Clinic) -> None:
    clinic.configure("redis: {url: 'redis://localhost'}\n")

    assert clinic.worst("permissions").level == "ok"


@pytest.mark.parametrize(("kilobytes", "level"), [(300_000, "problem"), (16_000_000, "ok")])
def test_memory_is_held_against_the_models(clinic: Clinic, kilobytes: int, level: str) -> None:
    clinic.limits()
    (clinic.root / "proc" / "meminfo").write_text(f"MemTotal:       {kilobytes} kB\nMemFree: 5 kB\n")

    assert clinic.look("memory")[0].level == level


def test_a_bound_above_the_memory_there_is_protects_nobody(clinic: Clinic) -> None:
    clinic.limits()
    (clinic.root / "proc" / "meminfo").write_text("MemTotal: 2000000 kB\n")

    (_, bound) = clinic.look("memory")

    assert (bound.level, bound.sentence.endswith("set it to 976")) == ("warning", True)


def test_few_descriptors_are_a_warning(clinic: Clinic) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    try:
        found = clinic.worst("descriptors")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))

    assert (found.level, "256" in found.sentence) == ("warning", True)
