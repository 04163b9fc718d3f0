"""The unit files that are written: the shipped ones, with what this machine needs."""

from __future__ import annotations

from pathlib import Path

import pytest

from daemon import paths
from daemon.errors import ServiceError
from daemon.service.places import SERVICE, SOCKET, of_the_system
from daemon.service.units import INSTALLED, MARK, Needs, quoted, rendered

UNITS = Path("/etc/systemd/system")
PLAIN = Needs(Path("/opt/lookalike/bin/lookaliked"), (Path("/srv/photos"),))


def lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_a_written_unit_is_the_shipped_one_but_for_its_first_line_and_its_command() -> None:
    needs = Needs(Path("/home/ann/My Apps/50% off/bin/lookaliked"), ())
    written = rendered(of_the_system(), needs)[UNITS / SERVICE].splitlines()
    shipped = (paths.shipped("system", "systemd") / SERVICE).read_text().splitlines()
    assert written[0] == MARK
    differing = [(new, old) for new, old in zip(written[1:], shipped, strict=True) if new != old]
    assert differing == [
        (
            'ExecStart="/home/ann/My Apps/50%% off/bin/lookaliked" run',
            "ExecStart=/opt/lookalike/bin/lookaliked run",
        )
    ]


def test_the_drop_in_has_what_the_shipped_unit_cannot_know() -> None:
    needs = Needs(
        PLAIN.lookaliked,
        (Path("/srv/photos"), Path('/srv/"a" b')),
        writable=(Path("/srv/index"),),
        variables={"XDG_DATA_HOME": "/srv/my data"},
        run_as="ann",
        groups=("family", "scans"),
    )
    files = rendered(of_the_system(), needs)
    assert lines(files[UNITS / f"{SERVICE}.d" / INSTALLED]) == [
        "[Service]",
        'Environment="XDG_DATA_HOME=/srv/my data"',
        "User=ann",
        "SupplementaryGroups=family scans",
        "ReadOnlyPaths=-/srv/photos",
        'ReadOnlyPaths="-/srv/\\"a\\" b"',
        "ReadWritePaths=-/srv/index",
    ]
    assert lines(files[UNITS / f"{SOCKET}.d" / INSTALLED]) == ["[Socket]", "SocketUser=ann"]


def test_drop_ins_are_written_where_they_are_needed() -> None:
    assert {path.name for path in rendered(of_the_system(), PLAIN)} == {
        SERVICE, SOCKET, "lookalike.slice", INSTALLED, "lookalike.conf",
    }  # fmt: skip
    needs = Needs(PLAIN.lookaliked, (), drop_ins=("network.conf",))
    network = rendered(of_the_system(), needs)[UNITS / f"{SERVICE}.d" / "network.conf"]
    assert "PrivateNetwork=no" in lines(network)


def test_every_file_is_marked_as_ours() -> None:
    needs = Needs(PLAIN.lookaliked, (), run_as="ann", drop_ins=("network.conf", "gpu.conf", "restart-back-off.conf"))
    assert all(text.startswith(MARK + "\n") for text in rendered(of_the_system(), needs).values())


def test_a_folder_that_no_unit_can_name_is_left_out() -> None:
    files = rendered(of_the_system(), Needs(PLAIN.lookaliked, (Path("/srv/a\nProtectHome=no"), Path("/srv/\udcff"))))
    assert lines(files[UNITS / f"{SERVICE}.d" / INSTALLED]) == ["[Service]"]


@pytest.mark.parametrize(
    "needs",
    [
        Needs(Path("/opt/a\nb/bin/lookaliked"), ()),
        Needs(PLAIN.lookaliked, (), writable=(Path("/srv/a\nProtectHome=no"),)),
        Needs(PLAIN.lookaliked, (), variables={"XDG_DATA_HOME": "/srv/a\rUser=root"}),
    ],
)
def test_what_has_to_be_named_and_cannot_be_is_refused(needs: Needs) -> None:
    with pytest.raises(ServiceError, match="plainer path"):
        rendered(of_the_system(), needs)


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("/srv/photos", "/srv/photos"),
        ("/srv/50%", "/srv/50%%"),
        ("/a b", '"/a b"'),
        ('/"\\', '"/\\"\\\\"'),
        ("/ä", "/ä"),
    ],
)
def test_a_word_means_what_it_should(value: str, word: str) -> None:
    assert quoted(value) == word
