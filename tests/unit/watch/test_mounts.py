from __future__ import annotations

import pytest

from daemon.watch.mounts import mount_of

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


def test_this_machine_s_own_table_can_be_read() -> None:
    assert mount_of("/").type != "unknown"


def test_without_a_table_a_path_counts_as_local() -> None:
    assert not mount_of("/mnt/nas", "").remote
