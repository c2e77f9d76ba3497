"""The main job on a real kernel: install, scan, plan, up, verify, down, on the isolated M4000.

One boot of the host and one of the guest serve all of it; so the tests of the guest stand in the
order of the story, and the host's state is compared before the first and after the last.
"""

import json
import re
import shlex
from collections.abc import Iterator
from itertools import pairwise

import pytest

from . import product
from .conftest import LabHost
from .hoststate import SNAPSHOT, differences

pytestmark = [pytest.mark.lab, pytest.mark.topology("m4000-isolated")]

GPU, AUDIO = "0000:01:00.0", "0000:01:00.1"
DIRECT = (
    "--guest debian-12 --image /var/lib/libvirt/images/guest.qcow2 --driver none "
    "--kernel /var/lib/libvirt/images/guest-vmlinuz "
    "--initrd /var/lib/libvirt/images/guest-initrd --cpus 1 --memory 1024"
)
STATE = "/var/lib/vfio-kit"
GOLDEN = product.CHECKOUT / "tests/golden"


Devices = dict[str, dict[str, object]]


@pytest.fixture
def unchanged(gpuhost: LabHost) -> Iterator[LabHost]:
    """Compares the host before and after a test."""
    before = gpuhost.run(SNAPSHOT).stdout
    yield gpuhost
    after = gpuhost.run(SNAPSHOT).stdout
    # Where a test failed, the next one shall not fail for it.
    gpuhost.run(f"test ! -e {STATE}/x || vfio-kit down x --purge", check=False, timeout=300)
    assert differences(before, after) == []


def refused(host: LabHost, command: str, status: int, *words: str, timeout: float = 180) -> str:
    """Runs a command that must fail with this status and these words, and without a traceback."""
    done = host.run(command, check=False, timeout=timeout)
    assert done.returncode == status, done.stdout + done.stderr
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert "hint:" in done.stderr
    return done.stderr


class TestInstalled:
    def test_every_command_works_from_wheels_alone(self, gpuhost: LabHost) -> None:
        assert gpuhost.run("/opt/vfio-kit/bin/python --version").stdout.startswith("Python 3.13")
        listed = gpuhost.run("vfio-kit --help").stdout
        for command in ("scan", "plan", "render", "up", "verify", "list", "down"):
            assert re.search(rf"^  (\w* +)?{command} ", listed, re.MULTILINE)
            assert "Usage:" in gpuhost.run(f"vfio-kit {command} --help").stdout

    def test_without_libvirt_all_but_up_and_down_work(self, gpuhost: LabHost) -> None:
        gpuhost.run(
            "set -e; python3 -m venv --without-pip /opt/plain; "
            "python3 -m pip --python /opt/plain/bin/python install -q --no-index --no-compile "
            "--disable-pip-version-check --root-user-action ignore "
            "--find-links /root/wheels vfio-kit",
            timeout=600,
        )
        plain = "/opt/plain/bin/vfio-kit"
        assert json.loads(gpuhost.run(f"{plain} scan --json").stdout)["gpus"]
        gpuhost.run(f"{plain} render --gpu 01:00.0 --output libvirt -o /tmp/plain")
        refused(gpuhost, f"{plain} up x --gpu 01:00.0 {DIRECT}", 5, "libvirt", "python3-libvirt")
        gpuhost.run("rm -rf /opt/plain /tmp/plain")


class TestScan:
    def test_json(self, gpuhost: LabHost) -> None:
        document = json.loads(gpuhost.run("vfio-kit scan --json").stdout)
        assert document["schema"] == "vfio-kit/scan/1"
        gpu = next(gpu for gpu in document["gpus"] if gpu["address"] == GPU)
        assert gpu["vendor_id"] == "10de" and gpu["device_id"] == "13f1"
        assert gpu["name"] == "GM204GL [Quadro M4000]"
        assert gpu["verdict"] == "isolated"
        assert gpu["driver"] is None
        assert gpu["functions"] == [GPU, AUDIO]
        assert gpu["foreign_endpoints"] == []
        kernel = gpuhost.run(f"basename $(readlink /sys/bus/pci/devices/{GPU}/iommu_group)").stdout
        assert gpu["iommu_group"] == int(kernel)

    def test_needs_no_root_to_say_who_can_go(self, gpuhost: LabHost) -> None:
        """Groups, drivers and what the host would lose are for all to see; ACS and MSI are not."""
        mine, roots = (
            json.loads(gpuhost.run("vfio-kit scan --json", user=user).stdout)
            for user in ("tester", "root")
        )
        judged = ("address", "verdict", "can_go", "functions", "foreign_endpoints")
        assert [[gpu[key] for key in judged] for gpu in mine["gpus"]] == [
            [gpu[key] for key in judged] for gpu in roots["gpus"]
        ]
        assert {found["code"] for found in mine["findings"]} >= {"VK502"}
        assert "VK502" not in {found["code"] for found in roots["findings"]}

    def test_plan_changes_nothing(self, unchanged: LabHost) -> None:
        shown = unchanged.run(f"vfio-kit plan --gpu 01:00.0 {DIRECT}").stdout
        assert f"{AUDIO} from snd_hda_intel" in shown
        assert "undo: stop it" in shown


class TestRenderedFilesBeforeTheirConsumers:
    """The goldens, read by libvirt, cloud-init and QEMU themselves."""

    @pytest.fixture
    def goldens(self, gpuhost: LabHost) -> LabHost:
        gpuhost.run("rm -rf /root/golden")
        gpuhost.put(product.CHECKOUT / "tests/golden", "/root/golden")
        return gpuhost

    def test_libvirt(self, goldens: LabHost) -> None:
        done = goldens.run(
            "set -e; n=0; for f in /root/golden/*/domain.xml; do "
            "virt-xml-validate $f domain >/dev/null; virsh -q define --validate $f >/dev/null; "
            'virsh -q undefine --nvram "$(virsh -q list --all --name)" >/dev/null; '
            "n=$((n+1)); done; echo $n",
            timeout=300,
        )
        assert int(done.stdout) >= 4

    def test_cloud_init(self, goldens: LabHost) -> None:
        done = goldens.run(
            "set -e; n=0; for f in /root/golden/*/user-data; do "
            "cloud-init schema --config-file $f >/dev/null; n=$((n+1)); done; "
            "for f in /root/golden/*/network-config; do "
            "cloud-init schema --schema-type network-config --config-file $f >/dev/null; done; "
            "echo $n",
            timeout=600,
        )
        assert int(done.stdout) >= 2

    def test_qemu(self, gpuhost: LabHost) -> None:
        """QEMU's parser takes every option of every script, and then says its version."""
        scripts = sorted([*GOLDEN.glob("*/run.sh"), *GOLDEN.glob("*/microvm.sh")])
        assert len(scripts) >= 4
        for script in scripts:
            command = f"qemu-system-x86_64 {arguments(script.read_text())} -version"
            done = gpuhost.run(f"SSH_PORT=2222 VARS=/tmp/vars; {command}")
            assert "QEMU emulator version" in done.stdout

    @pytest.mark.parametrize("output", ["qemu", "microvm"])
    def test_qemu_starts_our_script(self, gpuhost: LabHost, output: str) -> None:
        """With the real card: every device is realized at its place; then QEMU is told to quit."""
        spec = "--name script --gpu 01:00.0 --image-dir /root/script --hugepages off"
        script = {"qemu": "run.sh", "microvm": "microvm.sh"}[output]
        render = f"vfio-kit render {spec} {DIRECT} --output {output} --output cloud-init -o ."
        done = gpuhost.run(
            "set -e; rm -rf /root/script; mkdir /root/script; cd /root/script; "
            f"{render} 2>/dev/null; "
            "qemu-img create -q -f qcow2 -F qcow2 -b /var/lib/libvirt/images/guest.qcow2 "
            "script.qcow2; xorriso -as genisoimage -quiet -V cidata -J -R -o script-seed.iso "
            "user-data meta-data network-config 2>/dev/null; "
            f"! bash {script} -S 2> refused; cat refused; "
            "for f in 0 1; do virsh -q nodedev-detach pci_0000_01_00_$f; done; "
            f"printf '\\001cinfo qtree\\nquit\\n' | timeout 200 bash {script} -S; "
            "for f in 1 0; do virsh -q nodedev-reattach pci_0000_01_00_$f; done; "
            "cd /; rm -r /root/script",
            timeout=400,
        )
        assert "not to vfio-pci; run:" in done.stdout
        assert done.stdout.count('dev: vfio-pci, id "hostdev') == 2
        assert 'host = "0000:01:00.0"' in done.stdout


class TestOurScriptAgainstLibvirtsOwnTranslation:
    def test_of_this_host(self, gpuhost: LabHost) -> None:
        """libvirt's argv for our XML and our QEMU script have the same devices, in place."""
        gpuhost.run(
            f"vfio-kit render --gpu 01:00.0 {DIRECT} --output libvirt --output qemu -o /tmp/same"
        )
        native = gpuhost.run("virsh domxml-to-native qemu-argv --xml /tmp/same/domain.xml").stdout
        script = gpuhost.run("cat /tmp/same/run.sh").stdout
        gpuhost.run("rm -rf /tmp/same")
        assert set(devices(arguments(script))) == {"pci.1", *OUR_DEVICES}
        same_machine(script, native)

    def test_of_every_golden(self, gpuhost: LabHost) -> None:
        """Those of other hosts, too: on more nodes, with more cards, with larger BARs."""
        # libvirt wants a mount of hugetlbfs for its pages, and this host has none of 1 GiB.
        names = {path.parent.name for path in GOLDEN.glob("*/domain.xml")} - {"k80-pair-1G"}
        gpuhost.put(GOLDEN, "/root/golden")
        done = gpuhost.run(
            # It knows the nodes that this host has.
            "set -e; sed -i \"s/nodeset='[^']*'/nodeset='0'/\" /root/golden/*/domain.xml; "
            f'for n in {" ".join(sorted(names))}; do echo; echo "== $n"; '
            "virsh domxml-to-native qemu-argv --xml /root/golden/$n/domain.xml; done; "
            "rm -r /root/golden",
            timeout=300,
        )
        natives = dict(text.split("\n", 1) for text in done.stdout.split("\n== ")[1:])
        assert natives.keys() == names
        for name, native in natives.items():
            same_machine((GOLDEN / name / "run.sh").read_text(), native)


def same_machine(script: str, native: str) -> None:
    """Everything that our script gives to QEMU is in libvirt's translation of our XML."""
    script = arguments(script)
    ours, theirs = devices(script), devices(native)
    # The translator replaces an interface of a network by one without place or ROM setting;
    # where the real one goes is compared with the running QEMU (TestUpVerifyDown).
    same_devices(without_place(ours), without_place(theirs), but=("drive",))
    extra = {device["driver"] for name, device in theirs.items() if name not in ours}
    assert extra <= {"isa-serial", "pcie-root-port"}
    for option in ("-cpu", "-smp"):
        (mine,), (its,) = options(script, option), options(native, option)
        assert set(mine.split(",")) <= set(its.split(","))
    for option in ("-fw_cfg", "-kernel", "-initrd", "-append"):
        assert options(script, option) == options(native, option), option
    # libvirt has one more, for the chipset's watchdog.
    assert set(options(script, "-global")) <= set(options(native, "-global"))
    same_objects(objects(script), objects(native))


def same_objects(ours: Devices, theirs: Devices) -> None:
    """The same memory, in the same way; the same threads."""
    for name, mine in ours.items():
        # libvirt takes files on hugetlbfs: its AppArmor profile denies a memfd with huge pages.
        its_own = ("qom-type", "hugetlb", "hugetlbsize", "share") if name == "pc.ram" else ()
        # Our nodes are those of other hosts.
        nodes = {key for key in ("host-nodes", "node-affinity") if key in mine}
        for key in mine.keys() - {*its_own, *nodes}:
            assert theirs[name].get(key) == mine[key], (name, key)
        assert all(theirs[name][key] == [0] for key in nodes)
    assert theirs.keys() - ours.keys() <= {"masterKey0"}
    if "hugetlb" in ours["pc.ram"]:
        assert str(theirs["pc.ram"]["mem-path"]).startswith("/dev/hugepages/")


OUR_DEVICES = ("virtio-disk0", "virtio-disk1", "net0", "hostdev0", "hostdev1")


def without_place(devices: Devices) -> Devices:
    kept = {k: v for k, v in devices["net0"].items() if k not in ("bus", "addr", "rombar")}
    return {**devices, "net0": kept}


def same_devices(ours: Devices, theirs: Devices, but: tuple[str, ...]) -> None:
    """Every property of our devices is one of theirs; `but`: names that are libvirt's own."""
    for name, device in ours.items():
        for key in device.keys() - set(but):
            assert theirs[name].get(key) == device[key], (name, key)


def arguments(script: str) -> str:
    """What our script gives to QEMU, as shell text."""
    return script.split("qemu-system-x86_64 \\\n", 1)[1].split('  "$@"')[0].replace("\\\n", " ")


def options(command: str, option: str) -> list[str]:
    """The values of an option in a QEMU command line, in order."""
    words = shlex.split(command.replace("\\\n", " "))
    return [value for name, value in pairwise(words) if name == option]


def devices(command: str) -> Devices:
    """The JSON devices of a QEMU command line, by their ids."""
    parsed = [json.loads(value) for value in options(command, "-device") if value[0] == "{"]
    return {device["id"]: device for device in parsed}


def objects(command: str) -> Devices:
    """The JSON objects of a QEMU command line, by their ids."""
    parsed = [json.loads(value) for value in options(command, "-object")]
    return {one["id"]: one for one in parsed}


class TestWrongInputs:
    """Each has a message and an exit status of its own, and leaves the host as it was."""

    def test_unknown_address(self, unchanged: LabHost) -> None:
        refused(unchanged, f"vfio-kit up x --gpu 0a:00.0 {DIRECT}", 2, "0000:0a:00.0", GPU)

    def test_not_a_gpu(self, unchanged: LabHost) -> None:
        refused(unchanged, f"vfio-kit up x --gpu 01:00.1 {DIRECT}", 2, "not a GPU", "audio device")

    def test_missing_image(self, unchanged: LabHost) -> None:
        command = f"vfio-kit up x --gpu 01:00.0 --image /nowhere.qcow2 {DIRECT}"
        command = command.replace("--image /var/lib/libvirt/images/guest.qcow2 ", "")
        refused(unchanged, command, 5, "/nowhere.qcow2")

    def test_image_that_is_none(self, unchanged: LabHost) -> None:
        command = f"vfio-kit up x --gpu 01:00.0 {DIRECT}".replace("guest.qcow2", "guest-vmlinuz")
        refused(unchanged, command, 5, "guest-vmlinuz")

    def test_spec_with_a_typo(self, unchanged: LabHost) -> None:
        unchanged.run("printf 'gpus = [\"01:00.0\"]\\nmemroy = 1024\\n' > /root/typo.toml")
        command = "vfio-kit up x --spec /root/typo.toml"
        refused(unchanged, command, 2, "memroy", "/root/typo.toml:2:")

    def test_not_root(self, unchanged: LabHost) -> None:
        done = unchanged.run(f"vfio-kit up x --gpu 01:00.0 {DIRECT}", check=False, user="tester")
        assert done.returncode == 4, done.stderr
        assert "needs root" in done.stderr

    def test_libvirtd_stopped(self, unchanged: LabHost) -> None:
        units = "libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket"
        unchanged.run(f"systemctl stop {units}")
        try:
            refused(unchanged, f"vfio-kit up x --gpu 01:00.0 {DIRECT}", 5, "libvirt")
        finally:
            unchanged.run("systemctl start libvirtd.socket libvirtd.service")

    def test_name_taken(self, gpuhost: LabHost) -> None:
        gpuhost.run(
            'printf \'<domain type="kvm"><name>taken</name><memory>65536</memory>'
            "<os><type>hvm</type></os></domain>' > /root/taken.xml; virsh -q define /root/taken.xml"
        )
        try:
            refused(gpuhost, f"vfio-kit up taken --gpu 01:00.0 {DIRECT}", 2, "taken")
            assert "taken" in gpuhost.run("virsh list --all --name").stdout
        finally:
            gpuhost.run("virsh -q undefine taken")

    def test_full_disk(self, unchanged: LabHost) -> None:
        unchanged.run("mkdir -p /root/full; mount -t tmpfs -o size=1m full /root/full")
        try:
            command = f"vfio-kit up x --gpu 01:00.0 {DIRECT} --image-dir /root/full"
            refused(unchanged, command, 4, "/root/full", "free")
        finally:
            unchanged.run("umount /root/full; rmdir /root/full")

    def test_more_hugepages_than_memory(self, unchanged: LabHost) -> None:
        command = f"vfio-kit up x --gpu 01:00.0 {DIRECT}".replace("1024", "65536")
        refused(unchanged, command, 4, "65536 MiB", "hugepages", "--memory")

    def test_guest_that_never_answers(self, unchanged: LabHost) -> None:
        """It is started for real, with real devices, and taken away again in time."""
        command = f"vfio-kit up x --gpu 01:00.0 {DIRECT} --timeout 3"
        said = refused(unchanged, command, 6, "in time", "--timeout", timeout=300)
        assert "the host is as it was" in said


@pytest.fixture(scope="class")
def story() -> dict[str, str]:
    """What one test of a class leaves for a later one."""
    return {}


class TestUpVerifyDown:
    """One guest; the tests build on each other."""

    def guest(self, host: LabHost, command: str) -> str:
        address = json.loads(host.run("vfio-kit list --json").stdout)["vms"][0]["address"]
        ssh = (
            f"ssh -i {STATE}/m4000/id_ed25519 -o UserKnownHostsFile={STATE}/m4000/known_hosts "
            f"-o HostKeyAlias=m4000 -o BatchMode=yes debian@{address}"
        )
        return host.run(f"{ssh} {shlex.quote(command)}", timeout=300).stdout

    def test_up(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        if "before" not in story:
            story["before"] = gpuhost.run(SNAPSHOT).stdout
            # Before, since render takes no GPU that a VM has.
            render = f"vfio-kit render --name m4000 --gpu 01:00.0 {DIRECT} --output qemu -o /tmp/s"
            story["script"] = gpuhost.run(f"{render} && cat /tmp/s/run.sh; rm -r /tmp/s").stdout
        done = gpuhost.run(f"vfio-kit up m4000 --gpu 01:00.0 {DIRECT} --json", timeout=1500)
        document = json.loads(done.stdout)
        assert document["schema"] == "vfio-kit/up/2"
        assert document["gpus"] == [GPU]
        print(done.stderr)
        for function in (GPU, AUDIO):
            driver = gpuhost.run(f"readlink /sys/bus/pci/devices/{function}/driver").stdout.strip()
            assert driver.endswith("/vfio-pci")

    def test_qemu_runs_with_our_scripts_devices(
        self, gpuhost: LabHost, story: dict[str, str]
    ) -> None:
        running = "xargs -0 printf '%q ' < /proc/$(cat /run/libvirt/qemu/m4000.pid)/cmdline"
        theirs = devices(gpuhost.run(running).stdout)
        same_devices(devices(arguments(story["script"])), theirs, but=("drive",))
        assert set(theirs) == {"pci.1", *OUR_DEVICES, "serial0"}

    def test_guest_has_both_functions_in_one_slot(self, gpuhost: LabHost) -> None:
        lines = self.guest(gpuhost, "lspci -nn -d 10de:").splitlines()
        assert [line.split("[")[-1].split("]")[0] for line in lines] == ["10de:13f1", "10de:0fbb"]
        assert [line.split()[0] for line in lines] == ["01:00.0", "01:00.1"]

    def test_guest_memory_is_in_hugepages(self, gpuhost: LabHost) -> None:
        meminfo = gpuhost.run("grep -E 'HugePages_(Total|Free)' /proc/meminfo").stdout.split()
        assert int(meminfo[1]) - int(meminfo[3]) == 512

    def test_host_key_is_the_seeds(self, gpuhost: LabHost) -> None:
        public = self.guest(gpuhost, "sudo cat /etc/ssh/ssh_host_ed25519_key.pub").split()[1]
        assert public in gpuhost.run(f"cat {STATE}/m4000/known_hosts").stdout

    def test_secrets_are_roots_alone(self, gpuhost: LabHost) -> None:
        names = f"{STATE} {STATE}/m4000 {STATE}/m4000/id_ed25519 {STATE}/m4000/journal.jsonl"
        assert gpuhost.run(f"stat -c %a {names}").stdout.split() == ["700", "700", "600", "600"]
        seed = "/var/lib/libvirt/images/m4000-seed.iso"
        assert gpuhost.run(f"stat -c %a {seed}").stdout.strip() == "600"

    def test_list(self, gpuhost: LabHost) -> None:
        document = json.loads(gpuhost.run("vfio-kit list --json").stdout)
        assert document["schema"] == "vfio-kit/list/1"
        (vm,) = document["vms"]
        assert (vm["name"], vm["state"], vm["gpus"]) == ("m4000", "running", [GPU])
        assert vm["address"] in gpuhost.run("vfio-kit list").stdout

    def test_the_same_name_again(self, gpuhost: LabHost) -> None:
        refused(gpuhost, f"vfio-kit up m4000 --gpu 01:00.0 {DIRECT}", 2, "m4000", "down")
        assert "m4000" in gpuhost.run("virsh list --name").stdout

    def test_verify_says_no_and_why(self, gpuhost: LabHost) -> None:
        done = gpuhost.run("vfio-kit verify m4000 --json", check=False, timeout=300)
        assert done.returncode == 3
        document = json.loads(done.stdout)
        assert (document["schema"], document["healthy"]) == ("vfio-kit/verify/2", False)
        (host,) = document["hosts"]
        assert (host["host"], host["healthy"]) == ("m4000", False)
        found = {check["code"]: (check["status"], check["cause"]) for check in host["checks"]}
        assert found["pci"] == found["link"] == found["bar1"] == ("ok", None)
        assert found["module"] == ("failed", "not-installed")
        assert found["nvidia-smi"] == ("failed", "not-installed")
        assert found["device-query"] == ("failed", "not-installed")

    def test_verify_refuses_another_host_key(self, gpuhost: LabHost) -> None:
        address = json.loads(gpuhost.run("vfio-kit list --json").stdout)["vms"][0]["address"]
        gpuhost.run("ssh-keygen -q -t ed25519 -N '' -f /root/other")
        gpuhost.run(f"echo {address} $(cat /root/other.pub) > /root/other_hosts")
        command = f"vfio-kit verify --host {address} --identity {STATE}/m4000/id_ed25519"
        command += " --user debian --known-hosts /root/other_hosts"
        done = gpuhost.run(command, check=False, timeout=300)
        gpuhost.run("rm /root/other*")
        assert done.returncode == 6
        assert "host key is not the one that is known" in done.stdout

    def test_verify_reads_recorded_output_and_still_misses_the_module(
        self, gpuhost: LabHost
    ) -> None:
        """Stand-ins with recorded output: their rungs hold, and the module's does not."""
        gpuhost.put(product.CHECKOUT / "tests/lab/standins", "/root/standins")
        for name in ("nvidia-smi", "deviceQuery"):
            text = gpuhost.run(f"base64 -w 0 /root/standins/{name}").stdout
            to = f"/usr/local/bin/{name}"
            self.guest(
                gpuhost, f"echo {text} | base64 -d | sudo tee {to} >/dev/null; sudo chmod 755 {to}"
            )
        gpuhost.run("rm -r /root/standins")
        done = gpuhost.run("vfio-kit verify m4000 --json", check=False, timeout=300)
        assert done.returncode == 3, done.stdout
        (host,) = json.loads(done.stdout)["hosts"]
        found = {check["code"]: (check["status"], check["cause"]) for check in host["checks"]}
        assert found["module"] == ("failed", "not-installed")
        assert found["nvidia-smi"] == found["gpu-state"] == found["device-query"] == ("ok", None)
        (gpu,) = host["gpus"]
        assert (gpu["name"], gpu["driver"], gpu["memory_mib"], gpu["compute_capability"]) == (
            "Quadro M4000",
            "470.256.02",
            8127,
            "5.2",
        )

    def test_down_puts_the_host_back(self, gpuhost: LabHost, story: dict[str, str]) -> None:
        done = gpuhost.run("vfio-kit down m4000", timeout=300)
        print(done.stderr)
        assert differences(story["before"], gpuhost.run(SNAPSHOT).stdout) == []
        assert json.loads(gpuhost.run("vfio-kit list --json").stdout)["vms"] == []

    def test_down_again_and_purge(self, gpuhost: LabHost) -> None:
        log = "/var/log/libvirt/qemu/m4000.console"
        assert gpuhost.run(f"test -s {log}", check=False).returncode == 0
        gpuhost.run("vfio-kit down m4000")
        gpuhost.run("vfio-kit down m4000 --purge")
        assert gpuhost.run(f"ls {log} {STATE}/m4000", check=False).stdout == ""
        refused(gpuhost, "vfio-kit down m4000", 2, "m4000")
