"""What a spec may ask for: the names in the tables, and the words that stand for a choice."""

from vfio_kit.knowledge.provisioning.cuda import CUDA_ROWS
from vfio_kit.knowledge.provisioning.drivers import DEFAULT_DRIVER, DRIVER_ROWS, NO_DRIVER
from vfio_kit.model.vm import CudaWay

AUTO = "auto"
"""The newest that goes with the cards and with the rest of the choice."""
NO_CUDA = "none"

DRIVERS = tuple(
    dict.fromkeys((DEFAULT_DRIVER, *sorted(name for _, name in DRIVER_ROWS), AUTO, NO_DRIVER))
)
"""The default first."""
CUDAS = tuple(dict.fromkeys((*sorted(name for _, name in CUDA_ROWS), AUTO, NO_CUDA)))

PROVISIONED_DISK_GIB = {CudaWay.PACKAGES: 20, CudaWay.RUNFILE: 30}
"""The guest's disk where something is installed, unless the spec says otherwise. The runfile is
3.6 GB, unpacks itself to as much, and installs all of the toolkit."""
