"""A name means to vfio-kit what it means to ssh(1): OpenSSH itself is asked, with `ssh -G`."""

import getpass
import os
import pwd
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.tools import run
from vfio_kit.errors import UsageError
from vfio_kit.guest.known_hosts import DEFAULT_FILES
from vfio_kit.guest.ssh_config import resolve_target
from vfio_kit.guest.target import SshOptions, Target

HOME = Path(pwd.getpwuid(os.getuid()).pw_dir)
"""Where ssh(1) looks: not in $HOME."""

INCLUDED = """
User from-include
Host gpu1
  Port 2301
Host gpu2
  Port 2302
"""

CONFIGS = {
    "empty": "",
    "first value wins": "Host gpu1\n  Port 2222\nPort 3333\nHost *\n  Port 4444\n  User second\n",
    "equals, quotes, case": 'HOST gpu1\n\tpOrT = 2200\n hostname="10.0.0.9"\nUser "a b"\n',
    "comments": "# one\nHost gpu1 # two\n  # three\n  Port 2222 # four\n",
    "patterns": "Host gpu? !gpu2\n  Port 1\nHost *.lan gpu2\n  Port 2\n",
    "negation alone matches nobody": "Host !gpu2\n  Port 7\n",
    "brackets are no pattern": "Host gpu[12]\n  Port 7\n",
    "hostname with token": "Host gpu*\n  HostName %h.example.org\n",
    "match host sees the hostname": (
        "Host gpu1\n  HostName real.lan\nMatch host *.lan\n  Port 5\n"
        "Match originalhost gpu1\n  User o\n"
    ),
    "match all": "Match all\n  Port 6\n",
    "match user": "Host gpu1\n  User alice\nMatch user alice,bob\n  Port 8\n",
    "match not": "Match !host gpu1\n  Port 8\nMatch host gpu*,!gpu2\n  Port 9\n",
    "match localuser": f"Match localuser {getpass.getuser()}\n  Port 11\n",
    "match exec": 'Match exec "test %n = gpu1"\n  Port 12\nMatch exec "false"\n  User nobody\n',
    "match two": 'Match host gpu1 exec "true"\n  Port 13\n',
    "match final": "Match final host *.lan\n  Port 14\nHost gpu1\n  HostName real.lan\n",
    "include": "Include {include}\nHost gpu*\n  Port 15\n  User late\n",
    "include in a host": "Host gpu2\n  Include {include}\n  Port 16\nHost *\n  Port 17\n",
    "include nothing": "Include {include}.none-*\nPort 18\n",
    "jump": "Host gpu1\n  ProxyJump root@bastion:2200,inner\nHost gpu2\n  ProxyJump none\n",
    "jump before command": "Host gpu*\n  ProxyJump a\n  ProxyCommand b %h\n",
    "command before jump": "Host gpu*\n  ProxyCommand nc  %h %p # all\n  ProxyJump a\n",
    "no command before jump": "Host gpu*\n  ProxyCommand none\n  ProxyJump a\n",
    "keys": "HostKeyAlias gpu-key\nIdentitiesOnly yes\nConnectTimeout 7\nAddressFamily inet\n",
}


def openssh(config: Path, host: str, *options: str) -> dict[str, str]:
    """What ssh(1) makes of the configuration: the first value of each keyword."""
    done = run("ssh", "-G", "-F", config, *options, host)
    assert done.returncode == 0, done.stderr
    values: dict[str, str] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        values.setdefault(keyword, value)
    return values


def way(target: Target) -> str | None:
    """The jump hosts as ProxyJump has them."""
    hops = []
    while target.options.jump is not None:
        target = target.options.jump
        hops.append(target.host)
    return ",".join(reversed(hops)) or None


def names(value: str | None) -> str | None:
    """The hosts of a ProxyJump alone."""
    if value is None or value == "none":
        return None
    return ",".join(hop.rpartition("@")[2].partition(":")[0] for hop in value.split(","))


@pytest.mark.parametrize("host", ["gpu1", "gpu2", "other"])
@pytest.mark.parametrize("case", CONFIGS)
def test_a_name_means_what_it_means_to_openssh(case: str, host: str, tmp_path: Path) -> None:
    include, config = tmp_path / "included", tmp_path / "config"
    include.write_text(INCLUDED)
    config.write_text(CONFIGS[case].replace("{include}", str(include)))
    expected = openssh(config, host)
    target = resolve_target(host, config=config)
    assert (target.host, target.port, target.user) == (
        expected["hostname"],
        int(expected["port"]),
        expected["user"],
    )
    assert way(target) == names(expected.get("proxyjump"))
    assert target.alias == expected.get("hostkeyalias")
    assert target.options.identities_only == (expected["identitiesonly"] == "yes")
    assert target.options.family == expected["addressfamily"]
    timeout = expected["connecttimeout"]
    assert target.options.connect_timeout == (15 if timeout == "none" else float(timeout))


@pytest.mark.parametrize("name", ["gpu1", "me@gpu1", "ssh://gpu1:77", "ssh://me@gpu1:77"])
def test_a_name_is_read_as_openssh_reads_it(name: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Host gpu1\n  Port 2222\n  User conf\nMatch user me\n  IdentitiesOnly yes\n")
    expected = openssh(config, name)
    target = resolve_target(name, config=config)
    assert (target.host, str(target.port), target.user) == (
        expected["hostname"],
        expected["port"],
        expected["user"],
    )
    assert target.options.identities_only == (expected["identitiesonly"] == "yes")


@pytest.mark.parametrize(
    ("name", "host", "port"),
    [
        ("gpu1:2200", "gpu1", 2200),
        ("me@10.0.0.1:2200", "10.0.0.1", 2200),
        ("fe80::1", "fe80::1", 22),
        ("ssh://me@[::1]:2200", "::1", 2200),
        ("[fe80::1]", "fe80::1", 22),
        ("me@[fe80::1%eth0]:2200", "fe80::1%eth0", 2200),
        ("user@domain@gpu1", "gpu1", 22),
    ],
)
def test_a_port_may_follow_the_name(name: str, host: str, port: int) -> None:
    target = resolve_target(name, config=Path("/dev/null"))
    assert (target.host, target.port) == (host, port)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "@gpu1",
        "gpu1:",
        "gpu1:0",
        "gpu1:65536",
        "gpu1:x",
        "1:2:3",
        "[::1",
        "a b",
        "-oProxyCommand=x",
        "me@-l",
        "a;reboot",
        "$(reboot)@gpu1",
        "ssh://",
        "gpu1\n",
        "`id`",
    ],
)
def test_what_is_no_name_is_refused_before_anything_is_run(name: str) -> None:
    with pytest.raises(UsageError):
        resolve_target(name, config=Path("/dev/null"))


def test_the_command_line_wins(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host gpu1\n  Port 1\n  User conf\n  ProxyJump bastion\n  IdentityFile conf\n"
    )
    target = resolve_target(
        "typed@gpu1:2",
        user="given",
        port=3,
        identity=Path("given"),
        known_hosts=Path("known"),
        config=config,
        jump="none",
    )
    assert (target.user, target.port, target.identity) == ("given", 3, Path("given"))
    assert target.known_hosts == Path("known")
    assert target.options.jump is None
    assert resolve_target("typed@gpu1:2", config=config).user == "typed"


def test_without_files_the_defaults_are_opensshs() -> None:
    target = resolve_target("gpu1", config=Path("/dev/null"))
    assert str(target) == f"{getpass.getuser()}@gpu1"
    files = [Path(name.replace("~", str(HOME))) for name in DEFAULT_FILES]
    assert list(target.options.known_hosts) == files
    assert replace(target.options, known_hosts=()) == SshOptions()


SSH = """#!/bin/sh
printf '<%s>' "$@" >>{folder}/asked
printf 'user me\nhostname 192.0.2.1\nport 22\n'
"""


@pytest.fixture
def asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ssh that tells no more than it must, and writes down what it is asked."""
    ssh = tmp_path / "ssh"
    ssh.write_text(SSH.format(folder=tmp_path))
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return tmp_path / "asked"


def test_ssh_reads_its_own_files_where_none_is_named(asked: Path) -> None:
    assert str(resolve_target("gpu-own")) == "me@192.0.2.1"
    assert asked.read_text().startswith("<-T><-G><--><gpu-own>")


def test_ssh_is_asked_without_a_shell_and_once(asked: Path) -> None:
    for _ in range(2):
        resolve_target("me@gpu-once:7", user="a b; $(c)", config=Path("none"), jump="x,y")
    question = f"<-T><-G><-F><{Path.cwd()}/none><-l><a b; $(c)><-p><7><-J><x,y><--><gpu-once>"
    assert asked.read_text().count(question) == 1


@pytest.fixture
def no_ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home on a machine without ssh."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("no_ssh")
def test_without_ssh_the_command_line_counts() -> None:
    target = resolve_target("gpu1", user="me", port=7, identity=Path("key"), jump="a@b:8,c")
    assert (str(target), target.identity, way(target)) == ("me@gpu1:7", Path("key"), "b,c")
    inner = target.options.jump
    assert inner is not None and str(inner) == f"{getpass.getuser()}@c"
    assert str(inner.options.jump) == "a@b:8"
    assert replace(target.options, jump=None) == SshOptions()


def test_without_ssh_its_files_are_not_passed_over(no_ssh: Path) -> None:
    with pytest.raises(UsageError, match="ssh, which reads other, is not installed") as caught:
        resolve_target("gpu1", config=Path("other"))
    assert "openssh-client" in caught.value.hint
    (no_ssh / ".ssh").mkdir()
    (no_ssh / ".ssh" / "config").touch()
    with pytest.raises(UsageError, match=f"ssh, which reads {no_ssh}/.ssh/config, is not"):
        resolve_target("gpu1")


def test_files_may_be_named_with_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEYS", "/keys")
    me = getpass.getuser()
    config = tmp_path / "config"
    config.write_text(
        "Host gpu1\n  HostName 10.0.0.1\n  User me\n  Port 2200\n"
        "IdentityFile ~/.ssh/%n_%h_%p_%r\nIdentityFile ${KEYS}/%%\n"
        f"IdentityFile ~/.ssh/%n_%h_%p_%r\nIdentityFile ~{me}/%k\n"
        "CertificateFile %d/cert\nIdentityAgent ~/agent-%u\nRevokedHostKeys %d/revoked\n"
        'UserKnownHostsFile ~/a "%d/b c"\nGlobalKnownHostsFile ~/d\n'
    )
    options = resolve_target("gpu1", config=config).options
    first = HOME / ".ssh/gpu1_10.0.0.1_2200_me"
    assert options.identities == (first, Path("/keys/%"), HOME / "gpu1")
    assert options.certificates == (HOME / "cert",)
    assert options.agent == f"{HOME}/agent-{me}"
    assert options.revoked == HOME / "revoked"
    assert options.known_hosts == (HOME / "a", HOME / "b c", HOME / "d")


def test_a_command_is_filled_in_as_openssh_does(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("HostName real\nProxyCommand nc -X '5' %h:%p %n %r %%h # %h\n")
    command = resolve_target("me@gpu1:7", config=config).options.proxy_command
    assert command == "nc -X '5' real:7 gpu1 me %h # real"


def test_each_hop_is_looked_up_itself(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host gpu1\n  ProxyJump me@outer:2200,inner\n"
        "Host inner\n  HostName 10.0.0.2\n  User in\n  ProxyJump not-asked\n"
        "Host outer\n  HostName 10.0.0.1\n  User out\n  Port 1\n  HostKeyAlias outer-key\n"
        "  ProxyJump edge\n"
    )
    target = resolve_target("gpu1", config=config)
    inner = target.options.jump
    assert inner is not None and str(inner) == "in@10.0.0.2"
    outer = inner.options.jump
    assert outer is not None and (str(outer), outer.alias) == ("me@10.0.0.1:2200", "outer-key")
    assert way(target) == "edge,10.0.0.1,10.0.0.2"


@pytest.mark.parametrize(
    "text",
    [
        "ProxyJump b\n",
        "Host a\n  ProxyJump b\nHost b\n  ProxyJump c\nHost c\n  ProxyJump a\n",
        "Host a\n  ProxyJump b,c,b\n",
        "ProxyJump %h-jump\n",
    ],
)
def test_a_circle_of_jump_hosts_is_refused(text: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(text)
    with pytest.raises(UsageError, match=r"in a circle: a → |jumphost loop via b$"):
        resolve_target("a", config=config)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Host\n", "line 2"),
        ("Port\n", "line 2"),
        ("Port many\n", "line 2: Bad port 'many'"),
        ("Port \udcff\n", "line 2: Bad port"),
        ('HostName "open\n', "line 2"),
        ("HostNam gpu9\n", "line 2: Bad configuration option: hostnam"),
        ("HostName %q\n", "%q"),
        ("IdentitiesOnly maybe\n", "line 2"),
        ("ConnectTimeout soon\n", "line 2"),
        ("ProxyJump b@\n", "line 2"),
        ("Match host\n", "line 2: Bad Match condition"),
        ("Include {config}\n", "Too many recursive configuration includes"),
        ("CanonicalizeHostname yes\nCanonicalizeFallbackLocal no\n", "Could not resolve host"),
    ],
)
def test_what_ssh_says_of_a_malformed_file_is_told(text: str, reason: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    text = text.replace("{config}", str(config))
    config.write_text(f"# first\n{text}", errors="surrogateescape")
    with pytest.raises(UsageError, match="gpu1: ssh cannot tell what it means: ") as caught:
        resolve_target("gpu1", config=config)
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("IdentityFile %q\n", "gpu1: %q: vfio-kit cannot fill %q in"),
        ("IdentityFile /a%\n", "gpu1: /a%: vfio-kit cannot fill % in"),
        ("IdentityFile ${NOT_SET_ANYWHERE}/x\n", "the environment has no NOT_SET_ANYWHERE"),
        ("IdentityFile ~no-such-user-here/x\n", "~no-such-user-here/x: there is no such user"),
        ("ProxyJump -oX\n", "'-oX' is no name of a host"),
        ("ProxyCommand nc %h %p\nProxyUseFdpass yes\n", "no file descriptor from a ProxyCommand"),
    ],
)
def test_what_cannot_be_meant_is_told(text: str, reason: str, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(text)
    with pytest.raises(UsageError) as caught:
        resolve_target("gpu1", config=config)
    assert reason in caught.value.message


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"{tmp_path}/none: No such file"):
        resolve_target("gpu1", config=tmp_path / "none")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("Port 1\n")
    assert resolve_target("gpu1", config=config).port == 1
    config.write_text("Port 22222\n")
    assert resolve_target("gpu1", config=config).port == 22222


def test_what_has_no_effect_is_told(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "Host *\n  BindAddress 10.0.0.1\n  ForwardAgent yes\n  Ciphers aes128-ctr\n"
        "  KnownHostsCommand /bin/keys %H\n  PKCS11Provider none\n"
    )
    told = resolve_target("gpu1", config=config).options.not_honoured
    assert told == ("bindaddress", "ciphers", "knownhostscommand")


def test_no_key_at_all_can_be_asked_for(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text("IdentityFile none\nIdentityAgent none\n")
    options = resolve_target("gpu1", config=config).options
    assert (options.identities, options.agent) == ((Path(os.devnull),), "none")


def test_an_agent_is_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTHER_AGENT", "/run/agent")
    config = tmp_path / "config"
    config.write_text("IdentityAgent $OTHER_AGENT\n")
    assert resolve_target("gpu1", config=config).options.agent == "/run/agent"
