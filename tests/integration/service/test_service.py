"""The service as systemd runs it: installed, started, confined, killed, and taken away, on a machine of its own."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from skimage import data

from daemon.service.installing import BACK_OFF_VERSION
from tests.integration.service.machine import PREFIX, Machine, obstacle
from tests.integration.service.test_units import WORST_EXPOSURE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SERVICE, SOCKET = "lookaliked.service", "lookaliked.socket"
PHOTOS = ("coffee", "chelsea", "astronaut")
DEADLINE_SECONDS = 60.0
CONFIGURATION_FILE = "/etc/lookalike/lookalike.yaml"
REDIS_CREDENTIAL = "/etc/lookalike/credentials/redis-url"
DROP_INS = "/etc/systemd/system/lookaliked.service.d"


def eventually(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not (value := condition()):
        assert time.monotonic() < deadline, f"did not come true: {what}"
        time.sleep(0.1)
    return value


pytestmark = pytest.mark.needs_root("only root can boot systemd in namespaces")
NEWER = "NEWER_SYSTEMD"
"""The environment variable that names a directory with the files of a systemd, unpacked by .ci/newer-systemd."""


def of_its_own(systemd: str | None, name: str) -> Any:
    """Return a parameter whose tests stay together, on one machine, apart from those of the other one."""
    return pytest.param(systemd, id=name, marks=pytest.mark.xdist_group(name))


@pytest.fixture(scope="module", params=[of_its_own(None, "systemd as installed"), of_its_own(NEWER, "newer systemd")])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with photos in /srv/photos, which everybody may read, and the users ann and bob."""
    if reason := obstacle():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(f"systemd cannot be booted here: {reason}")
    if request.param == NEWER and NEWER not in os.environ:
        pytest.skip(f"{NEWER} is not set: .ci/newer-systemd unpacks one")
    machine = Machine(Path(os.environ[NEWER]) if request.param == NEWER else None)
    try:
        machine.boot()
        for user in ("ann", "bob"):
            machine.run("useradd", "--create-home", user)
        machine.run("mkdir", "/srv/photos")
        for name in PHOTOS:
            photo(machine, name, f"/srv/photos/{name}.png")
        yield machine
    finally:
        machine.shut_down()


def photo(machine: Machine, name: str, path: str) -> None:
    """Put one of scikit-image's photos there, as who copies one does: whole, and then closed."""
    buffer = io.BytesIO()
    Image.fromarray(getattr(data, name)()).save(buffer, "PNG")
    machine.place(path).write_bytes(buffer.getvalue())


@pytest.fixture
def service(machine: Machine) -> Machine:
    """The machine with its service installed and up to date, with shorter times than the unit has."""
    configuration, credential = (machine.place(path) for path in (CONFIGURATION_FILE, REDIS_CREDENTIAL))
    as_it_should_be = configuration.exists() and configuration.read_text() == CONFIGURATION and not credential.exists()
    if not as_it_should_be or machine.show(SERVICE, "ActiveState")["ActiveState"] != "active":
        machine.write(f"{DROP_INS}/test.conf", "[Service]\nRestartSec=1\nWatchdogSec=5\n")
        machine.write(CONFIGURATION_FILE, CONFIGURATION)
        credential.unlink(missing_ok=True)
        machine.run("lookaliked", "install-service", "--system", "--yes")
    up_to_date(machine)
    return machine


CONFIGURATION = """
folders: [/srv/photos]
api: {group: lookalike}
data_dir: /var/lib/lookalike
"""


def up_to_date(machine: Machine, user: str = "root") -> str:
    def status() -> str:
        text = machine.show(SERVICE, "StatusText", user=user)["StatusText"]
        return text if text.startswith("up to date") else ""

    found: str = eventually(status, "up to date")
    return found


def found(machine: Machine, query: str, user: str = "root") -> list[str]:
    return machine.run("lookalike", "search", query, "--paths", user=user).stdout.splitlines()


def processes(machine: Machine) -> list[int]:
    """Return the daemon and its stores, as the machine numbers them."""
    group = machine.show(SERVICE, "ControlGroup")["ControlGroup"]
    return [int(line) for line in machine.run("cat", f"/sys/fs/cgroup{group}/cgroup.procs").stdout.split()]


def main_process(machine: Machine) -> int:
    return int(machine.show(SERVICE, "MainPID")["MainPID"])


def status_of(machine: Machine, process: int) -> dict[str, str]:
    lines = machine.run("cat", f"/proc/{process}/status").stdout.splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


# The service of the machine


def test_an_installed_service_indexes_and_answers_with_every_part_confined(machine: Machine) -> None:
    done = machine.run("lookaliked", "install-service", "--system", "--folder", "/srv/photos")
    # What systemctl status says is shown.
    assert "Active: active (running)" in done.stdout
    assert up_to_date(machine) == f"up to date: {len(PHOTOS)} photos"
    # The image by onnxruntime, the words by a second graph and its tokenizer; ids from Milvus Lite, paths from Valkey.
    assert found(machine, "/srv/photos/coffee.png")[0] == "/srv/photos/coffee.png"
    assert found(machine, "cat")[0] == "/srv/photos/chelsea.png"
    assert len(processes(machine)) >= 3
    for process in processes(machine):
        status = status_of(machine, process)
        assert (status["NoNewPrivs"], status["Seccomp"], int(status["CapBnd"], 16)) == ("1", "2", 0)
        assert status["Uid"].split()[0] == machine.run("id", "-u", "lookalike").stdout.strip()
        # A network namespace of its own, in which there is nothing but a loopback that nobody listens on.
        interfaces = machine.run("cat", f"/proc/{process}/net/dev").stdout.splitlines()[2:]
        assert [line.split(":")[0].strip() for line in interfaces] == ["lo"]
        assert machine.run("cat", f"/proc/{process}/net/tcp").stdout.count("\n") == 1


def test_what_is_installed_is_clean_and_safe_by_systemd_s_own_word(service: Machine) -> None:
    verified = service.run("systemd-analyze", "verify", "--recursive-errors=yes", f"/etc/systemd/system/{SERVICE}")
    assert verified.stdout + verified.stderr == ""
    has_back_off = service.place(f"{DROP_INS}/restart-back-off.conf").exists()
    assert has_back_off == (service.version >= BACK_OFF_VERSION)
    service.run("systemd-analyze", "security", "--no-pager", f"--threshold={WORST_EXPOSURE}", SERVICE)


def test_decoders_confine_themselves_further_within_the_sandbox(service: Machine) -> None:
    # The walk at the start decodes; the units' own filter must let them set theirs.
    filters = int(status_of(service, main_process(service))["Seccomp_filters"])
    commands = {process: service.run("cat", f"/proc/{process}/cmdline").stdout for process in processes(service)}
    decoders = [process for process, command in commands.items() if "decoding.worker" in command]
    assert decoders
    # Each process has one of its own, and each copy that has read a photo another one.
    further = {int(status_of(service, process)["Seccomp_filters"]) - filters for process in decoders}
    assert further <= {1, 2}
    assert "photos are decoded without" not in service.journal(SERVICE)


def test_the_sandbox_of_this_machine_is_a_real_one(service: Machine) -> None:
    inside = ["nsenter", f"--target={main_process(service)}", "--mount", "--"]
    for place in ("/srv/photos", "/etc", "/usr", "/home/ann"):
        done = service.run(*inside, "touch", f"{place}/written", check=False)
        assert "Read-only file system" in done.stderr
    code = "import mmap; mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)"
    options = ["systemd-run", "--pipe", "--wait", "--quiet", "--property=MemoryDenyWriteExecute=yes"]
    denied = service.run(*options, PREFIX / "bin/python3", "-c", code, check=False)
    assert "PermissionError" in denied.stderr
    filtered = service.run(*options, "--property=SystemCallFilter=~@chown", "chown", "bob", "/srv/photos", check=False)
    assert filtered.returncode != 0


def test_members_of_the_group_may_ask_and_nobody_else(service: Machine) -> None:
    service.run("usermod", "--append", "--groups", "lookalike", "ann")
    assert found(service, "/srv/photos/coffee.png", user="ann")[0] == "/srv/photos/coffee.png"
    refused = service.run("lookalike", "search", "/srv/photos/coffee.png", user="bob", check=False)
    assert refused.returncode == 69
    assert (
        service.run("stat", "--format=%A %U %G", "/run/lookalike/lookalike.sock").stdout
        == "srw-rw---- lookalike lookalike\n"
    )


def test_photos_that_appear_are_indexed_on_disks_that_come_later_too(service: Machine) -> None:
    service.run("mkdir", "-p", "/srv/photos/disk")
    service.run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/srv/photos/disk")
    try:
        photo(service, "page", "/srv/photos/disk/page.png")
        service.run("lookalike", "sync")
        assert found(service, "/srv/photos/disk/page.png")[0] == "/srv/photos/disk/page.png"
    finally:
        service.run("rm", "--force", "/srv/photos/disk/page.png")
        service.run("lookalike", "sync")
        service.run("umount", "/srv/photos/disk")


def test_the_first_query_starts_the_service(service: Machine) -> None:
    service.run("systemctl", "stop", SERVICE)
    assert service.show(SERVICE, "ActiveState")["ActiveState"] == "inactive"
    assert found(service, "/srv/photos/coffee.png")[0] == "/srv/photos/coffee.png"
    assert service.show(SERVICE, "ActiveState")["ActiveState"] == "active"


def test_a_socket_that_was_removed_is_told_with_the_command_that_brings_it_back(service: Machine) -> None:
    service.run("rm", "/run/lookalike/lookalike.sock")

    def command_that_is_said() -> str:
        _, told, rest = service.journal(SERVICE).rpartition("systemd has to make it again: ")
        return rest.partition("\n")[0] if told else ""

    command = eventually(command_that_is_said, "the log says that the socket was removed")
    assert command.startswith("systemctl ")
    service.run(*command.split())
    assert found(service, "/srv/photos/coffee.png")[0] == "/srv/photos/coffee.png"
    assert service.show(SOCKET, "ActiveState")["ActiveState"] == "active"


def test_a_reload_puts_a_changed_configuration_in_force_and_a_bad_one_leaves_it(service: Machine) -> None:
    before = processes(service)
    service.write(CONFIGURATION_FILE, f"{CONFIGURATION}\nsearch: {{limit: 1}}\n")
    service.run("systemctl", "reload", SERVICE)
    eventually(lambda: len(found(service, "/srv/photos/coffee.png")) == 1, "the new limit holds")
    service.write(CONFIGURATION_FILE, f"{CONFIGURATION}\nsearch: {{limit: 0}}\n")
    service.run("systemctl", "reload", SERVICE)
    up_to_date(service)
    assert len(found(service, "/srv/photos/coffee.png")) == 1
    assert before[0] in processes(service)
    service.write(CONFIGURATION_FILE, CONFIGURATION)
    service.run("systemctl", "reload", SERVICE)
    eventually(lambda: len(found(service, "/srv/photos/coffee.png")) > 1, "the old limit holds")


def test_a_daemon_that_is_killed_is_started_again_with_stores_of_its_own(service: Machine) -> None:
    before = processes(service)
    service.run("kill", "-9", str(main_process(service)))
    eventually(lambda: main_process(service) not in (0, *before), "started again")
    up_to_date(service)
    assert set(before).isdisjoint(processes(service))
    assert found(service, "/srv/photos/coffee.png")[0] == "/srv/photos/coffee.png"


def test_the_pause_before_a_restart_grows_with_each(service: Machine) -> None:
    if service.version < BACK_OFF_VERSION:
        pytest.skip(f"systemd {service.version} knows no RestartSteps=")
    service.run("systemctl", "restart", SERVICE)
    pauses = []
    for _ in range(3):
        up_to_date(service)
        before = main_process(service)
        killed = time.monotonic()
        service.run("kill", "-9", str(before))
        eventually(lambda: main_process(service) not in (0, before), "started again")  # noqa: B023
        pauses.append(time.monotonic() - killed)
    # From RestartSec= on, which is a second here, by equal factors to RestartMaxDelaySec=.
    for step, pause in enumerate(pauses):
        assert 300 ** (step / 8) <= pause < 300 ** ((step + 1) / 8), pauses
    assert service.show(SERVICE, "NRestarts")["NRestarts"] == "3"
    service.run("systemctl", "reset-failed", SERVICE)
    assert service.show(SERVICE, "NRestarts")["NRestarts"] == "0"


def test_a_daemon_that_hangs_is_ended_by_the_watchdog_and_started_again(service: Machine) -> None:
    before = main_process(service)
    service.run("kill", "-STOP", str(before))
    eventually(lambda: main_process(service) not in (0, before), "started again")
    journal = service.journal(SERVICE)
    assert "Watchdog timeout" in journal
    # Where it hung.
    assert "Fatal Python error: Aborted" in journal
    up_to_date(service)


def test_a_daemon_that_is_well_outlives_many_watchdog_times(service: Machine) -> None:
    before = main_process(service)
    time.sleep(8)
    assert main_process(service) == before


def test_who_may_not_look_into_its_directories_is_told_or_shown_the_plan(service: Machine) -> None:
    installing = service.run("lookaliked", "install-service", "--system", "--dry-run", user="bob")
    assert "lookaliked.service" in installing.stdout
    leaving = service.run("lookaliked", "uninstall-service", "--system", "--dry-run", user="bob")
    assert "delete /etc/systemd/system/lookaliked.service" in leaving.stdout
    purging = service.run(
        "lookaliked", "uninstall-service", "--system", "--purge", "--dry-run", user="bob", check=False
    )
    assert (purging.returncode, "say sudo before this command" in purging.stderr) == (1, True)
    doctor = service.run("lookalike", "doctor", user="bob", check=False)
    assert "Traceback" not in doctor.stdout + doctor.stderr


def test_a_bad_configuration_is_not_tried_again_and_says_why(service: Machine) -> None:
    service.write(CONFIGURATION_FILE, CONFIGURATION + "flavour: mild\n")
    assert service.run("systemctl", "restart", SERVICE, check=False).returncode != 0
    shown = service.show(SERVICE, "ExecMainStatus", "Result", "StatusText", "NRestarts")
    assert (shown["ExecMainStatus"], shown["Result"]) == ("78", "exit-code")
    assert "At 'flavour'" in shown["StatusText"]
    time.sleep(2)
    assert service.show(SERVICE, "ActiveState")["ActiveState"] == "failed"
    # Who asks all the same is told at once, and the socket is there for the next one.
    assert service.run("lookalike", "status", check=False).returncode == 69
    assert service.show(SOCKET, "ActiveState")["ActiveState"] == "active"


def test_secrets_are_read_from_credentials_and_shown_nowhere(service: Machine) -> None:
    service.write(REDIS_CREDENTIAL, "http://:hunter2@nas\n")
    service.run("chmod", "600", REDIS_CREDENTIAL)
    service.run("systemctl", "restart", SERVICE, check=False)
    said = service.show(SERVICE, "StatusText")["StatusText"]
    assert "In the credential redis-url: should be a URL" in said
    assert "hunter2" not in said + service.journal(SERVICE)


def test_the_network_is_there_when_it_is_asked_for_and_gone_with_the_next_installation(service: Machine) -> None:
    def network() -> str:
        return service.run("readlink", f"/proc/{main_process(service)}/ns/net").stdout

    of_the_machine = service.run("readlink", "/proc/1/ns/net").stdout
    assert network() != of_the_machine
    service.run("lookaliked", "install-service", "--system", "--network")
    assert network() == of_the_machine
    shown = service.show(SERVICE, "RestrictAddressFamilies", "IPAddressDeny")
    assert {"AF_UNIX", "AF_INET", "AF_INET6"} <= set(shown["RestrictAddressFamilies"].split())
    assert not shown.get("IPAddressDeny")
    service.run("lookaliked", "install-service", "--system", "--yes")
    assert network() != of_the_machine


def test_what_was_changed_by_hand_is_shown_and_asked_for_before_it_is_written_over(service: Machine) -> None:
    unit = f"/etc/systemd/system/{SERVICE}"
    service.run("sed", "-i", "s/^Nice=10$/Nice=19/", unit)
    refused = service.run("lookaliked", "install-service", "--system", check=False)
    assert refused.returncode == 1
    assert {"-Nice=19", "+Nice=10"} <= set(refused.stdout.splitlines())
    assert "say --yes" in refused.stderr
    assert "Nice=19" in service.run("cat", unit).stdout
    service.run("lookaliked", "install-service", "--system", "--yes")
    assert "Nice=10" in service.run("cat", unit).stdout


def test_taking_it_away_leaves_the_index_and_a_purge_nothing_but_the_photos(service: Machine) -> None:
    service.run("rm", f"{DROP_INS}/test.conf")
    service.run("lookaliked", "uninstall-service", "--system")
    assert service.run("systemctl", "is-enabled", SERVICE, SOCKET, check=False).returncode != 0
    left = service.run(
        "sh", "-c", "ls -d /etc/systemd/system/look* /etc/systemd/system/*/look* /run/lookalike", check=False
    )
    assert left.stdout == ""
    assert service.run("ls", "/var/lib/lookalike/valkey").stdout
    refused = service.run("lookaliked", "uninstall-service", "--system", "--purge", check=False)
    assert (refused.returncode, "delete /var/lib/lookalike/valkey" in refused.stdout) == (1, True)
    service.run("lookaliked", "uninstall-service", "--system", "--purge", "--yes")
    assert (
        service.run("sh", "-c", "ls -d /etc/lookalike /var/lib/lookalike /var/cache/lookalike", check=False).stdout
        == ""
    )
    assert len(service.run("ls", "/srv/photos").stdout.split()) >= len(PHOTOS)


# The service of a user


def test_a_user_s_service_serves_that_user_alone_and_finds_no_keys(machine: Machine) -> None:
    machine.run(
        "sh", "-c", "mkdir -p ~ann/Pictures ~ann/.ssh && touch ~ann/.ssh/id && cp /srv/photos/*.png ~ann/Pictures"
    )
    machine.run("sh", "-c", "chown -R ann: ~ann && chmod 700 ~ann && chmod 600 ~ann/Pictures/*")
    machine.run("loginctl", "enable-linger", "ann")
    uid = machine.run("id", "-u", "ann").stdout.strip()
    eventually(machine.place(f"/run/user/{uid}/systemd/private").exists, "ann's service manager runs")
    done = machine.run("lookaliked", "install-service", "--folder", "/home/ann/Pictures", user="ann")
    assert "Active: active (running)" in done.stdout
    assert up_to_date(machine, user="ann") == f"up to date: {len(PHOTOS)} photos"
    assert found(machine, "/home/ann/Pictures/coffee.png", user="ann")[0] == "/home/ann/Pictures/coffee.png"
    assert machine.run("lookalike", "status", user="bob", check=False).returncode == 69
    daemon = machine.show(SERVICE, "MainPID", user="ann")["MainPID"]
    inside = ["nsenter", f"--target={daemon}", "--user", "--mount", "--preserve-credentials", "--"]
    assert "Read-only" in machine.run(*inside, "touch", "/home/ann/Pictures/x", check=False, user="ann").stderr
    assert "Permission denied" in machine.run(*inside, "ls", "/home/ann/.ssh", check=False, user="ann").stderr
    machine.write("/home/ann/.config/lookalike/credentials/redis-url", "http://nas")
    machine.run("systemctl", "--user", "restart", SERVICE, user="ann", check=False)
    assert "In the credential redis-url" in machine.show(SERVICE, "StatusText", user="ann")["StatusText"]
    machine.run("lookaliked", "uninstall-service", "--purge", "--yes", user="ann")
    left = machine.run("find", "/home/ann", "-iname", "*lookalike*").stdout
    assert left == ""
    assert len(machine.run("ls", "/home/ann/Pictures").stdout.split()) == len(PHOTOS)


def test_a_user_without_a_service_manager_is_told_what_to_do(machine: Machine) -> None:
    machine.run("mkdir", "-p", "/home/bob/Pictures")
    done = machine.run("lookaliked", "install-service", "--folder", "/home/bob/Pictures", user="bob", check=False)
    assert (done.returncode, "loginctl enable-linger bob" in done.stderr) == (1, True)


def test_a_service_that_could_not_run_from_here_is_refused(machine: Machine) -> None:
    machine.run("chmod", "700", "/opt/lookalike")
    done = machine.run("lookaliked", "install-service", "--system", "--folder", "/srv/photos", check=False)
    machine.run("chmod", "755", "/opt/lookalike")
    assert (done.returncode, "cannot be run by the user lookalike" in done.stderr) == (1, True)


def test_photos_that_the_service_may_not_read_are_told_of_with_what_lets_it_in(machine: Machine) -> None:
    machine.run("install", "--directory", "--mode=750", "--group=ann", "/srv/private")
    command = ["lookaliked", "install-service", "--system", "--dry-run", "--folder", "/srv/private"]
    refused = "the user lookalike may not read /srv/private"
    assert refused in machine.run(*command).stderr
    assert refused not in machine.run(*command, "--group", "ann").stderr
    assert "may not read" not in machine.run(*command, "--run-as", "ann").stderr


def test_a_dry_run_is_anybody_s(machine: Machine) -> None:
    # The tests of one machine come in any order: a service may be installed.
    machine.run("lookaliked", "uninstall-service", "--system", check=False)
    done = machine.run("lookaliked", "install-service", "--system", "--dry-run", "--folder", "/srv/photos", user="bob")
    assert "new file /etc/systemd/system/lookaliked.service" in done.stdout
    assert not machine.place("/etc/systemd/system/lookaliked.service").exists()


def test_the_machine_s_service_is_root_s_to_install(machine: Machine) -> None:
    done = machine.run("lookaliked", "install-service", "--system", "--folder", "/srv/photos", user="bob", check=False)
    assert (done.returncode, "say sudo" in done.stderr) == (1, True)
    sudo = ["env", "SUDO_USER=bob", "lookaliked", "install-service", "--user", "--folder", "/srv/photos"]
    assert "without sudo" in machine.run(*sudo, check=False).stderr
