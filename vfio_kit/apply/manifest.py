"""The manifest of a baked image: NAME.manifest.json beside NAME.qcow2 (docs/bake.md)."""

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from vfio_kit.apply.files import cannot, write_file
from vfio_kit.errors import HostError, HypervisorError
from vfio_kit.model.vm import BakedImage, CudaWay, InstalledPackage

SCHEMA = "vfio-kit/image/1"
SUFFIX = ".qcow2"
MANIFEST_SUFFIX = ".manifest.json"


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """A file as it was: its name without folders, and what it held. size in bytes."""

    file: str
    size: int
    sha256: str
    """Lower-case hex, of the whole file."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is known of a baked image.

    changed      the image's time of change, in seconds since 1970: with its size it says cheaply
                 that nobody wrote to it.
    made_at      ISO 8601, UTC.
    seconds      how long the baking took.
    vfio_kit     the version that made it.
    """

    image: FileIdentity
    changed: int
    source: FileIdentity
    guest: str
    system: str
    kernel: str
    driver: str
    driver_version: str | None
    cuda: str | None
    cuda_way: CudaWay
    capabilities: tuple[str, ...]
    asked_for: tuple[str, ...]
    """Packages that the operator named, beside the driver's and CUDA's."""
    packages: tuple[InstalledPackage, ...]
    made_at: str
    seconds: float
    vfio_kit: str

    @classmethod
    def read(cls, document: Any) -> Self:
        """The manifest in a JSON document; raises ValueError where it is none."""
        try:
            if document["schema"] != SCHEMA:
                raise ValueError(f"its schema is {document['schema']!r}, not {SCHEMA}")
            values = {key: document[key] for key in cls.__annotations__}
            values["image"] = FileIdentity(**document["image"])
            values["source"] = FileIdentity(**document["source"])
            values["cuda_way"] = CudaWay(document["cuda_way"])
            values["packages"] = tuple(InstalledPackage(**each) for each in document["packages"])
            values["capabilities"] = tuple(document["capabilities"])
            values["asked_for"] = tuple(document["asked_for"])
            found = cls(**values)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"a key is missing or malformed: {error!r}") from None
        texts = [found.guest, found.driver, found.image.sha256, found.made_at]
        texts += [text for text in (found.cuda, found.driver_version) if text is not None]
        texts += [*found.capabilities, *found.asked_for]
        numbers = (found.image.size, found.changed)
        lists = (document["capabilities"], document["asked_for"])
        if (
            not all(isinstance(text, str) and text.isprintable() for text in texts)
            or not all(isinstance(number, int) for number in numbers)
            or not all(isinstance(each, list) for each in lists)
        ):
            raise ValueError("a value is of another type")
        return found

    @property
    def baked(self) -> BakedImage:
        """What a plan has to know."""
        return BakedImage(
            guest=self.guest,
            driver=self.driver,
            driver_version=self.driver_version,
            cuda=self.cuda,
            cuda_way=self.cuda_way,
            capabilities=self.capabilities,
            packages=self.asked_for,
        )


def manifest_of(image: Path) -> Path:
    """Where the manifest of an image lies."""
    return image.with_name(image.name.removesuffix(SUFFIX) + MANIFEST_SUFFIX)


def image_of(manifest: Path) -> Path:
    """The image that a manifest lies beside."""
    return manifest.with_name(manifest.name.removesuffix(MANIFEST_SUFFIX) + SUFFIX)


def identify(path: Path) -> FileIdentity:
    """Reads all of the file: seconds for each GiB."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            return FileIdentity(path.name, stream.tell(), digest)
    except OSError as error:
        raise cannot("read", path, error) from None


def write_manifest(image: Path, manifest: Manifest) -> None:
    """Writes it beside the image, readable by all."""
    document = {"schema": SCHEMA, **asdict(manifest)}
    write_file(manifest_of(image), json.dumps(document, indent=1).encode() + b"\n", 0o644)


def read_manifest(image: Path) -> Manifest | None:
    """The manifest of an image; None for one that has none beside it: it was not baked.

    Raises HostError where it is damaged.
    """
    path = manifest_of(image)
    try:
        return Manifest.read(json.loads(path.read_bytes()))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise cannot("read", path, error) from None
    except (ValueError, RecursionError) as error:
        raise HostError(f"{path} is damaged: {error}", "bake the image again") from None


def baked_image(image: Path) -> BakedImage | None:
    """What a baked image holds; None for any other.

    Its size and its time of change are compared, not its checksum: that takes seconds for each GiB,
    and `bake --check` does it. Raises HypervisorError where they differ from the manifest's.
    """
    manifest = read_manifest(image) if image.name else None  # the root has no name
    if manifest is None:
        return None
    try:
        stat = image.stat()
    except OSError:
        return manifest.baked  # that it is missing will be told with its name
    if (stat.st_size, int(stat.st_mtime)) != (manifest.image.size, manifest.changed):
        raise HypervisorError(
            f"{image} is not, or not any more, the image that its manifest is about: its size or "
            "its time of change differs",
            f"was it only copied? vfio-kit bake --check {image} compares all of it; "
            f"an image of your own: mv {manifest_of(image)} elsewhere",
        )
    return manifest.baked


def check_image(image: Path) -> Manifest:
    """Compares all of an image with its manifest, which then has its time of change.

    Raises HypervisorError where it has none, and where the checksum differs.
    """
    manifest = read_manifest(image)
    if manifest is None:
        raise HypervisorError(
            f"{image} has no manifest {manifest_of(image).name} beside it", "it was not baked"
        )
    found = identify(image)
    if (found.size, found.sha256) != (manifest.image.size, manifest.image.sha256):
        raise HypervisorError(
            f"{image} is not what was baked: its SHA-256 is {found.sha256}, and its manifest has "
            f"{manifest.image.sha256}",
            "it was damaged or written to: bake it again",
        )
    renewed = replace(manifest, changed=int(image.stat().st_mtime))
    if renewed != manifest:
        write_manifest(image, renewed)
    return renewed
