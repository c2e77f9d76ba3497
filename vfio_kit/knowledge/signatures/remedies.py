"""What several failures want done."""

READ_LOG = "in the guest: sudo dmesg | grep -e NVRM -e Xid"
RESTART = "stop the VM and start it again; if it stays so, reboot the host"
RESTART_AND_READ = f"stop the VM and start it again; {READ_LOG}"
RESTART_AND_LOOK = "stop the VM and start it again; then power, cooling and the seat of the card"
SERVICE = "stop the jobs and restart the VM; if it comes back, the card wants service"
MMIO_WINDOW = (
    "give the VM room for the BARs: its 64-bit MMIO window, as large as vfio-kit plan says "
    "(pcihole64, X-PciMmio64Mb), and newer firmware"
)
