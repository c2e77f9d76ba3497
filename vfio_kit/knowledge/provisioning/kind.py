"""What the rows about software in a guest are made of."""

from dataclasses import dataclass

from vfio_kit.knowledge.guests import Guest
from vfio_kit.model.advice import Version
from vfio_kit.model.vm import CudaWay


@dataclass(frozen=True, slots=True)
class AptRepository:
    """A repository outside the distribution; its key counts by its fingerprint."""

    name: str
    """Of its files in /etc/apt: sources.list.d/NAME.list, keyrings/NAME.gpg."""
    uri: str
    """A flat repository: its line of sources.list ends in ` /`."""
    origin: str
    """The server, as apt's `Pin: origin` has it."""
    key_uri: str
    key_fingerprint: str
    never: tuple[str, ...]
    """Patterns of packages that never come from here, whatever wants them."""
    key_asset: str | None = None
    """The armoured key below cloud-init/, which goes into the seed, so that no key comes from the
    server that it vouches for; None: it is fetched from key_uri, and its fingerprint is looked at
    in the guest."""


@dataclass(frozen=True, slots=True)
class Runfile:
    """NVIDIA's installer of a toolkit, a shell script with an archive behind it."""

    file: str
    uri: str
    sha256: str
    sources: tuple[str, ...]
    """Who gives the checksum: two that do not copy from each other."""
    arguments: tuple[str, ...] = ("--silent", "--toolkit", "--override")
    """The toolkit alone: the driver in it is older than the distribution's. Without --override it
    refuses a g++ that is newer than the toolkit."""
    packages: tuple[str, ...] = ("libxml2",)
    """What the installer needs, and a cloud image may lack."""


@dataclass(frozen=True, slots=True)
class DriverRow:
    """One driver in one guest system, by the exact names of its packages.

    The names carry the branch: a metapackage would move it.
    """

    guest: str
    name: str
    """As a spec has it: 470, 580-open."""
    branch: int
    open_modules: bool
    version: str
    """What `modinfo -F version` must begin with, or the provisioning fails."""
    packages: tuple[str, ...]
    module: str
    """The name of the module's file, as modinfo takes it."""
    hold: tuple[str, ...]
    never: tuple[str, ...]
    """Packages that would replace the driver, pinned to never, wherever they come from."""
    default_cuda: str | None
    """The toolkit that comes with it where the spec says nothing; a row of the toolkits."""
    source: str
    compilers: tuple[str, ...] = ("gcc", "make")
    """What builds the module, beside DKMS and the headers of the guest's kernel."""
    components: tuple[str, ...] = ()
    """Components of the distribution's archive that must be switched on, beside main."""


@dataclass(frozen=True, slots=True)
class CudaRow:
    """One toolkit in one guest system, by each way that is known to it."""

    guest: str
    name: str
    """As a spec has it: 11.4."""
    packages: tuple[str, ...]
    repository: AptRepository | None
    """Where the packages come from; None: the distribution's own archive."""
    runfile: Runfile | None
    home: str
    """Where it lies: bin/nvcc is below."""
    include: str
    lib: str
    host_compiler: str
    """The C++ compiler for device code, `nvcc -ccbin` and the package of that name; empty where the
    distribution's own g++ will do, or it has none that would."""
    source: str

    @property
    def version(self) -> Version:
        found = Version.leading(self.name)
        assert found is not None
        return found

    @property
    def ways(self) -> tuple[CudaWay, ...]:
        """The ways that are known, the default first."""
        known = ((CudaWay.PACKAGES, bool(self.packages)), (CudaWay.RUNFILE, bool(self.runfile)))
        return tuple(way for way, is_known in known if is_known)


@dataclass(frozen=True, slots=True)
class Provisioning:
    """All that the seed installs in a guest: what its templates take. Never empty."""

    guest: Guest
    driver: DriverRow | None
    cuda: CudaRow | None
    """None where no toolkit is wanted; there is none without a driver."""
    cuda_way: CudaWay
    capabilities: tuple[str, ...]
    """Compute capabilities of the cards, as in 5.2; empty where they are not known."""
    packages: tuple[str, ...]
    """More packages of the guest's distribution, as NAME or NAME=VERSION."""
    from_bundle: bool
    """Whether all of it comes from the bundle's disk, and nothing from the network."""

    @property
    def cuda_packages(self) -> tuple[str, ...]:
        """Empty unless CUDA comes by packages."""
        return self.cuda.packages if self.cuda and self.cuda_way is CudaWay.PACKAGES else ()

    @property
    def cuda_repository(self) -> AptRepository | None:
        """None unless CUDA comes by packages of a repository of its own."""
        return self.cuda.repository if self.cuda_packages and self.cuda else None

    @property
    def runfile(self) -> Runfile | None:
        """None unless CUDA comes by the runfile."""
        return self.cuda.runfile if self.cuda and self.cuda_way is CudaWay.RUNFILE else None
