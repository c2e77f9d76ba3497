"""Config space: bytes of sysfs `config` -> what matters of them."""

from vfio_kit.model import ConfigSpace


def parse_config_space(data: bytes) -> ConfigSpace | None:
    """None where not even the header is there."""
    if len(data) < 64:
        return None
    return ConfigSpace(
        multifunction=bool(data[0x0E] & 0x80), capabilities_read=False, extended_read=False
    )
