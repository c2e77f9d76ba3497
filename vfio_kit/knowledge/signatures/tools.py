"""What nvidia-smi, deviceQuery and the burn program say when something is wrong.

Sources: strings of driver 470.256.02's own nvidia-smi and libraries; nvidia-smi(1), "RETURN VALUE";
CUDA's cudaError_t. nvidia-smi writes its errors to stdout. A text says more than an exit status, so
texts are looked for first, in the order of the rows.
"""

from vfio_kit.knowledge.signatures.remedies import READ_LOG, RESTART, RESTART_AND_READ
from vfio_kit.knowledge.signatures.row import Signature
from vfio_kit.model.health import CheckStatus

# nvidia-smi calls it a warning, and lists the card as ever: NVIDIA/gpu-operator#285, #20.
_INFOROM = (
    "the card's infoROM is corrupt",
    "it computes all the same, and may forget its settings (ECC, retired pages): watch it, and "
    "plan for another card",
)

NVIDIA_SMI: tuple[Signature, ...] = (
    Signature(
        "nvidia-smi",
        "driver-not-loaded",
        "the NVIDIA kernel module is not loaded, or drives no card",
        "in the guest: sudo modprobe nvidia; then sudo dmesg | grep -i -e NVRM -e nvidia",
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
        RESTART,
        text="GPU is lost",
    ),
    Signature(
        "nvidia-smi",
        "reset-required",
        "the GPU must be reset before it can be used",
        RESTART,
        text="GPU requires reset",
    ),
    Signature(
        "nvidia-smi",
        "no-devices",
        "the driver is loaded and found no GPU that it can use",
        "in the guest: sudo dmesg | grep NVRM says why (RmInitAdapter, BAR, unsupported GPU)",
        text="No devices were found",
    ),
    Signature(
        "nvidia-smi",
        "device-handle",
        "the driver sees the GPU and cannot talk to it",
        READ_LOG,
        text="Unable to determine the device handle",
    ),
    Signature(
        "nvidia-smi",
        "sensor-error",
        "the GPU answers some questions with an error",
        RESTART_AND_READ,
        text="ERR!",
        status=CheckStatus.WARN,
    ),
    Signature(
        "nvidia-smi",
        "inforom-corrupt",
        *_INFOROM,
        text="infoROM is corrupted",
        status=CheckStatus.WARN,
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
        RESTART_AND_READ,
        exit_status=124,
    ),
    Signature(
        "nvidia-smi",
        "bad-argument",
        "this nvidia-smi does not know -q -x",
        "is it NVIDIA's? run it in the guest: nvidia-smi --version",
        exit_status=2,
    ),
    Signature(
        "nvidia-smi",
        "unavailable",
        "the GPU does not offer what nvidia-smi asks for",
        "run it in the guest: nvidia-smi -q",
        exit_status=3,
    ),
    Signature(
        "nvidia-smi",
        "permission",
        "nvidia-smi may not open /dev/nvidia*",
        "log in as a user who may, or mend the permissions of /dev/nvidia*",
        exit_status=4,
    ),
    Signature(
        "nvidia-smi",
        "no-devices",
        "no GPU was found",
        "in the guest: sudo dmesg | grep NVRM",
        exit_status=6,
    ),
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
        "in the guest: sudo modprobe nvidia; then sudo dmesg | grep -i nvidia",
        exit_status=9,
    ),
    Signature(
        "nvidia-smi",
        "interrupt",
        "the kernel found something wrong with a GPU's interrupt",
        "let the card use MSI: in the guest, cat /proc/interrupts; sudo dmesg | grep NVRM",
        exit_status=10,
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
        "library-too-old",
        "libnvidia-ml lacks a function that nvidia-smi calls: they are of different versions",
        "install nvidia-smi and the driver's libraries of one version",
        exit_status=13,
    ),
    Signature(
        "nvidia-smi",
        "inforom-corrupt",
        *_INFOROM,
        exit_status=14,
        status=CheckStatus.WARN,
    ),
    Signature(
        "nvidia-smi",
        "gpu-lost",
        "the GPU fell off the bus",
        RESTART,
        exit_status=15,
    ),
    Signature(
        "nvidia-smi",
        "internal-error",
        "nvidia-smi met an error inside the driver",
        READ_LOG,
        exit_status=255,
    ),
)

DEVICE_QUERY: tuple[Signature, ...] = (
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
        "init-failed",
        "CUDA could not start: the nvidia_uvm module, its device node, or the GPU itself",
        "in the guest: sudo modprobe nvidia_uvm; ls -l /dev/nvidia-uvm; sudo dmesg | grep NVRM",
        text="cudaGetDeviceCount returned 3\n",
    ),
    Signature(
        "device-query",
        "library-mismatch",
        "kernel module and libcuda are of different driver versions",
        "reboot the guest; then hold the driver packages: apt-mark hold",
        text="cudaGetDeviceCount returned 803",
    ),
    Signature(
        "device-query",
        "unknown-cuda-error",
        "CUDA could not start, and does not know why",
        "in the guest: sudo modprobe nvidia_uvm; ls -l /dev/nvidia-uvm; sudo dmesg | grep NVRM",
        text="cudaGetDeviceCount returned 999",
    ),
    Signature(
        "device-query",
        "cuda-error",
        "CUDA could not start, for a reason that it names",
        "in the guest: nvidia-smi -q -d COMPUTE, whether the compute mode lets programs in; then "
        "sudo dmesg | grep -e NVRM -e Xid",
        text="cudaGetDeviceCount returned",
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
        RESTART_AND_READ,
        exit_status=124,
    ),
)

BURN: tuple[Signature, ...] = (
    Signature(
        "burn",
        "not-installed",
        "python3 is not installed in the guest",
        "install python3 in the guest, or leave --burn away",
        exit_status=127,
    ),
    Signature(
        "burn",
        "timed-out",
        "the burn did not end, as when the GPU no longer answers",
        RESTART_AND_READ,
        exit_status=124,
    ),
)
