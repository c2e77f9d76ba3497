"""What the NVIDIA tools say when something is wrong, and what it means.

Sources: strings of driver 470.256.02's own nvidia-smi and libraries; nvidia-smi(1), "RETURN VALUE";
CUDA's cudaError_t. nvidia-smi writes its errors to stdout.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Signature:
    """A row: `cause` is its stable name; it matches a text, an exit status, or both."""

    probe: str
    cause: str
    meaning: str
    remedy: str
    text: str | None = None
    exit_status: int | None = None


SIGNATURES: tuple[Signature, ...] = (
    Signature(
        "nvidia-smi",
        "driver-not-loaded",
        "the NVIDIA kernel module is not loaded, or drives no card",
        "in the guest: sudo modprobe nvidia; then dmesg | grep -i -e NVRM -e nvidia",
        text="couldn't communicate with the NVIDIA driver",
    ),
    Signature(
        "nvidia-smi",
        "library-mismatch",
        "kernel module and user-space library are of different driver versions",
        "reboot the guest; then hold the driver packages: apt-mark hold",
        text="Driver/library version mismatch",
    ),
    Signature(
        "nvidia-smi",
        "library-missing",
        "libnvidia-ml is missing",
        "install the driver's user-space part: nvidia-utils-470-server (Ubuntu)",
        text="couldn't find libnvidia-ml.so library",
    ),
    Signature(
        "nvidia-smi",
        "gpu-lost",
        "the GPU fell off the bus",
        "stop the VM and start it again; if it stays away, reboot the host",
        text="GPU is lost",
    ),
    Signature(
        "nvidia-smi",
        "no-devices",
        "the driver is loaded and found no GPU that it can use",
        "in the guest: dmesg | grep NVRM says why (RmInitAdapter, BAR, unsupported GPU)",
        text="No devices were found",
    ),
    Signature(
        "nvidia-smi",
        "device-handle",
        "the driver sees the GPU and cannot talk to it",
        "in the guest: dmesg | grep -e NVRM -e Xid",
        text="Unable to determine the device handle",
    ),
    Signature(
        "nvidia-smi",
        "not-installed",
        "nvidia-smi is not installed in the guest",
        "install the driver: vfio-kit up with --driver 470, or the packages by hand",
        exit_status=127,
    ),
    Signature(
        "nvidia-smi",
        "timed-out",
        "nvidia-smi hangs, as it does when the GPU no longer answers",
        "stop the VM and start it again; in the guest: dmesg | grep -e NVRM -e Xid",
        exit_status=124,
    ),
    Signature(
        "nvidia-smi",
        "permission",
        "nvidia-smi may not open /dev/nvidia*",
        "log in as a user who may, or mend the permissions of /dev/nvidia*",
        exit_status=4,
    ),
    Signature("nvidia-smi", "no-devices", "no GPU was found", "dmesg | grep NVRM", exit_status=6),
    Signature(
        "nvidia-smi",
        "power-cable",
        "an external power cable of the card is not attached",
        "attach it",
        exit_status=8,
    ),
    Signature(
        "nvidia-smi",
        "driver-not-loaded",
        "the NVIDIA driver is not loaded",
        "in the guest: sudo modprobe nvidia; then dmesg | grep -i nvidia",
        exit_status=9,
    ),
    Signature(
        "nvidia-smi",
        "library-missing",
        "the NVML library is missing",
        "install the driver's user-space part",
        exit_status=12,
    ),
    Signature(
        "nvidia-smi",
        "inforom-corrupt",
        "the card's infoROM is corrupt",
        "the card wants service",
        exit_status=14,
    ),
    Signature(
        "nvidia-smi",
        "gpu-lost",
        "the GPU fell off the bus",
        "stop the VM and start it again; if it stays away, reboot the host",
        exit_status=15,
    ),
    Signature(
        "device-query",
        "no-libcuda",
        "libcuda is missing, or the driver is too old for this CUDA runtime",
        "install the driver's libcuda; driver 470 speaks CUDA 11.4",
        text="cudaGetDeviceCount returned 35",
    ),
    Signature(
        "device-query",
        "no-device",
        "CUDA found no device",
        "see the nvidia-smi check: the driver must see the GPU first",
        text="cudaGetDeviceCount returned 100",
    ),
    Signature(
        "device-query",
        "not-installed",
        "deviceQuery is not installed in the guest",
        "build it from NVIDIA/cuda-samples v11.4.1 into /usr/local/bin; the cloud-init of "
        "vfio-kit does so",
        exit_status=127,
    ),
    Signature(
        "device-query",
        "timed-out",
        "deviceQuery hangs, as it does when the GPU no longer answers",
        "stop the VM and start it again; in the guest: dmesg | grep -e NVRM -e Xid",
        exit_status=124,
    ),
)
