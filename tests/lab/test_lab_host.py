"""What a test can do with the host: run, put, get, fault, reboot.  On a real boot."""

from pathlib import Path

import pytest

from .conftest import LabHost

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

CONFIG = "od -An -tx1 -N4 /sys/bus/pci/devices/0000:01:00.0/config"


def test_run(host: LabHost) -> None:
    assert (
        host.run("tr a-z A-Z; id -un", user="tester", stdin="héllo\n").stdout == "HéLLO\ntester\n"
    )
    done = host.run("echo out; echo err >&2; exit 7", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_a_failure_says_what_failed(host: LabHost) -> None:
    with pytest.raises(AssertionError) as failed:
        host.run("echo out; echo err >&2; exit 7")
    for word in ("root@gpuhost: echo out", "ended with 7", "stdout: out", "stderr: err"):
        assert word in str(failed.value)


def test_a_command_that_hangs_is_given_up(host: LabHost) -> None:
    with pytest.raises(AssertionError, match="has not ended after 3 s:\nbefore"):
        host.run("echo before; sleep 60", timeout=3)


def test_put_and_get(host: LabHost, tmp_path: Path) -> None:
    (tmp_path / "out/sub").mkdir(parents=True)
    (tmp_path / "out/sub/file").write_text("one\n")
    host.put(tmp_path / "out", "/root/lab-copy")
    (tmp_path / "out/sub/file").rename(tmp_path / "out/other")
    host.put(tmp_path / "out", "/root/lab-copy")
    assert host.run("cd /root/lab-copy; find . -type f").stdout == "./other\n"
    host.get("/root/lab-copy", tmp_path / "back")
    assert (tmp_path / "back/other").read_text() == "one\n"
    host.run("rm -r /root/lab-copy")


def test_a_card_falls_off_the_bus_and_comes_back(host: LabHost) -> None:
    assert host.run(CONFIG).stdout.split() == ["de", "10", "f1", "13"]
    host.fault("gpu", on=True)
    try:
        assert host.run(CONFIG).stdout.split() == ["ff"] * 4
    finally:
        host.fault("gpu", on=False)
    assert host.run(CONFIG).stdout.split() == ["de", "10", "f1", "13"]


def test_reboot(host: LabHost) -> None:
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    before = host.run(boot_id).stdout
    host.run("touch /root/stays")
    host.reboot()
    assert host.run(boot_id).stdout != before
    assert host.run(CONFIG).stdout.split() == ["de", "10", "f1", "13"]
    host.run("rm /root/stays")
