"""BARs as large as a Tesla K80's find their place in the machine of our script."""

import json

import pytest

from . import product
from .conftest import LabHost

pytestmark = [pytest.mark.lab_long, pytest.mark.topology("m4000-isolated")]

_4_GIB, _16_GIB = 4 << 30, 16 << 30
INSIDE = product.CHECKOUT / "tests/lab/inside/place_bars.py"


@pytest.mark.parametrize("boot", ["bios", "uefi", "direct"])
def test_firmware_places_both_halves_of_a_k80(host: LabHost, boot: str) -> None:
    """A kernel that is given directly is started by SeaBIOS, which has placed them before."""
    golden = product.CHECKOUT / f"tests/golden/k80-bars-{boot}/run.sh"
    host.put(INSIDE, "/root/place_bars.py")
    host.put(golden, "/root/k80.sh")
    done = host.run("python3 /root/place_bars.py /root/k80.sh", timeout=360)
    host.run("rm /root/place_bars.py /root/k80.sh")
    places = json.loads(done.stdout)
    print(done.stderr, [hex(place) for place in places])
    assert len(set(places)) == 2
    assert all(place >= _4_GIB and place % _16_GIB == 0 for place in places)
