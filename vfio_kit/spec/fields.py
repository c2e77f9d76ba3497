"""What the values of a spec may be: a type for each kind of them. Errors end a sentence that names
the key and the value."""

import base64
import re
from typing import Annotated

from pydantic import AfterValidator, Field

from vfio_kit.errors import UsageError
from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import CUDAS, DRIVERS
from vfio_kit.model import PciAddress
from vfio_kit.model.vm import check_name

_KEY_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519", "sk-ecdsa-sha2-")


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


def _absolute(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("is not an absolute path")
    return _printable(text)


def _known_guest(text: str) -> str:
    if text not in GUESTS:
        raise ValueError(f"is not a guest system that is known: {', '.join(GUESTS)}")
    return text


def _known_driver(text: str) -> str:
    if text not in DRIVERS:
        raise ValueError(f"is not a driver that can be installed: {', '.join(DRIVERS)}")
    return text


def _known_cuda(text: str) -> str:
    if text not in CUDAS:
        raise ValueError(f"is not a CUDA toolkit that can be installed: {', '.join(CUDAS)}")
    return text


def _package(text: str) -> str:
    """NAME or NAME=VERSION (Debian policy 5.6.1 and 5.6.12); it becomes a word of apt-get's."""
    if re.fullmatch(r"[a-z0-9][a-z0-9+.-]+(=[A-Za-z0-9.+:~-]+)?", text) is None:
        raise ValueError("is no package, as in nvtop or nvtop=1.2.2-1")
    return text


def _gpu_address(text: str) -> str:
    try:
        return str(PciAddress.parse(text))
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None


def _public_key(text: str) -> str:
    """type, base64 data and a comment; the data begins with the length and the name of the type."""
    key_type, _, rest = _printable(text).partition(" ")
    try:
        data = base64.b64decode(rest.partition(" ")[0], validate=True)
    except ValueError:
        data = b""
    inner = len(key_type).to_bytes(4, "big") + key_type.encode()
    if not key_type.startswith(_KEY_TYPES) or not data.startswith(inner) or len(data) < 50:
        raise ValueError("is not an OpenSSH public key (the content of a .pub file)")
    return text


def _vm_name(text: str) -> str:
    try:
        check_name(text)
    except UsageError as error:
        raise ValueError(f"is no name for a VM: {error.hint}") from None
    return text


def _user_name(text: str) -> str:
    if re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", text) is None:
        raise ValueError("is no user name: 1 to 32 of a-z, 0-9, _ and -, not first a digit or -")
    if text == "root":
        raise ValueError("root cannot log in over SSH; give another user, who has sudo")
    return text


def _capability(text: str) -> str:
    if re.fullmatch(r"[1-9][0-9]?\.[0-9]", text) is None:
        raise ValueError("is no compute capability, as in 5.2")
    return text


VmName = Annotated[str, AfterValidator(_vm_name)]
AbsolutePath = Annotated[str, AfterValidator(_absolute)]
NetworkName = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)]
GpuAddress = Annotated[str, AfterValidator(_gpu_address)]
GuestSystem = Annotated[str, AfterValidator(_known_guest)]
Driver = Annotated[str, AfterValidator(_known_driver)]
Cuda = Annotated[str, AfterValidator(_known_cuda)]
Package = Annotated[str, AfterValidator(_package)]
Capability = Annotated[str, AfterValidator(_capability)]
UserName = Annotated[str, AfterValidator(_user_name)]
PublicKey = Annotated[str, AfterValidator(_public_key)]
