"""The spec: what an operator may write, and how a mistake is named: file, key, line, value."""

import base64
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.values import at, public_key
from vfio_kit.apply.keys import new_key
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import (
    AUTO,
    CUDA_ROWS,
    CUDAS,
    DRIVER_ROWS,
    DRIVERS,
    NO_CUDA,
    NO_DRIVER,
)
from vfio_kit.model.vm import BootMode
from vfio_kit.spec import BakeSpec, GuestSpec, line_of, load_bake_spec, load_spec

KEY = public_key("operator@desk")

FULL = f"""\
# Every key there is.
name = "gpu-vm"
gpus = ["01:00.0", "0000:02:00.0"]
guest = "debian-12"
image = "/images/debian 12.qcow2"
driver = "none"
cpus = 8
memory = 16384
hugepages = "1G"
disk = 40

[boot]
mode = "direct"
kernel = "/boot/vmlinuz"
initrd = "/boot/initrd.img"

[network]
name = "lab"

[ssh]
user = "operator"
authorized_keys = [
  "{KEY}",
  "{public_key(key_type="ecdsa-sha2-nistp256")}",
]
"""


def load(tmp_path: Path, text: str, **options: Any) -> GuestSpec:
    file = tmp_path / "gpu.toml"
    file.write_text(text, encoding="utf-8")
    return load_spec(file, options)


def refusal(tmp_path: Path, text: str, **options: Any) -> UsageError:
    with pytest.raises(UsageError) as caught:
        load(tmp_path, text, **options)
    return caught.value


def test_a_name_and_a_gpu_are_enough(tmp_path: Path) -> None:
    spec = load(tmp_path, 'name = "vm"\ngpus = ["01:00.0"]\n')
    assert spec.model_dump() == {
        "name": "vm",
        "gpus": ["0000:01:00.0"],
        "guest": "ubuntu-22.04",
        "image": None,
        "driver": "470",
        "cuda": None,
        "cuda_way": "packages",
        "packages": [],
        "bundle": None,
        "cpus": 4,
        "memory": None,
        "hugepages": "2M",
        "disk": None,
        "accept_loss": [],
        "autostart": False,
        "roms": {},
        "placement": {"pin": True, "node": None},
        "boot": {"mode": None, "kernel": None, "initrd": None},
        "network": {"name": "default"},
        "ssh": {"user": None, "authorized_keys": [], "identity": None},
    }
    assert spec.addresses == (at("01:00.0"),)
    assert spec.boot.effective_mode is BootMode.BIOS


def test_every_key_that_there_is(tmp_path: Path) -> None:
    spec = load(tmp_path, FULL)
    assert spec.gpus == ["0000:01:00.0", "0000:02:00.0"]
    assert (spec.guest, spec.image, spec.driver) == (
        "debian-12",
        "/images/debian 12.qcow2",
        "none",
    )
    assert (spec.cpus, spec.memory, spec.hugepages, spec.disk) == (8, 16384, "1G", 40)
    assert (spec.boot.mode, spec.boot.kernel) == (BootMode.DIRECT, "/boot/vmlinuz")
    assert spec.network.name == "lab"
    assert (spec.ssh.user, spec.ssh.authorized_keys[0]) == ("operator", KEY)


@pytest.mark.parametrize(
    ("boot", "mode"),
    [
        ("", BootMode.BIOS),
        ('[boot]\nmode = "uefi"', BootMode.UEFI),
        ('[boot]\nmode = "bios"', BootMode.BIOS),
        ('[boot]\nkernel = "/k"\ninitrd = "/i"', BootMode.DIRECT),
        ('boot = { mode = "direct", kernel = "/k", initrd = "/i" }', BootMode.DIRECT),
    ],
)
def test_a_kernel_means_direct_boot_and_none_means_bios(
    tmp_path: Path, boot: str, mode: BootMode
) -> None:
    text = f'name = "vm"\ngpus = ["01:00.0"]\n{boot}\n'
    assert load(tmp_path, text).boot.effective_mode is mode


# The text, the line, and what is said behind "file:line: ".
MISTAKES: dict[str, tuple[str, int, str]] = {
    "unknown key": (
        'name = "vm"\ngpus = ["01:00.0"]\nmemroy = 8192\n',
        3,
        "unknown key 'memroy'",
    ),
    "unknown key in a table": (
        'name = "vm"\ngpus = ["01:00.0"]\n\n[boot]\n# how\nmodus = "bios"\n',
        6,
        "unknown key 'boot.modus'",
    ),
    "unknown table": (
        'name = "vm"\ngpus = ["01:00.0"]\n[bot]\nmode = "bios"\n',
        3,
        "unknown key 'bot'",
    ),
    "a string for a number": (
        'name = "vm"\nmemory = "8192"\ngpus = ["01:00.0"]\n',
        2,
        "memory = '8192': Input should be a valid integer",
    ),
    "a truth for a number": (
        'name = "vm"\ngpus = ["01:00.0"]\ncpus = true\n',
        3,
        "cpus = True: Input should be a valid integer",
    ),
    "a fraction for a number": (
        'name = "vm"\ngpus = ["01:00.0"]\ncpus = 1.5\n',
        3,
        "cpus = 1.5: Input should be a valid integer",
    ),
    "a number for a string": (
        'gpus = ["01:00.0"]\nname = 7\n',
        2,
        "name = 7: Input should be a valid string",
    ),
    "a number for the driver": (
        'name = "vm"\ngpus = ["01:00.0"]\ndriver = 470\n',
        3,
        "driver = 470: Input should be a valid string",
    ),
    "a driver that nobody has": (
        'name = "vm"\ngpus = ["01:00.0"]\ndriver = "390"\n',
        3,
        "driver = '390': is not a driver that can be installed: 470, 535, 580, 580-open, auto",
    ),
    "a toolkit that nobody has": (
        'name = "vm"\ngpus = ["01:00.0"]\ncuda = "13.9"\n',
        3,
        "cuda = '13.9': is not a CUDA toolkit that can be installed: 11.4, 12.2, 12.9, auto, none",
    ),
    "a way that nobody knows": (
        'name = "vm"\ngpus = ["01:00.0"]\ncuda_way = "conda"\n',
        3,
        "cuda_way = 'conda': Input should be 'packages' or 'runfile'",
    ),
    "a toolkit that nothing runs": (
        'name = "vm"\ngpus = ["01:00.0"]\ndriver = "none"\n\ncuda = "11.4"\n',
        5,
        "cuda: without a driver nothing runs what CUDA compiles",
    ),
    "an option in the place of a package": (
        'name = "vm"\ngpus = ["01:00.0"]\npackages = [\n  "nvtop",\n  "-y",\n]\n',
        3,
        "packages.1 = '-y': is no package, as in nvtop or nvtop=1.2.2-1",
    ),
    "a command in the place of a version": (
        'name = "vm"\ngpus = ["01:00.0"]\npackages = ["nvtop=1;reboot"]\n',
        3,
        "packages.0 = 'nvtop=1;reboot': is no package",
    ),
    "a bundle that is no absolute path": (
        'name = "vm"\ngpus = ["01:00.0"]\nbundle = "bundle"\n',
        3,
        "bundle = 'bundle': is not an absolute path",
    ),
    "one string for the list of GPUs": (
        'name = "vm"\n\n\ngpus = "01:00.0"\n',
        4,
        "gpus = '01:00.0': Input should be a valid list",
    ),
    "no GPU": (
        'name = "vm"\ngpus = []\n',
        2,
        "gpus = []: List should have at least 1 item after validation, not 0",
    ),
    "a GPU that is no address, far down in its list": (
        'name = "vm"\ngpus = [\n  "01:00.0",\n  # the other half\n  "gpu1",\n]\ncpus = 2\n',
        2,
        "gpus.1 = 'gpu1': 'gpu1' is not a PCI address",
    ),
    "a guest that nobody knows": (
        'name = "vm"\ngpus = ["01:00.0"]\nguest = "ubuntu-24.04"\n',
        3,
        "guest = 'ubuntu-24.04': is not a guest system that is known: ubuntu-22.04, debian-12",
    ),
    "a relative path": (
        'name = "vm"\ngpus = ["01:00.0"]\nimage = "jammy.img"\n',
        3,
        "image = 'jammy.img': is not an absolute path",
    ),
    "a path of two lines": (
        'name = "vm"\ngpus = ["01:00.0"]\nimage = """/images\n/jammy.img"""\n',
        3,
        "image = '/images\\n/jammy.img': holds a control character",
    ),
    "no CPU": (
        'name = "vm"\ngpus = ["01:00.0"]\ncpus = 0\n',
        3,
        "cpus = 0: Input should be greater than or equal to 1",
    ),
    "too many CPUs": (
        'name = "vm"\ngpus = ["01:00.0"]\ncpus = 1025\n',
        3,
        "cpus = 1025: Input should be less than or equal to 1024",
    ),
    "too little memory": (
        'name = "vm"\ngpus = ["01:00.0"]\nmemory = 128\n',
        3,
        "memory = 128: Input should be greater than or equal to 256",
    ),
    "less than no disk": (
        'name = "vm"\ngpus = ["01:00.0"]\ndisk = -1\n',
        3,
        "disk = -1: Input should be greater than or equal to 1",
    ),
    "a page size that no x86 has": (
        'name = "vm"\ngpus = ["01:00.0"]\nhugepages = "4M"\n',
        3,
        "hugepages = '4M': Input should be '2M', '1G' or 'off'",
    ),
    "a boot mode that there is not": (
        'name = "vm"\ngpus = ["01:00.0"]\n[boot]\nmode = "pxe"\n',
        4,
        "boot.mode = 'pxe': Input should be 'direct', 'bios' or 'uefi'",
    ),
    "a string for a table": (
        'name = "vm"\ngpus = ["01:00.0"]\nboot = "bios"\n',
        3,
        "boot = 'bios': Input should be a valid dictionary",
    ),
    "a kernel without its initrd": (
        'name = "vm"\ngpus = ["01:00.0"]\n[boot]\nkernel = "/k"\n',
        4,
        "boot.kernel: kernel and initrd go together",
    ),
    "direct boot without a kernel": (
        'name = "vm"\ngpus = ["01:00.0"]\n[boot]\nmode = "direct"\n',
        4,
        "boot.mode: a direct boot needs kernel and initrd",
    ),
    "a kernel that would be ignored": (
        'name = "vm"\ngpus = ["01:00.0"]\n[boot]\nmode = "uefi"\nkernel = "/k"\ninitrd = "/i"\n',
        5,
        "boot.kernel: mode uefi takes the image's own kernel, not a given one",
    ),
    "an initrd without its kernel": (
        'name = "vm"\ngpus = ["01:00.0"]\n[boot]\n# where is it?\ninitrd = "/i"\n',
        5,
        "boot.initrd: kernel and initrd go together",
    ),
    "an initrd that would be ignored": (
        'name = "vm"\ngpus = ["01:00.0"]\n[boot]\ninitrd = "/i"\nmode = "bios"\n',
        4,
        "boot.initrd: mode bios takes the image's own kernel, not a given one",
    ),
    "half a small page": (
        'name = "vm"\ngpus = ["01:00.0"]\nmemory = 8193\n',
        3,
        "memory: 8193 MiB are no whole pages of 2M",
    ),
    "half a large page": (
        'name = "vm"\nhugepages = "1G"\ngpus = ["01:00.0"]\nmemory = 1536\n',
        4,
        "memory: 1536 MiB are no whole pages of 1G",
    ),
    "the same GPU in two spellings": (
        'name = "vm"\n\ngpus = [\n  "01:00.0",\n  "0000:01:00.0",\n]\n',
        3,
        "gpus: the same address is there twice",
    ),
    "a name that no VM can have": (
        'gpus = ["01:00.0"]\nname = "My_VM"\n',
        2,
        "name = 'My_VM': is no name for a VM: ",
    ),
    "root, who cannot log in": (
        'name = "vm"\ngpus = ["01:00.0"]\n[ssh]\nuser = "root"\n',
        4,
        "ssh.user = 'root': root cannot log in over SSH; give another user, who has sudo",
    ),
    "a user that no system takes": (
        'name = "vm"\ngpus = ["01:00.0"]\n[ssh]\nuser = "Root User"\n',
        4,
        "ssh.user = 'Root User': is no user name: 1 to 32 of a-z, 0-9, _ and -",
    ),
    "a private key in the place of a public one": (
        'name = "vm"\ngpus = ["01:00.0"]\n[ssh]\nauthorized_keys = ["-----BEGIN OPENSSH"]\n',
        4,
        "ssh.authorized_keys.0 = '-----BEGIN OPENSSH': is not an OpenSSH public key",
    ),
    "a key type without its key": (
        'name = "vm"\ngpus = ["01:00.0"]\n[ssh]\nauthorized_keys = ["ssh-ed25519 me@desk"]\n',
        4,
        "ssh.authorized_keys.0 = 'ssh-ed25519 me@desk': is not an OpenSSH public key",
    ),
    "a network without a name": (
        'name = "vm"\ngpus = ["01:00.0"]\n[network]\nname = ""\n',
        4,
        "network.name = '': String should have at least 1 character",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_by_file_line_key_and_value(tmp_path: Path, mistake: str) -> None:
    text, line, sentence = MISTAKES[mistake]
    error = refusal(tmp_path, text)
    assert error.message.startswith(f"{tmp_path / 'gpu.toml'}:{line}: {sentence}")
    if "unknown key" in sentence:
        assert "known keys: name, gpus, guest" in error.hint
    else:
        assert error.hint.endswith("docs/spec.md has the keys and what they take")


@pytest.mark.parametrize("name", ["", "Gpu", "a_b", "-a", "a-", "a\n", "a" * 64, "../x", "$(id)"])
def test_a_name_that_no_vm_can_have(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(None, {"name": name, "gpus": ["01:00.0"]})
    assert caught.value.message.startswith(f"name = {name!r}"[:80])


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('gpus = ["01:00.0"]\n', "name is missing"),
        ('name = "vm"\n', "gpus is missing"),
    ],
)
def test_a_mistake_of_no_single_line_is_named_with_its_file(
    tmp_path: Path, text: str, sentence: str
) -> None:
    assert refusal(tmp_path, text).message == f"{tmp_path / 'gpu.toml'}: {sentence}"


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ('name = "vm"\n', "name a GPU with --gpu ADDR, or gpus = "),
        ('name = "vm"\ncolour = "red"\n', "known keys: name, gpus, guest"),
        ('name = "vm"\ngpus = ["01:00.0"]\ncpus = 0\n', "docs/spec.md has the keys"),
        ('name = "vm"\ngpus = ["01:00.0", "01:00.0"]\n', "docs/spec.md has the keys"),
    ],
)
def test_what_to_do_next_depends_on_the_mistake(tmp_path: Path, text: str, hint: str) -> None:
    assert refusal(tmp_path, text).hint.startswith(hint)


def test_a_name_that_is_missing_is_no_missing_gpu(tmp_path: Path) -> None:
    assert "--gpu" not in refusal(tmp_path, 'gpus = ["01:00.0"]\n').hint


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("guest", GUESTS)
def test_every_driver_of_the_table_can_be_asked_for(
    tmp_path: Path, guest: str, driver: str
) -> None:
    text = f'name = "vm"\ngpus = ["01:00.0"]\nguest = "{guest}"\ndriver = "{driver}"\n'
    assert load(tmp_path, text).driver == driver


def test_what_may_be_asked_for_is_what_the_tables_have() -> None:
    assert {name for _, name in DRIVER_ROWS} | {AUTO, NO_DRIVER} == set(DRIVERS)
    assert {name for _, name in CUDA_ROWS} | {AUTO, NO_CUDA} == set(CUDAS)


@pytest.mark.parametrize("cuda", CUDAS)
def test_every_toolkit_of_the_table_can_be_asked_for(tmp_path: Path, cuda: str) -> None:
    assert load(tmp_path, f'name = "vm"\ngpus = ["01:00.0"]\ncuda = "{cuda}"\n').cuda == cuda


@pytest.mark.parametrize(
    "package", ["nvtop", "g++", "libc6.1", "nvtop=1.2.2-1", "x11-apps=7.7+9~deb1", "a0=1:2.0"]
)
def test_packages_are_called_as_debian_calls_them(tmp_path: Path, package: str) -> None:
    text = f'name = "vm"\ngpus = ["01:00.0"]\npackages = ["{package}"]\n'
    assert load(tmp_path, text).packages == [package]


@pytest.mark.parametrize(
    "package",
    [
        "",
        "a",
        "-y",
        "Nvtop",
        "nvtop ",
        "nvtop=",
        "nvtop=1 2",
        "nvtop\\n",
        "nvtop/sid",
        "nvtop-\u00e9",
    ],
)
def test_a_package_is_no_more_than_its_name_and_version(tmp_path: Path, package: str) -> None:
    text = f'name = "vm"\ngpus = ["01:00.0"]\npackages = ["{package}"]\n'
    assert "packages.0" in refusal(tmp_path, text).message


def bake_spec(tmp_path: Path, text: str) -> BakeSpec:
    file = tmp_path / "gpu.toml"
    file.write_text(text, encoding="utf-8")
    return load_bake_spec(file, {"name": "golden"})


def test_an_image_is_made_without_gpus_in_little_memory(tmp_path: Path) -> None:
    made = bake_spec(tmp_path, 'capabilities = ["3.7", "5.2"]\n')
    assert (made.gpus, made.memory, made.hugepages) == ([], 4096, "off")
    assert made.capabilities == ["3.7", "5.2"]


def test_the_spec_of_a_vm_is_one_of_its_image_as_well(tmp_path: Path) -> None:
    text = 'gpus = ["01:00.0"]\nmemory = 16384\ndriver = "580"\n'
    made = bake_spec(tmp_path, text)
    assert (made.gpus, made.memory, made.driver) == (["0000:01:00.0"], 16384, "580")


@pytest.mark.parametrize("capability", ["5", "52", "sm_52", "5.2 ", "0.1", "5.22", ""])
def test_a_compute_capability_is_two_numbers(tmp_path: Path, capability: str) -> None:
    with pytest.raises(UsageError, match=r"capabilities\.0 = .* is no compute capability"):
        bake_spec(tmp_path, f'capabilities = ["{capability}"]\n')


def wire(*fields: bytes) -> str:
    return base64.b64encode(b"".join(len(f).to_bytes(4, "big") + f for f in fields)).decode()


@pytest.mark.parametrize(
    "key",
    [
        public_key(),
        public_key("operator@desk, at home"),
        public_key(key_type="sk-ssh-ed25519@openssh.com"),
        f"ssh-rsa {wire(b'ssh-rsa', bytes([1, 0, 1]), bytes(257))} old@desk",
    ],
)
def test_public_keys_of_every_kind_are_taken(tmp_path: Path, key: str) -> None:
    text = f'name = "vm"\ngpus = ["01:00.0"]\nssh.authorized_keys = ["{key}"]\n'
    assert load(tmp_path, text).ssh.authorized_keys == [key]


def test_the_keys_that_we_make_are_taken(tmp_path: Path) -> None:
    test_public_keys_of_every_kind_are_taken(tmp_path, new_key("operator@desk").public)


@pytest.mark.parametrize(
    "key",
    [
        "",
        "ssh-ed25519",
        "ssh-ed25519 ",
        "ssh-ed25519 operator@desk",
        "ssh-ed25519 !!!!",
        public_key()[:-1],
        public_key()[:-8],
        public_key().removeprefix("ssh-"),
        public_key().replace(" ", "  "),
        public_key().replace("ssh-ed25519", "ssh-rsa"),
        f"ssh-dss {wire(b'ssh-dss', bytes(300))}",
        f"ssh-ed25519 {wire(b'ssh-ed25519', bytes(20))}",
        f'command="id" {public_key()}',
    ],
)
def test_what_is_no_public_key_is_named(key: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(None, {"name": "vm", "gpus": ["01:00.0"], "ssh.authorized_keys": [key]})
    assert caught.value.message == (
        f"ssh.authorized_keys.0 = {repr(key)[:80]}: is not an OpenSSH public key "
        "(the content of a .pub file)"
    )


@pytest.mark.parametrize("user", ["operator", "_x", "a-b_c9", "u" * 32])
def test_users_that_a_system_takes(user: str) -> None:
    options = {"name": "vm", "gpus": ["01:00.0"], "ssh.user": user}
    assert load_spec(None, options).ssh.user == user


@pytest.mark.parametrize("user", ["", "9a", "-a", "a.b", "A", "a\n", "u" * 33, "é", "root"])
def test_users_that_no_system_takes(user: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(None, {"name": "vm", "gpus": ["01:00.0"], "ssh.user": user})
    assert caught.value.message.startswith(f"ssh.user = {user!r}: ")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"memory": 1025}, "memory: 1025 MiB are no whole pages of 2M"),
        ({"gpus": ["01:00.0", "0000:01:00.0"]}, "gpus: the same address is there twice"),
        ({"boot.kernel": "/k"}, "boot.kernel: kernel and initrd go together"),
        ({"boot.initrd": "/i"}, "boot.initrd: kernel and initrd go together"),
        ({"boot.mode": "direct"}, "boot.mode: a direct boot needs kernel and initrd"),
        (
            {"boot.mode": "bios", "boot.initrd": "/i"},
            "boot.initrd: mode bios takes the image's own kernel, not a given one",
        ),
    ],
)
def test_how_keys_go_together_is_told_at_one_of_them(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(None, {"name": "vm", "gpus": ["01:00.0"], **options})
    assert caught.value.message == message


def test_a_rule_is_told_at_the_line_of_the_key_that_the_file_gives(tmp_path: Path) -> None:
    text = 'name = "vm"\ngpus = ["01:00.0"]\n\n[boot]\nkernel = "/k"\ninitrd = "/i"\n'
    error = refusal(tmp_path, text, **{"boot.mode": "uefi"})
    assert error.message == (
        f"{tmp_path / 'gpu.toml'}:5: boot.kernel: mode uefi takes the image's own kernel, "
        "not a given one"
    )
    error = refusal(tmp_path, 'name = "vm"\nmemory = 1536\n', gpus=["01:00.0"], hugepages="1G")
    assert error.message == (
        f"{tmp_path / 'gpu.toml'}:2: memory: 1536 MiB are no whole pages of 1G"
    )


def test_memory_of_any_size_goes_without_hugepages(tmp_path: Path) -> None:
    text = 'name = "vm"\ngpus = ["01:00.0"]\nmemory = 1025\nhugepages = "off"\n'
    assert load(tmp_path, text).memory == 1025


def test_the_keys_of_an_image_to_be_made_are_named(tmp_path: Path) -> None:
    file = tmp_path / "gpu.toml"
    file.write_text('name = "golden"\ncapability = "5.2"\n')
    with pytest.raises(UsageError) as caught:
        load_bake_spec(file, {})
    assert caught.value.message == f"{file}:2: unknown key 'capability'"
    assert ", capabilities; see docs/spec.md" in caught.value.hint
    assert "capabilities" not in refusal(tmp_path, 'name = "vm"\ncolour = "red"\n').hint


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = 'name = "vm"\ngpus = ["01:00.0"]\ncpus = 0\ncolour = "red"\n'
    message = refusal(tmp_path, text).message
    assert f"{tmp_path / 'gpu.toml'}:3: cpus = 0" in message
    assert f"{tmp_path / 'gpu.toml'}:4: unknown key 'colour'" in message


def test_an_option_wins_over_the_file(tmp_path: Path) -> None:
    spec = load(tmp_path, FULL, **{"name": "other", "gpus": ["03:00.0"], "network.name": "br0"})
    assert (spec.name, spec.gpus, spec.network.name) == ("other", ["0000:03:00.0"], "br0")
    assert (spec.memory, spec.guest) == (16384, "debian-12")


def test_an_option_that_is_not_given_leaves_the_file_alone(tmp_path: Path) -> None:
    assert load(tmp_path, FULL, memory=None, cpus=None).memory == 16384


def test_an_option_makes_the_table_that_the_file_lacks() -> None:
    spec = load_spec(None, {"name": "vm", "gpus": ["01:00.0"], "boot.mode": "uefi"})
    assert spec.boot.effective_mode is BootMode.UEFI


def test_a_mistake_in_an_option_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    error = refusal(tmp_path, FULL, cpus=0)
    assert error.message == "cpus = 0: Input should be greater than or equal to 1"


def test_an_option_into_a_table_that_is_none_is_a_mistake_of_the_file(tmp_path: Path) -> None:
    text = 'name = "vm"\ngpus = ["01:00.0"]\nboot = "bios"\n'
    error = refusal(tmp_path, text, **{"boot.mode": "uefi"})
    assert error.message.startswith(f"{tmp_path / 'gpu.toml'}:3: boot = 'bios': ")


def test_a_value_without_end_is_cut_short_in_the_error() -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(None, {"name": "vm", "gpus": ["01:00.0"], "image": "x" * 100_000})
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b'name = "vm"\ngpus = [\n', "(at end of document)"),
        (b"= 1\n", "(at line 1, column 1)"),
        (b'name = "a"\nname = "b"\n', "(at line 2"),
        (b"\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_a_file_that_is_no_toml(tmp_path: Path, data: bytes, words: str) -> None:
    file = tmp_path / "gpu.toml"
    file.write_bytes(data)
    with pytest.raises(UsageError) as caught:
        load_spec(file, {})
    assert str(file) in caught.value.message
    assert words in caught.value.message


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(tmp_path / "no.toml", {})
    assert caught.value.message == (
        f"cannot read the spec {tmp_path / 'no.toml'}: No such file or directory"
    )


def test_a_directory_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        load_spec(tmp_path, {})
    assert "Is a directory" in caught.value.message


def test_an_address_is_kept_as_the_kernel_writes_it(tmp_path: Path) -> None:
    text = 'name = "vm"\ngpus = ["0A:1F.1", "10000:01:00.0"]\n'
    assert load(tmp_path, text).gpus == ["0000:0a:1f.1", "10000:01:00.0"]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        (["name"], 2),
        (["gpus"], 3),
        (["boot"], 12),
        (["boot", "kernel"], 14),
        (["network", "name"], 18),
        (["ssh", "authorized_keys"], 22),
        (["ssh", "nothing"], None),
        (["name", "inner"], None),
        (["nothing"], None),
        ([], None),
    ],
)
def test_the_line_of_a_key(path: list[str], line: int | None) -> None:
    assert line_of(FULL, path) == line


@pytest.mark.parametrize("value", ['"""\na\n\nb\n"""', "'''\n\n'''", "[\n 1,\n # x\n 2,\n]"])
def test_a_value_of_several_lines_is_at_its_first(value: str) -> None:
    text = f"# c\n\nbefore = 1\nkey = {value}\nafter = 2\n"
    assert line_of(text, ["key"]) == 4
    assert line_of(text, ["after"]) == text[: text.index("after")].count("\n") + 1


# Documents by parts, so that the test knows by itself where each key stands.
_names = st.text("abcdefgh", min_size=1, max_size=3)
_values = st.sampled_from(
    [
        "1",
        '"x"',
        "true",
        "[]",
        "[\n  1,\n  2,\n]",
        '"""\nmany\n\nlines"""',
        "'''\n[x]\n'''",
        "{a=1}",
    ]
)
_fillers = st.lists(st.sampled_from(["", "# a comment", "   ", "# [x]", "# k = 1"]), max_size=3)


@given(
    st.lists(st.tuples(_names, _values, _fillers), unique_by=lambda part: part[0], max_size=5),
    st.lists(st.tuples(_names, _values, _fillers), unique_by=lambda part: part[0], max_size=5),
)
def test_the_line_of_every_key_of_any_document(
    top: list[tuple[str, str, list[str]]], table: list[tuple[str, str, list[str]]]
) -> None:
    lines: list[str] = []
    expected: dict[tuple[str, ...], int] = {}
    for section, parts in (((), top), (("table",), table)):
        if section:
            expected[section] = len(lines) + 1
            lines.append("[table]")
        for name, value, fillers in parts:
            lines += fillers
            expected[(*section, name)] = len(lines) + 1
            lines += f"{name} = {value}".split("\n")
    text = "\n".join(lines) + "\n"
    assert {path: line_of(text, list(path)) for path in expected} == expected
