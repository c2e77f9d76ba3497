"""The spec of a VM: what the operator asks for, from a TOML file and from options.

The schema is the class `GuestSpec`; every error names the key and, where a file is the source, the
line. See docs/spec.md for the keys.
"""

import tomllib
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from vfio_kit.errors import UsageError, did_you_mean
from vfio_kit.knowledge.guests import DEFAULT_GUEST, GUESTS
from vfio_kit.knowledge.provisioning import CUDAS, DEFAULT_DRIVER, DRIVERS, NO_CUDA, NO_DRIVER
from vfio_kit.model import PciAddress
from vfio_kit.model.placement import PAGE_SIZES
from vfio_kit.model.vm import BootMode
from vfio_kit.spec.fields import (
    AbsolutePath,
    Capability,
    Cuda,
    Driver,
    GpuAddress,
    GuestSystem,
    NetworkName,
    Package,
    PublicKey,
    UserName,
    VmName,
)

_LONGEST = 1 << 20


def _rule(key: str, message: str) -> PydanticCustomError:
    """An error about how keys go together, told at `key`."""
    return PydanticCustomError("rule", "{message}", {"key": key, "message": message})


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class BootSpec(_Section):
    """[boot]: how the guest's kernel is started."""

    mode: Literal["direct", "bios", "uefi"] | None = None
    kernel: AbsolutePath | None = None
    initrd: AbsolutePath | None = None

    @model_validator(mode="after")
    def _together(self) -> Self:
        given = "kernel" if self.kernel else "initrd"
        if self.mode in ("bios", "uefi") and (self.kernel or self.initrd):
            raise _rule(given, f"mode {self.mode} takes the image's own kernel, not a given one")
        if bool(self.kernel) != bool(self.initrd):
            raise _rule(given, "kernel and initrd go together")
        if self.mode == "direct" and not self.kernel:
            raise _rule("mode", "a direct boot needs kernel and initrd")
        return self

    @property
    def effective_mode(self) -> BootMode:
        """direct where a kernel is given, else bios: both kinds of cloud image boot with it."""
        return BootMode(self.mode or ("direct" if self.kernel else "bios"))


class NetworkSpec(_Section):
    """[network]: the libvirt network that the guest's interface joins."""

    name: NetworkName = "default"


class SshSpec(_Section):
    """[ssh]: who may log in, beside the key that vfio-kit makes for the VM."""

    user: UserName | None = None
    """Who is made in the guest, with sudo; by default the guest system's own default user."""
    authorized_keys: list[PublicKey] = []
    """Public keys whose holders may log in, too."""
    identity: AbsolutePath | None = None
    """A private key that is there already, to log in with."""


class PlacementSpec(_Section):
    """[placement]: where on the host the VM runs."""

    pin: bool = True
    """vCPUs on cores of their own, near the GPU; false: the kernel moves them about."""
    node: Annotated[int | None, Field(ge=0, le=1023)] = None
    """The NUMA node; by default the GPU's."""


class GuestSpec(_Section):
    """A VM as the operator wants it. Sizes: memory in MiB, disk in GiB."""

    name: VmName
    """The VM's name, and the guest's host name; `up NAME` and `--name` win over it."""
    gpus: Annotated[list[GpuAddress], Field(min_length=1)]
    guest: GuestSystem = DEFAULT_GUEST
    image: AbsolutePath | None = None
    driver: Driver = DEFAULT_DRIVER
    cuda: Cuda | None = None
    cuda_way: Literal["packages", "runfile"] = "packages"
    packages: Annotated[list[Package], Field(max_length=200)] = []
    bundle: AbsolutePath | None = None
    cpus: Annotated[int, Field(ge=1, le=1024)] = 4
    memory: Annotated[int | None, Field(ge=256, le=16 * 1024 * 1024)] = None
    """None: what the GPUs need, by the table knowledge/guest_memory.py."""
    hugepages: Literal["2M", "1G", "off"] = "2M"
    disk: Annotated[int | None, Field(ge=1, le=65536)] = None
    accept_loss: list[GpuAddress] = []
    autostart: bool = False
    roms: dict[GpuAddress, AbsolutePath] = {}
    """Option ROM files, for functions whose guest shows a display at boot."""
    placement: PlacementSpec = PlacementSpec()
    boot: BootSpec = BootSpec()
    network: NetworkSpec = NetworkSpec()
    ssh: SshSpec = SshSpec()

    @model_validator(mode="after")
    def _keys_that_go_together(self) -> Self:
        pages = PAGE_SIZES.get(self.hugepages)
        if pages and self.memory is not None and self.memory * 1024 % pages.kib:
            raise _rule("memory", f"{self.memory} MiB are no whole pages of {self.hugepages}")
        if len(set(self.gpus)) != len(self.gpus):
            raise _rule("gpus", "the same address is there twice")
        if self.driver == NO_DRIVER and self.cuda not in (None, NO_CUDA):
            raise _rule("cuda", "without a driver nothing runs what CUDA compiles")
        return self

    @property
    def addresses(self) -> tuple[PciAddress, ...]:
        return tuple(PciAddress.parse(text) for text in self.gpus)


class BakeSpec(GuestSpec):
    """The spec of a VM in which an image is made: its GPUs stay where they are, if it has any."""

    gpus: list[GpuAddress] = []
    memory: Annotated[int | None, Field(ge=256, le=16 * 1024 * 1024)] = 4096
    hugepages: Literal["2M", "1G", "off"] = "off"
    capabilities: list[Capability] = []
    """Compute capabilities of the cards that the image is made for."""


_Spec = TypeVar("_Spec", bound=GuestSpec)


def load_spec(
    file: Path | None, options: Mapping[str, object], saved: Mapping[str, Any] | None = None
) -> GuestSpec:
    """The spec from `file`, with `options` (dotted keys; None: not given) laid over it.

    saved  a spec that was written down, as parsed JSON, in the place of a file.

    Raises UsageError that names the file, the key, the line and the value.
    """
    return _load(GuestSpec, file, options, saved)


def load_bake_spec(file: Path | None, options: Mapping[str, object]) -> BakeSpec:
    """As load_spec, of an image to be made."""
    return _load(BakeSpec, file, options)


def _load(
    schema: type[_Spec],
    file: Path | None,
    options: Mapping[str, object],
    saved: Mapping[str, Any] | None = None,
) -> _Spec:
    text = _read(file) if file else ""
    document = _parse(text, file) if saved is None else deepcopy(dict(saved))
    for key, value in options.items():
        if value is not None:
            _lay_over(document, key.split("."), value)
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise _explain(schema, error, text, file, options) from None


def _read(file: Path) -> str:
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(_LONGEST + 1)
    except OSError as error:
        raise UsageError(f"cannot read the spec {file}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"the spec {file} is not UTF-8 text") from None
    if len(text) > _LONGEST:
        raise UsageError(f"the spec {file} is longer than {_LONGEST} characters")
    return text


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
    schema: type[GuestSpec],
    error: ValidationError,
    text: str,
    file: Path | None,
    options: Mapping[str, object],
) -> UsageError:
    lines: list[str] = []
    found = error.errors(include_url=False)
    for item in found:
        path = tuple(item["loc"])
        if item["type"] == "rule":
            path += (item["ctx"]["key"],)
        key = ".".join(_shown(part) for part in path if part != "[key]")
        names = [str(part) for part in path if isinstance(part, str)]
        given = options.get(".".join(names))
        line = line_of(text, names) if given is None else None
        where = f"{file}:{line}: " if line else (f"{file}: " if file and given is None else "")
        lines.append(f"{where}{_sentence(key, item)}")
    kinds = {(e["type"], e["loc"][-1:]) for e in found}
    nearest = "".join(_nearest(schema, item) for item in found)
    return UsageError("; ".join(lines), nearest + _next_step(schema, kinds))


def _shown(part: int | str) -> str:
    """A part of a key; those of a table of the operator's own may be any text."""
    text = str(part)
    return text if text.isprintable() else repr(text)


_TABLES: dict[object, tuple[str, ...]] = {"guest": tuple(GUESTS), "driver": DRIVERS, "cuda": CUDAS}
"""Keys of the spec whose values stand in tables."""


def _next_step(schema: type[GuestSpec], errors: set[tuple[str, tuple[int | str, ...]]]) -> str:
    if "extra_forbidden" in {kind for kind, _ in errors}:
        return f"known keys: {', '.join(schema.model_fields)}; see docs/spec.md"
    if ("missing", ("gpus",)) in errors:
        return (
            'name a GPU with --gpu ADDR, or gpus = ["ADDR"] in the spec; vfio-kit scan lists them'
        )
    return "docs/spec.md has the keys and what they take"


def _nearest(schema: type[GuestSpec], item: Any) -> str:
    """What a mistyped key, or a mistyped word of a table, may have been."""
    if item["type"] == "extra_forbidden" and len(item["loc"]) == 1:
        return did_you_mean(str(item["loc"][0]), schema.model_fields)
    key = item["loc"][-1] if item["loc"] else ""
    text = item["input"]
    return did_you_mean(text, _TABLES.get(key, ())) if isinstance(text, str) else ""


def _sentence(key: str, item: Any) -> str:
    shown = repr(item["input"])
    if item["type"] == "extra_forbidden":
        return f"unknown key {key!r}"
    if item["type"] == "missing":
        return f"{key} is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"{key}: {message}" if item["type"] == "rule" else f"{key} = {shown[:80]}: {message}"


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
