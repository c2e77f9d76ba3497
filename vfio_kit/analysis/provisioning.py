"""What the seed of a VM installs: the rows of the tables that its software names. Pure."""

from vfio_kit.knowledge.guests import GUESTS
from vfio_kit.knowledge.provisioning import CUDA_ROWS, DRIVER_ROWS, NO_DRIVER, Provisioning
from vfio_kit.model.vm import Software


def provisioning_of(guest: str, software: Software) -> Provisioning | None:
    """What the templates of a seed take; None where nothing is to be installed.

    Raises KeyError for a guest, a driver or a toolkit that the tables do not have.
    """
    if software.baked or (software.driver == NO_DRIVER and not software.packages):
        return None
    driver = None if software.driver == NO_DRIVER else DRIVER_ROWS[guest, software.driver]
    return Provisioning(
        guest=GUESTS[guest],
        driver=driver,
        cuda=None if software.cuda is None else CUDA_ROWS[guest, software.cuda],
        cuda_way=software.cuda_way,
        capabilities=software.capabilities,
        packages=software.packages,
        from_bundle=software.bundle is not None,
    )
