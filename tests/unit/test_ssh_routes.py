"""The way to a machine, and who one is there: jump hosts, proxies, agents, keys, login shells."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.examples import few
from tests.unit.ssh_server import SshServer, answer, plain, shell
from tests.unit.values import said
from vfio_kit.apply.keys import new_key
from vfio_kit.errors import GuestError
from vfio_kit.guest.runner import wire
from vfio_kit.guest.ssh import Connection, Hops, WrongHostKey
from vfio_kit.guest.ssh_config import resolve_target
from vfio_kit.guest.target import Target

CLIENT = new_key("client@vm")


class Site:
    """A machine behind two jump hosts, and the ssh_config that leads there; one key opens all."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("gpu1", "inner", "outer"):
            (folder / name).mkdir()
        self.gpu = SshServer(folder / "gpu1", {"true": answer(said("here\n"))}, client_key=CLIENT)
        self.inner = SshServer(folder / "inner", forwards=True, client_key=CLIENT)
        self.outer = SshServer(folder / "outer", forwards=True, client_key=CLIENT)
        self.known = folder / "known_hosts"
        self.config = folder / "config"

    @property
    def servers(self) -> dict[str, SshServer]:
        return {"gpu1": self.gpu, "inner": self.inner, "outer": self.outer}

    def write(self, text: str, *known: str) -> None:
        """The configuration: `text`, then where each of the machines is, and who they are."""
        where = "".join(
            f"Host {name}\n  HostName 127.0.0.1\n  Port {server.port}\n"
            for name, server in self.servers.items()
        )
        defaults = (
            f"Host *\n  User root\n  IdentityAgent none\n  IdentityFile {self.gpu.identity}\n"
            f"  UserKnownHostsFile {self.known}\n  GlobalKnownHostsFile /dev/null\n"
        )
        self.config.write_text(text + where + defaults)
        self.known.write_text(
            "".join(
                f"[127.0.0.1]:{server.port} {server.host_key.public}\n"
                for name, server in self.servers.items()
                if not known or name in known
            )
        )

    def target(self) -> Target:
        return resolve_target("gpu1", config=self.config)

    def refusal(self) -> GuestError:
        with pytest.raises(GuestError) as caught:
            Connection(self.target())
        return caught.value


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.gpu, site.inner, site.outer:
        yield site


def test_a_name_of_the_configuration_leads_to_the_machine(site: Site) -> None:
    site.write("")
    with Connection(site.target()) as connection:
        assert connection.run("true") == said("here\n")


@pytest.mark.parametrize(
    ("text", "tunnels"),
    [
        ("Host gpu1\n  ProxyJump inner\n", [[], ["gpu1"], []]),
        ("Host gpu1\n  ProxyJump outer,inner\n", [[], ["gpu1"], ["inner"]]),
        (
            "Host gpu1\n  ProxyJump inner\nHost inner\n  ProxyJump outer\n",
            [[], ["gpu1"], ["inner"]],
        ),
    ],
)
def test_the_way_goes_through_the_jump_hosts(
    site: Site, text: str, tunnels: list[list[str]]
) -> None:
    site.write(text)
    with Connection(site.target()) as connection:
        assert connection.run("true") == said("here\n")
    ports = {server.port: name for name, server in site.servers.items()}
    went = [[ports[port] for _, port in server.tunnels] for server in site.servers.values()]
    assert went == tunnels


@pytest.mark.parametrize("hop", ["inner", "outer"])
def test_the_key_of_every_hop_is_verified(site: Site, hop: str) -> None:
    site.write("Host gpu1\n  ProxyJump outer,inner\n")
    server = site.servers[hop]
    lines = site.known.read_text().replace(server.host_key.public, new_key("other").public)
    site.known.write_text(lines)
    error = site.refusal()
    assert isinstance(error, WrongHostKey)
    assert (
        f"root@127.0.0.1:{server.port}: the host key is not the one that is known" in error.message
    )
    assert error.message.startswith(f"root@127.0.0.1:{site.gpu.port}: not reached through its jump")
    assert not site.gpu.offered


def test_a_hop_that_nobody_knows_is_not_trusted(site: Site) -> None:
    site.write("Host *\n  StrictHostKeyChecking no\nHost gpu1\n  ProxyJump inner\n", "gpu1")
    error = site.refusal()
    assert f"root@127.0.0.1:{site.inner.port}: its host key is not known" in error.message
    assert not site.inner.offered


def test_a_hop_that_lets_nobody_through_is_named(site: Site) -> None:
    site.write("Host gpu1\n  ProxyJump inner\n")
    site.inner.forwards = False
    error = site.refusal()
    hop = f"root@127.0.0.1:{site.inner.port}"
    assert f"{hop}: no way from there to 127.0.0.1:{site.gpu.port}: Administrat" in error.message
    assert "AllowTcpForwarding" in error.hint


def test_jump_hosts_that_are_shared_are_logged_in_to_once(site: Site) -> None:
    site.write("Host gpu1\n  ProxyJump outer,inner\n")
    with Hops() as hops:
        connections = [Connection(site.target(), hops) for _ in range(3)]
        for connection in connections:  # the end of one is not the end of the others
            assert connection.run("true") == said("here\n")
            connection.close()
    assert [len(server.offered) for server in site.servers.values()] == [3, 1, 1]


def test_a_shared_jump_host_that_fails_is_not_tried_for_everybody(site: Site) -> None:
    site.write("Host gpu1\n  ProxyJump inner\n", "gpu1")
    with Hops() as hops:
        for _ in range(2):
            with pytest.raises(GuestError, match="its host key is not known"):
                Connection(site.target(), hops)


# Host keys: always verified, whatever is configured.


@pytest.mark.parametrize(
    "options", ["StrictHostKeyChecking no\n", "StrictHostKeyChecking off\nCheckHostIP no\n"]
)
def test_nothing_makes_an_unknown_key_trusted(site: Site, options: str) -> None:
    site.write(f"{options}UserKnownHostsFile /dev/null\n")
    error = site.refusal()
    key = f"[127.0.0.1]:{site.gpu.port}"
    assert (
        f"no line for {key} in /dev/null, /dev/null; it showed ssh-ed25519 SHA256:" in error.message
    )
    assert not site.gpu.offered


def test_a_revoked_key_is_refused_though_it_is_known(site: Site) -> None:
    site.write("")
    with site.known.open("a") as file:
        file.write(f"@revoked * {site.gpu.host_key.public}\n")
    error = site.refusal()
    assert isinstance(error, WrongHostKey)
    assert "its host key is revoked" in error.message
    assert not site.gpu.offered


def test_a_key_in_the_list_of_revoked_ones_is_refused(site: Site) -> None:
    revoked = site.folder / "revoked"
    revoked.write_text(f"{site.gpu.host_key.public}\n")
    site.write(f"RevokedHostKeys {revoked}\n")
    assert "its host key is revoked" in site.refusal().message


def test_a_certificate_authority_is_no_known_key(site: Site) -> None:
    site.write("", "inner")
    site.known.write_text(f"@cert-authority * {site.gpu.host_key.public}\n")
    assert "vfio-kit does not take host certificates" in site.refusal().message


def test_a_second_key_of_the_host_is_as_good_as_the_first(site: Site) -> None:
    site.write("")
    site.known.write_text(
        f"[127.0.0.1]:{site.gpu.port} {new_key('old').public}\n" + site.known.read_text()
    )
    with Connection(site.target()) as connection:
        assert connection.run("true").exit_status == 0


# ProxyCommand.

PROXY = """import socket, sys, threading
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def out():
    while data := sock.recv(65536):
        sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
threading.Thread(target=out, daemon=True).start()
while data := sys.stdin.buffer.read1(65536):
    sock.sendall(data)
"""


def test_a_program_may_carry_the_connection(site: Site) -> None:
    script = site.folder / "proxy.py"
    script.write_text(PROXY)
    site.write(f"Host gpu1\n  ProxyCommand {sys.executable} {script} %h %p\n")
    with Connection(site.target()) as connection:
        assert connection.run("true") == said("here\n")


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("sh -c 'echo first >&2; echo no route >&2; exit 1'", "cannot connect: no route"),
        ("/no/such/program %h", "/no/such/program: "),
        ("true", "cannot connect: "),
    ],
)
def test_a_program_that_ends_is_not_waited_for(site: Site, command: str, reason: str) -> None:
    site.write(f"ProxyCommand {command}\n")
    begin = time.monotonic()
    error = site.refusal()
    assert time.monotonic() - begin < 10
    assert reason in error.message
    assert "ProxyCommand" in error.hint


def test_what_is_not_honoured_is_told_where_nothing_works(site: Site) -> None:
    site.write("BindAddress 10.9.9.9\n")
    site.gpu.__exit__(None, None, None)
    assert "does not honour: bindaddress" in site.refusal().hint


# Who we are.


@contextlib.contextmanager
def agent(folder: Path, *private: str, ask: tuple[str, ...] = ()) -> Iterator[Path]:
    """A real ssh-agent with these keys; ask=("-c",): it asks before each use, and nobody agrees."""
    path = folder / "agent"
    nobody = os.environ | {"SSH_ASKPASS": "/bin/false", "DISPLAY": ":9"}
    listen = ["ssh-agent", "-D", "-a", str(path)]
    process = subprocess.Popen(listen, stdout=subprocess.DEVNULL, env=nobody)
    try:
        deadline = time.monotonic() + 20
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        for key in private:
            add = ["ssh-add", "-q", *ask, "-"]
            env = os.environ | {"SSH_AUTH_SOCK": str(path)}
            subprocess.run(add, input=key, text=True, check=True, env=env, capture_output=True)
        yield path
    finally:
        process.terminate()
        process.wait(10)


def offered(site: Site) -> list[str]:
    """The keys that the machine was shown, by whom they are of."""
    names = {CLIENT.public.split()[1]: "client"}
    return [names.get(key, "other") for key in site.gpu.offered]


def test_the_agent_of_the_environment_is_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(site.folder))
    with agent(site.folder, CLIENT.private) as socket:
        site.write("IdentityAgent SSH_AUTH_SOCK\nIdentityFile none\n")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        with Connection(site.target()) as connection:
            assert connection.run("true") == said("here\n")


def test_an_agent_has_the_key_whose_public_half_is_named(site: Site) -> None:
    half = site.folder / "client.pub"
    half.write_text(f"{CLIENT.public}\n")
    with agent(site.folder, new_key("other").private, CLIENT.private) as socket:
        site.write(f"IdentityAgent {socket}\nIdentitiesOnly yes\nIdentityFile {half}\n")
        Connection(site.target()).close()
    assert offered(site) == ["client"]


def test_other_keys_of_the_agent_come_after_the_named_one(site: Site) -> None:
    half = site.folder / "client.pub"
    half.write_text(f"{new_key('known').public}\n")
    with agent(site.folder, new_key("other").private, CLIENT.private) as socket:
        site.write(f"IdentityAgent {socket}\nIdentityFile {half}\n")
        Connection(site.target()).close()
    assert offered(site) == ["other", "client"]


def test_only_the_named_keys_are_shown_where_that_is_asked(site: Site) -> None:
    stranger = site.folder / "stranger"
    stranger.write_text(new_key("stranger").private)
    with agent(site.folder, CLIENT.private) as socket:
        site.write(f"IdentityAgent {socket}\nIdentitiesOnly yes\nIdentityFile {stranger}\n")
        target = site.target()
        lone = Target(target.host, target.port, "root", stranger, site.known)
        with pytest.raises(GuestError) as error:
            Connection(lone)
    assert offered(site) == ["other"]
    assert f"accepts none of our keys ({stranger})" in error.value.message


def test_a_key_with_a_passphrase_is_the_agents_to_open(site: Site) -> None:
    locked = site.folder / "locked"
    locked.write_text(CLIENT.private)
    locked.chmod(0o600)
    change = ["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", str(locked)]
    subprocess.run(change, check=True, capture_output=True)
    (site.folder / "locked.pub").write_text(f"{CLIENT.public}\n")
    with agent(site.folder, CLIENT.private) as socket:
        site.write(f"IdentityAgent {socket}\nIdentitiesOnly yes\n")
        target = resolve_target("gpu1", config=site.config, identity=locked)
        Connection(target).close()
    with pytest.raises(GuestError, match="it has a passphrase, and the agent does not have it"):
        Connection(target)


def test_an_agent_whose_owner_says_no_is_named(site: Site) -> None:
    with agent(site.folder, CLIENT.private, ask=("-c",)) as socket:
        site.write(f"IdentityAgent {socket}\n")
        assert "(agent) could not be used: " in site.refusal().message


def test_an_agent_that_does_not_answer_is_no_agent(site: Site) -> None:
    site.write(f"IdentityAgent {site.folder / 'none'}\n")
    Connection(site.target()).close()
    assert offered(site) == ["client"]


def test_keys_that_cannot_be_used_are_told(site: Site) -> None:
    site.write(f"IdentityFile {site.folder / 'absent'}\nIdentityFile {site.config}\n")
    site.gpu.client_key = new_key("changed")
    error = site.refusal()
    assert f"not usable: {site.folder / 'absent'}: No such file" in error.hint
    assert f"{site.config}: no private key that can be used" in error.hint


def test_a_certificate_comes_first_and_one_that_is_not_there_is_passed_over(site: Site) -> None:
    (site.folder / "client.pub").write_text(f"{CLIENT.public}\n")
    (site.folder / "ca").write_text(new_key("ca").private)
    (site.folder / "ca").chmod(0o600)
    sign = ["ssh-keygen", "-q", "-s", "ca", "-I", "me", "-n", "root", "client.pub"]
    subprocess.run(sign, check=True, capture_output=True, cwd=site.folder)
    certificate = site.folder / "client-cert.pub"
    site.write(f"CertificateFile {site.folder / 'none'}\nCertificateFile {certificate}\n")
    site.gpu.refuses_certificates = True
    Connection(site.target()).close()
    assert site.gpu.certified == [True, False]


def test_every_kind_of_key_can_be_used(site: Site) -> None:
    for kind, bits in (("rsa", "2048"), ("ecdsa", "256")):
        path = site.folder / kind
        make = ["ssh-keygen", "-q", "-t", kind, "-b", bits, "-N", "", "-f", str(path)]
        subprocess.run(make, check=True, capture_output=True)
        site.gpu.client_key = type(CLIENT)("", path.with_name(f"{kind}.pub").read_text())
        site.write(f"IdentityFile {path}\n")
        Connection(site.target()).close()


# The login shell: any; /bin/sh runs the command.

SHELLS = [name for name in ("sh", "dash", "bash", "zsh", "fish", "tcsh") if shutil.which(name)]

AWKWARD = r"""x='a\\b'"'"'c!d'
printf '%s\n' "$x" 'é!!' "$LC_ALL" '\0101' 'back\' "tab	here" '%s %%' "$(echo sub)" `echo bt` '#no'
cat; echo err >&2 # a comment
exit 7"""

SAYS = "a\\\\b'c!d\né!!\nC\n\\0101\nback\\\ntab\there\n%s %%\nsub\nbt\n#no\nin'put\\"


@pytest.mark.parametrize("login", SHELLS)
def test_any_login_shell_will_do(login: str, tmp_path: Path) -> None:
    with (
        SshServer(tmp_path, shell=shell(login)) as server,
        Connection(server.target()) as connection,
    ):
        assert connection.run(AWKWARD, stdin="in'put\\") == said(SAYS, 7, "err\n")
        assert connection.run("kill -KILL $$").exit_status == 137
        assert connection.run("read -r x; echo got=$x").stdout == "got=\n"


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"]), max_size=40))
@settings(max_examples=few(20))
def test_no_shell_finds_anything_to_change_in_what_is_sent(command: str) -> None:
    line = wire(command, 60)
    assert plain(line) == command
    assert "!" not in line and "\n" not in line  # csh
    assert not re.search(r"\\(?!0[0-7]{3})", line)  # fish: \\ and \'
    assert line.isascii()


def test_a_program_on_stdin_is_run(tmp_path: Path) -> None:
    program = f"import sys\nprint(6 * 7)\n{'#' * 300_000}\n"
    with (
        SshServer(tmp_path, shell=shell("sh")) as server,
        Connection(server.target()) as connection,
    ):
        assert connection.run(f"{sys.executable} -", stdin=program) == said("42\n")


def test_stdin_that_nobody_reads_is_no_obstacle(tmp_path: Path) -> None:
    with (
        SshServer(tmp_path, {"true": answer(said("done\n"))}) as server,
        Connection(server.target()) as connection,
    ):
        assert connection.run("true", stdin="x" * 5_000_000).stdout == "done\n"
