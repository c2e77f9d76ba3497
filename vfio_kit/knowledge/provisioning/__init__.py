"""What installs a driver and its CUDA in a guest system: a module for each, a row for each."""

from vfio_kit.knowledge.provisioning.choices import AUTO as AUTO
from vfio_kit.knowledge.provisioning.choices import CUDAS as CUDAS
from vfio_kit.knowledge.provisioning.choices import DRIVERS as DRIVERS
from vfio_kit.knowledge.provisioning.choices import NO_CUDA as NO_CUDA
from vfio_kit.knowledge.provisioning.choices import PROVISIONED_DISK_GIB as PROVISIONED_DISK_GIB
from vfio_kit.knowledge.provisioning.cuda import CUDA_ROWS as CUDA_ROWS
from vfio_kit.knowledge.provisioning.cuda import LEAST_BRANCH as LEAST_BRANCH
from vfio_kit.knowledge.provisioning.cuda import LEAST_BRANCH_SOURCE as LEAST_BRANCH_SOURCE
from vfio_kit.knowledge.provisioning.drivers import DEFAULT_DRIVER as DEFAULT_DRIVER
from vfio_kit.knowledge.provisioning.drivers import DRIVER_ROWS as DRIVER_ROWS
from vfio_kit.knowledge.provisioning.drivers import NO_DRIVER as NO_DRIVER
from vfio_kit.knowledge.provisioning.kind import AptRepository as AptRepository
from vfio_kit.knowledge.provisioning.kind import CudaRow as CudaRow
from vfio_kit.knowledge.provisioning.kind import DriverRow as DriverRow
from vfio_kit.knowledge.provisioning.kind import Provisioning as Provisioning
from vfio_kit.knowledge.provisioning.kind import Runfile as Runfile
