from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from daemon.watch.mounts import Mount, mount_of

if TYPE_CHECKING:
    from pathlib import Path

NAMES = [
    (r"a\040b", "a b"),
    (r"a\011b", "a\tb"),
    (r"a\012b", "a\nb"),
    (r"a\134040b", r"a\040b"),
    ("Fotos\\040für\u2028mich", "Fotos für\u2028mich"),
    ("a\rb\x0cc", "a\rb\x0cc"),
    (os.fsdecode(b"\xff\xfe"), os.fsdecode(b"\xff\xfe")),
]
"""Names as the table has them, and as they are."""

TABLE = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/nas rw - nfs4 server:/photos rw
31 22 0:41 / /mnt/my\040disk rw shared:7 - fuseblk /dev/sdb1 rw
32 22 0:42 / /mnt/ssh rw - fuse.sshfs me@host:/ rw
33 22 0:43 / /mnt/over rw - ext4 /dev/sdc1 rw
34 33 0:44 / /mnt/over rw - cifs //server/share rw
"""


@pytest.mark.parametrize(
    ("path", "kind", "remote"),
    [
        ("/home/ann", "ext4", False),
        ("/mnt/nas", "nfs4", True),
        ("/mnt/nas/2024", "nfs4", True),
        ("/mnt/nasty", "ext4", False),
        ("/mnt/my disk/photos", "fuseblk", False),
        ("/mnt/ssh/x", "fuse.sshfs", True),
        ("/mnt/over/x", "cifs", True),
    ],
)
def test_the_file_system_of_a_path_is_the_innermost_uppermost_mount(path: str, kind: str, remote: bool) -> None:  # noqa: FBT001
    mount = mount_of(path, TABLE)
    assert (mount.type, mount.remote) == (kind, remote)


def test_blanks_in_a_mount_point_are_escaped_and_nothing_else_is() -> None:
    table = "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    for number, (escaped, _) in enumerate(NAMES):
        table += f"{100 + number} 22 0:40 / /mnt/{escaped} rw - nfs4 server:/ rw\n"
    for _, name in NAMES:
        assert mount_of(f"/mnt/{name}/photos", table).point == f"/mnt/{name}"


def test_a_mount_below_one_that_was_put_over_it_later_is_not_met() -> None:
    table = r"""22 1 8:1 / / rw - ext4 /dev/sda1 rw
30 22 0:40 / /mnt/a/b rw - nfs4 server:/ rw
40 22 8:2 / /mnt/a rw - xfs /dev/sdb1 rw
"""
    assert mount_of("/mnt/a/b/x", table).type == "xfs"
    assert mount_of("/mnt/a/b/x", table + "41 40 0:41 / /mnt/a/b rw - cifs //server/b rw\n").type == "cifs"


def test_the_order_of_the_table_does_not_matter() -> None:
    table = "\n".join(reversed(TABLE.splitlines()))
    assert mount_of("/mnt/over/x", table).type == "cifs"
    assert mount_of("/home", table).type == "ext4"


def test_a_table_without_the_root_s_own_mount_can_be_read() -> None:
    assert mount_of("/data/x", "50 7 0:40 / /data rw - virtiofs share rw\n").remote
    assert not mount_of("/else", "50 7 0:40 / /data rw - virtiofs share rw\n").remote


def test_the_first_root_file_system_is_its_own_parent() -> None:
    table = "1 1 0:1 / / rw - rootfs rootfs rw\n22 1 8:1 / / rw - btrfs /dev/sda1 rw\n"
    assert mount_of("/home", table).type == "btrfs"


@pytest.mark.parametrize(
    ("kind", "remote"),
    [("nfs", True), ("smb3", True), ("9p", True), ("fuse", True), ("fuse.rclone", True), ("fuseblk", False),
     ("fusectl", False), ("btrfs", False), ("zfs", False), ("overlay", False), ("tmpfs", False)],
)  # fmt: skip
def test_network_file_systems_and_fuse_are_remote(kind: str, remote: bool) -> None:  # noqa: FBT001
    assert Mount("/mnt", kind).remote is remote


def test_a_link_leads_to_the_mount_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/mnt/nas")
    assert mount_of(str(tmp_path / "link"), TABLE).type == "nfs4"


def test_this_machine_s_own_table_can_be_read() -> None:
    assert mount_of("/").type != "unknown"


def test_without_a_table_a_path_counts_as_local() -> None:
    assert not mount_of("/mnt/nas", "").remote
