"""docs/examples: each is judged by the program that is to read it, and run as far as it can be.

vfio-kit is a script in PATH that runs this checkout; the guests are SSH servers of the test's,
which its ssh_config leads to.
"""

import configparser
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from tests.unit.test_verify_command import BROKEN, SOUND, Rack, answers
from tests.unit.tools import accepts
from tests.unit.verified import WHEN, sound
from vfio_kit.cli.verify_prometheus import prometheus_text

pytestmark = pytest.mark.edge

REPOSITORY = Path(__file__).parents[2]
EXAMPLES = REPOSITORY / "docs/examples"
VENV = Path(sys.executable).parent
TEXTFILES = "/var/lib/prometheus/node-exporter"


class Site:
    """A machine with vfio-kit in PATH, and guests that are sound, broken and off."""

    def __init__(self, folder: Path, rack: Rack) -> None:
        self.folder, self.textfiles = folder, folder / "textfiles"
        self.textfiles.mkdir()
        rack.guest("good", answers(SOUND))
        rack.guest("bad", answers(BROKEN))
        rack.nobody("off")
        programs = folder / "bin"
        programs.mkdir()
        self.vfio_kit = programs / "vfio-kit"
        # In the place of the site's ssh_config, which ssh takes from a user's real home directory.
        self.vfio_kit.write_text(
            '#!/bin/sh\ncase " $*" in *" --local"*) ;; *) shift\n'
            f'set -- verify --ssh-config {rack.config} "$@" ;; esac\n'
            f'exec {shlex.quote(sys.executable)} -m vfio_kit "$@"\n'
        )
        self.vfio_kit.chmod(0o755)
        self._environment = {
            "PATH": f"{programs}:{VENV}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
            "HOME": str(folder),
            "LANG": "C.UTF-8",
        }

    def run(self, *words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            list(map(str, words)),
            check=False,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self._environment | environment,
            timeout=120,
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    (tmp_path / "rack").mkdir()
    rack = Rack(tmp_path / "rack")
    yield Site(tmp_path, rack)
    rack.close()


def examples(pattern: str) -> list[Path]:
    found = sorted(EXAMPLES.glob(pattern))
    assert found, pattern
    return found


def test_every_example_is_told_of_in_the_runbook() -> None:
    page = (REPOSITORY / "docs/runbook.md").read_text("utf-8")
    files = [path.relative_to(EXAMPLES.parent) for path in EXAMPLES.rglob("*") if path.is_file()]
    assert [str(path) for path in files if f"({path})" not in page] == []


# Shell


@pytest.mark.parametrize("script", examples("*/*.sh"), ids=lambda path: path.name)
def test_shellcheck_and_the_shell_accept_it(script: Path) -> None:
    accepts("shellcheck", "--enable=all", "--exclude=SC2250", script)
    assert script.stat().st_mode & stat.S_IXUSR


@pytest.mark.parametrize(
    ("hosts", "status", "word"),
    [
        ("good", 0, "gate: open"),
        ("good bad", 3, "not healthy; the remedies"),
        ("good off", 6, "could not be checked"),
    ],
)
def test_the_gate_opens_for_healthy_guests_alone(
    site: Site, hosts: str, status: int, word: str
) -> None:
    gate = EXAMPLES / "ci/gate.sh"
    done = site.run(gate, *hosts.split(), GATE_SECONDS="1", GATE_EXPECT="gpu_count=1")
    assert (done.returncode, word in done.stdout + done.stderr) == (status, True), done.stderr
    evidence = site.folder / "gate-evidence"
    assert (evidence / "verify.xml").read_text().count("<testsuite ") == len(hosts.split())
    assert (evidence / "verify.txt").read_text() in done.stdout


def test_a_gate_that_cannot_check_is_closed(site: Site) -> None:
    done = site.run(EXAMPLES / "ci/gate.sh", "good", GATE_EXPECT="no_such_key=1")
    assert done.returncode == 2
    assert "gate: closed, nothing was checked" in done.stderr
    assert site.run(EXAMPLES / "ci/gate.sh").returncode == 2


@pytest.mark.parametrize(
    ("words", "code", "first"),
    [
        ("--host good", 0, r"VFIO-KIT OK - good: healthy, .+ s"),
        ("--host bad", 2, r"VFIO-KIT CRITICAL - bad: not healthy: nvidia-smi \(driver-not-load.+"),
        ("--host off", 3, r"VFIO-KIT UNKNOWN - off: not checked: .+"),
        ("--host good --no-such-option", 3, r"VFIO-KIT UNKNOWN - error: no such option .+"),
    ],
)
def test_the_plugin_says_it_in_the_codes_of_nagios(
    site: Site, words: str, code: int, first: str
) -> None:
    done = site.run(EXAMPLES / "nagios/check_vfio_kit.sh", *words.split())
    assert done.returncode == code
    assert re.fullmatch(first, done.stdout.splitlines()[0])
    assert "|" not in done.stdout


# systemd


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters="=")
    # As configparser's manual has it; its type stubs take the attribute for a method.
    parser.optionxform = str  # type: ignore[assignment]
    parser.read(EXAMPLES / "systemd" / name)
    return parser


def test_systemd_reads_the_units_without_a_complaint(tmp_path: Path) -> None:
    assert shutil.which("systemd-analyze"), "apt-get install systemd"
    program = tmp_path / "vfio-kit"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    for path in examples("systemd/*"):
        text = path.read_text().replace("/usr/local/bin/vfio-kit", str(program))
        (tmp_path / path.name).write_text(text)
    units = [tmp_path / path.name for path in examples("systemd/*")]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, units)],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:", "SYSTEMD_LOG_LEVEL": "notice"},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    said = [line for line in done.stderr.splitlines() if "vfio-kit" in line]
    assert (done.returncode, said) == (0, [])


def test_the_service_is_confined_and_its_gpu_is_not_closed_to_it() -> None:
    path = EXAMPLES / "systemd/vfio-kit-verify.service"
    # "exposure" of 4.9 and less is called OK; a service as it comes has 9.6.
    accepts("systemd-analyze", "security", "--offline=true", "--threshold=49", path)
    closed = {"PrivateDevices", "DeviceAllow", "DevicePolicy", "ProtectClock", "PrivateNetwork"}
    broken_by = {"MemoryDenyWriteExecute", "ProtectKernelLogs", "DynamicUser", "User"}
    assert set(unit(path.name)["Service"]) & (closed | broken_by) == set()


@pytest.mark.parametrize(("whom", "status"), [("bad", 3), ("off", 6)])
def test_what_the_service_runs_writes_the_metrics(site: Site, whom: str, status: int) -> None:
    service = unit("vfio-kit-verify.service")["Service"]
    assert service["Environment"] == "WHOM=--local"
    program, *words = service["ExecStart"].split()
    assert program == "/usr/local/bin/vfio-kit"
    words[words.index("$WHOM")] = f"--host={whom}"
    done = site.run(site.vfio_kit, *(w.replace(TEXTFILES, str(site.textfiles)) for w in words))
    assert done.returncode == status
    assert str(status) in service["SuccessExitStatus"].split()
    assert f'vfio_kit_verify_checked{{host="{whom}"}}' in metrics_of(site)


def metrics_of(site: Site) -> str:
    (file,) = site.textfiles.iterdir()
    assert file.name.endswith(".prom")
    assert file.stat().st_mode & 0o777 == 0o644
    return file.read_text()


# cron


def cron_lines() -> list[str]:
    text = (EXAMPLES / "cron/vfio-kit-verify").read_text()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def test_crontab_accepts_it(tmp_path: Path) -> None:
    """crontab(1) checks a user's table, which has no field for the user."""
    table = tmp_path / "table"
    without = [
        re.sub(r"^((?:@\w+|(?:\S+\s+){4}\S+)\s+)root ", r"\1", line) for line in cron_lines()
    ]
    assert sum(a != b for a, b in zip(without, cron_lines(), strict=True)) == 2
    table.write_text("\n".join(without) + "\n")
    accepts("crontab", "-n", table)
    # cron passes by files of /etc/cron.d whose names have other characters (run-parts(8)).
    assert re.fullmatch(r"[A-Za-z0-9_-]+", (EXAMPLES / "cron/vfio-kit-verify").name)


def test_what_cron_runs_writes_the_metrics(site: Site) -> None:
    said = site.folder / "syslog"
    logger = site.vfio_kit.with_name("logger")
    logger.write_text(f"#!/bin/sh\ncat > {said}\n")
    logger.chmod(0o755)
    (command,) = [line.split("root ", 1)[1] for line in cron_lines() if line.startswith("*/5")]
    done = site.run("/bin/sh", "-c", command.replace(TEXTFILES, str(site.textfiles)))
    assert (done.stdout, done.stderr) == ("", "")  # cron would mail it
    assert "vfio_kit_verify_checked{" in metrics_of(site)
    assert "healthy" in said.read_text()


# GitHub


def workflow() -> Any:
    return yaml.safe_load((EXAMPLES / "ci/github-gate.yml").read_text())


def test_githubs_schema_holds_and_zizmor_finds_nothing() -> None:
    file = EXAMPLES / "ci/github-gate.yml"
    accepts(f"{VENV}/check-jsonschema", "--builtin-schema", "vendor.github-workflows", file)
    accepts(f"{VENV}/zizmor", "--offline", "--quiet", file)


@pytest.mark.parametrize(("host", "status"), [("ops@good", 0), ("ops@off", 6)])
def test_the_steps_of_the_workflow_run(site: Site, host: str, status: int) -> None:
    job = workflow()["jobs"]["gate"]
    server = site.folder / "rack/good"
    known = {
        "inputs.host": host,
        "secrets.GPU_GATE_KEY": (server / "id_ed25519").read_text(),
        "secrets.GPU_GATE_KNOWN_HOSTS": (server / "known_hosts").read_text(),
    }
    statuses = {}
    for step in job["steps"]:
        if "run" in step:
            environment = filled({**job["env"], **step.get("env", {})}, known)
            script = step["run"].replace("--for 600", "--for 1")
            done = site.run("bash", "-e", "-c", script, RUNNER_TEMP=str(site.folder), **environment)
            statuses[step["name"]] = done.returncode
    assert statuses == {
        "The key, and the host keys, for this job alone": 0,
        "The guest is fit for work": status,
        "Remove the key": 0,
    }
    assert (site.folder / "verify.xml").exists()
    assert not (site.folder / "id").exists()
    after = [step for step in job["steps"] if step["name"].startswith(("Remove", "Keep"))]
    assert all(step["if"] == "always()" for step in after)


def filled(environment: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """The expressions of a workflow in their values; one that is not known is a KeyError."""
    return {
        key: re.sub(r"\$\{\{ (.+?) \}\}", lambda found: known[found[1]], value)
        for key, value in environment.items()
    }


# Ansible


def ansible(site: Site, *words: str) -> subprocess.CompletedProcess[str]:
    inventory = site.folder / "inventory.ini"
    inventory.write_text("[gpu]\ngood\nnode-2 vfio_kit_address=bad\nnode-3 ansible_host=off\n")
    settings_file = site.folder / "ansible.cfg"  # not whatever there is above, or in /etc
    settings_file.touch()
    settings = {
        "ANSIBLE_HOME": str(site.folder / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_CONFIG": str(settings_file),
        "LC_ALL": "C.UTF-8",
    }
    playbook = EXAMPLES / "ansible/verify.yml"
    return site.run("ansible-playbook", "-i", inventory, *words, playbook, **settings)


def test_ansible_reads_the_playbook(site: Site) -> None:
    done = ansible(site, "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.unit_long
def test_the_playbook_fails_for_those_that_are_not_fit_with_the_remedies(site: Site) -> None:
    evidence = site.folder / "evidence.json"
    done = ansible(site, "-e", f"vfio_kit_evidence={evidence}", "-e", "vfio_kit_wait=1")
    assert done.returncode == 2, done.stdout + done.stderr
    recap = dict(re.findall(r"^(\S+) +: ok=\d+ .*failed=(\d)", done.stdout, re.MULTILINE))
    assert recap == {"good": "0", "node-2": "1", "node-3": "1"}
    said = done.stdout.replace("\\n", "\n")
    assert "good is healthy; GPUs: 1" in said
    assert "bad is not healthy" in said
    assert "nvidia-smi (driver-not-loaded): " in said
    assert "-> in the guest: sudo modprobe nvidia" in said
    assert "off could not be checked" in said
    assert "WARNING" not in done.stderr
    assert '"host": "bad"' in evidence.read_text()


# Prometheus


def rules() -> list[dict[str, Any]]:
    data = yaml.safe_load((EXAMPLES / "prometheus/vfio-kit.rules.yml").read_text())
    return [rule for group in data["groups"] for rule in group["rules"]]


def test_prometheus_parses_every_alert_and_verify_writes_its_metrics() -> None:
    report = sound("k80", "k80")
    gpus = tuple(
        replace(gpu, retirement_pending=True, throttle_reasons=("hw_slowdown",))
        for gpu in report.gpus
    )
    written = prometheus_text([replace(report, gpus=gpus)], WHEN)
    names = set(re.findall(r"^# TYPE (\S+) ", written, re.MULTILINE))
    for rule in rules():
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        promql_parser.parse(rule["expr"])
        used = set(re.findall(r"vfio_kit_\w+", rule["expr"]))
        assert used and used <= names, rule["alert"]
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        assert labels <= {"host", "bus_id"}
