"""The CUDA toolkits that vfio-kit installs: one row per guest system and version.

There is no repository of CUDA 11.4 for Ubuntu 22.04 or Debian 12: Ubuntu 20.04's serves both. Of
it come single packages alone: the metapackages bring a driver.
"""

from vfio_kit.knowledge.provisioning.kind import AptRepository, CudaRow, Runfile

_SERVER = "developer.download.nvidia.com"
# The key's fingerprint stands in NVIDIA/cuda-repo-management, SIGNATURES.md, beside a message that
# it signed; the key in cloud-init/keys verifies that message.
_KEY = "EB693B3035CD5710E231E123A4B469963BF863CC"


def _repository(name: str) -> AptRepository:
    uri = f"https://{_SERVER}/compute/cuda/repos/{name}/x86_64/"
    return AptRepository(
        name=f"cuda-{name}",
        uri=uri,
        origin=_SERVER,
        key_uri=f"{uri}3bf863cc.pub",
        key_fingerprint=_KEY,
        key_asset=f"keys/{_KEY}.asc",
        # The driver comes from the distribution, with all of its parts.
        never=(
            *("nvidia-*", "libnvidia-*", "cuda-drivers*", "libcuda1*", "firmware-nvidia-*"),
            *("lib*-nvidia*", "xserver-xorg-video-*"),
        ),
    )


def _row(
    guest: str,
    name: str,
    repository: str,
    source: str,
    *,
    runfile: Runfile | None = None,
    host_compiler: str = "",
) -> CudaRow:
    dashed = name.replace(".", "-")
    home = f"/usr/local/cuda-{name}"
    return CudaRow(
        guest=guest,
        name=name,
        packages=(f"cuda-cudart-{dashed}", f"cuda-cudart-dev-{dashed}", f"cuda-nvcc-{dashed}"),
        repository=_repository(repository),
        runfile=runfile,
        home=home,
        include=f"{home}/include",
        lib=f"{home}/lib64",
        host_compiler=host_compiler,
        source=source,
    )


# Update 2 is the last of 11.4 whose checksum several people published.
_RUNFILE_11_4 = Runfile(
    file="cuda_11.4.2_470.57.02_linux.run",
    uri=f"https://{_SERVER}/compute/cuda/11.4.2/local_installers/cuda_11.4.2_470.57.02_linux.run",
    sha256="bbd87ca0e913f837454a796367473513cddef555082e4d86ed9a38659cc81f0a",
    sources=(
        "easybuilders/easybuild-easyconfigs, easybuild/easyconfigs/c/CUDA/CUDA-11.4.2.eb",
        "spack/spack-packages, repos/spack_repo/builtin/packages/cuda/package.py",
        "NixOS/nixpkgs, pkgs/development/cuda-modules/cudatoolkit/releases.nix",
    ),
)
_ARCHIVE_11_4 = "https://docs.nvidia.com/cuda/archive/11.4.4/cuda-installation-guide-linux/"
_ARCHIVE_12_2 = "https://docs.nvidia.com/cuda/archive/12.2.2/cuda-installation-guide-linux/"
_ARCHIVE_12_9 = "https://docs.nvidia.com/cuda/archive/12.9.1/cuda-installation-guide-linux/"

_ROWS = (
    # Its device code wants gcc 10 at most, of which Ubuntu 22.04 has the newest, Debian 12 none.
    _row(
        "ubuntu-22.04",
        "11.4",
        "ubuntu2004",
        _ARCHIVE_11_4,
        runfile=_RUNFILE_11_4,
        host_compiler="g++-10",
    ),
    _row("ubuntu-22.04", "12.9", "ubuntu2204", _ARCHIVE_12_9),
    _row("debian-12", "11.4", "ubuntu2004", _ARCHIVE_11_4, runfile=_RUNFILE_11_4),
    # NVIDIA's repository for Debian 12 begins behind 12.2.
    _row("debian-12", "12.2", "ubuntu2204", _ARCHIVE_12_2),
    _row("debian-12", "12.9", "debian12", _ARCHIVE_12_9),
)

CUDA_ROWS: dict[tuple[str, str], CudaRow] = {(row.guest, row.name): row for row in _ROWS}

LEAST_BRANCH = {11: 450, 12: 525, 13: 580}
"""Major version of a toolkit -> the first driver branch that runs what it compiles."""
LEAST_BRANCH_SOURCE = (
    "https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html"
)
