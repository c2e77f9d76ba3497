"""The spec of a VM: what the operator asks for, from a TOML file and from options.

The schema is the class `GuestSpec`; every error names the key and, where a file is the source, the
line. See docs/spec.md for the keys.
"""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from vfio_kit.errors import UsageError
from vfio_kit.knowledge.guests import DEFAULT_GUEST, GUESTS
from vfio_kit.model import VM_NAME, BootMode, PciAddress

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


def _gpu_address(text: str) -> str:
    try:
        return str(PciAddress.parse(text))
    except UsageError as error:
        raise ValueError(f"{error.message}; {error.hint}") from None


def _public_key(text: str) -> str:
    key_type, _, rest = _printable(text).partition(" ")
    if not key_type.startswith(_KEY_TYPES) or not rest.startswith("AAAA"):
        raise ValueError("is not an OpenSSH public key (the content of a .pub file)")
    return text


def _boot_mode(value: object) -> object:
    """TOML and the command line know strings; strict mode would want the enumeration itself."""
    return BootMode(value) if isinstance(value, str) and value in list(BootMode) else value


AbsolutePath = Annotated[str, AfterValidator(_absolute)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BootSpec(_Section):
    """[boot]: how the guest's kernel is started."""

    mode: Annotated[BootMode | None, BeforeValidator(_boot_mode)] = None
    kernel: AbsolutePath | None = None
    initrd: AbsolutePath | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.mode is None or self.mode is BootMode.DIRECT:
            if bool(self.kernel) != bool(self.initrd):
                raise ValueError("kernel and initrd go together")
            if self.mode is BootMode.DIRECT and not self.kernel:
                raise ValueError("mode direct needs kernel and initrd")
        elif self.kernel or self.initrd:
            raise ValueError(f"mode {self.mode} takes the image's own kernel, not a given one")
        return self

    @property
    def effective_mode(self) -> BootMode:
        """direct where a kernel is given, else bios: both kinds of cloud image boot with it."""
        return self.mode or (BootMode.DIRECT if self.kernel else BootMode.BIOS)


class NetworkSpec(_Section):
    """[network]: the libvirt network that the guest's interface joins."""

    name: Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_printable)] = (
        "default"
    )


class SshSpec(_Section):
    """[ssh]: who may log in, beside the key that vfio-kit makes for the VM."""

    user: Annotated[str | None, Field(pattern=r"^[a-z_][a-z0-9_-]{0,31}$")] = None
    authorized_keys: list[Annotated[str, AfterValidator(_public_key)]] = []


class GuestSpec(_Section):
    """A VM as the operator wants it. Sizes: memory in MiB, disk in GiB."""

    name: Annotated[str, Field(pattern=VM_NAME)]
    gpus: Annotated[list[Annotated[str, AfterValidator(_gpu_address)]], Field(min_length=1)]
    guest: Annotated[str, AfterValidator(_known_guest)] = DEFAULT_GUEST
    image: AbsolutePath | None = None
    driver: Literal["470", "none"] = "470"
    cpus: Annotated[int, Field(ge=1, le=1024)] = 4
    memory: Annotated[int, Field(ge=256, le=16 * 1024 * 1024)] = 8192
    hugepages: Literal["2M", "1G", "off"] = "2M"
    disk: Annotated[int | None, Field(ge=1, le=65536)] = None
    boot: BootSpec = BootSpec()
    network: NetworkSpec = NetworkSpec()
    ssh: SshSpec = SshSpec()

    @model_validator(mode="after")
    def _whole_pages(self) -> Self:
        page_mib = {"2M": 2, "1G": 1024, "off": 1}[self.hugepages]
        if self.memory % page_mib:
            raise ValueError(
                f"memory = {self.memory} MiB is no multiple of a {self.hugepages} page"
            )
        if len(set(self.gpus)) != len(self.gpus):
            raise ValueError("gpus names the same address twice")
        return self

    @property
    def addresses(self) -> tuple[PciAddress, ...]:
        return tuple(PciAddress.parse(text) for text in self.gpus)


def load_spec(file: Path | None, options: Mapping[str, object]) -> GuestSpec:
    """The spec from `file`, with `options` (dotted keys; None: not given) laid over it.

    Raises UsageError that names the file, the key, the line and the value.
    """
    text = _read(file) if file else ""
    document = _parse(text, file)
    for key, value in options.items():
        if value is not None:
            _lay_over(document, key.split("."), value)
    try:
        return GuestSpec.model_validate(document)
    except ValidationError as error:
        raise _explain(error, text, file, options) from None


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except OSError as error:
        raise UsageError(f"cannot read the spec {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the spec {file} is not UTF-8 text") from None


def _parse(text: str, file: Path | None) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # TOMLDecodeError is a ValueError
        raise UsageError(
            f"{file}: {error}", "the spec is a TOML file; docs/spec.md shows one"
        ) from None


def _lay_over(document: dict[str, Any], path: list[str], value: object) -> None:
    for key in path[:-1]:
        inner = document.setdefault(key, {})
        if not isinstance(inner, dict):
            return  # the schema will say that this is no table
        document = inner
    document[path[-1]] = value


def _explain(
    error: ValidationError, text: str, file: Path | None, options: Mapping[str, object]
) -> UsageError:
    lines: list[str] = []
    for item in error.errors(include_url=False, include_context=False):
        path = tuple(item["loc"])
        key = ".".join(str(part) for part in path)
        names = [str(part) for part in path if isinstance(part, str)]
        given = options.get(".".join(names))
        line = line_of(text, names) if given is None else None
        where = f"{file}:{line}: " if line else (f"{file}: " if file and given is None else "")
        lines.append(f"{where}{_sentence(key, item)}")
    known = ", ".join(GuestSpec.model_fields)
    return UsageError("; ".join(lines), f"known keys: {known}; see docs/spec.md")


def _sentence(key: str, item: Any) -> str:
    shown = repr(item["input"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    if item["type"] == "missing":
        return f"{key} is missing"
    message = item["msg"].removeprefix("Value error, ")
    if not key or isinstance(item["input"], dict):
        return f"{key}: {message}" if key else message
    return f"{key} = {shown[:80]}: {message}"


def line_of(text: str, path: list[str]) -> int | None:
    """The line, from 1, on which the key at `path` is set; None where the text does not set it.

    The parser gives no positions, so the shortest prefix of lines that parses and holds the key is
    looked for; the statement begins behind the longest parsable prefix before it.
    """
    lines = [f"{line}\n" for line in text.split("\n")]
    begin = 0
    for end in range(1, len(lines) + 1):
        try:
            document: object = tomllib.loads("".join(lines[:end]))
        except (ValueError, RecursionError):
            continue
        for key in path:
            document = document.get(key) if isinstance(document, dict) else None
        if path and document is not None:
            return begin + 1
        begin = end
    return None
