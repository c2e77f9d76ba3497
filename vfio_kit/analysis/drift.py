"""PURE: what has changed about the devices between the plan and now.

An address is no name: bus numbers are given anew at each boot, and a card that was added, taken out
or put elsewhere moves the others. What goes to a guest has to be what was looked at.
"""

from collections.abc import Iterable, Iterator
from itertools import combinations

from vfio_kit.analysis.describe import describe, listed
from vfio_kit.analysis.isolation import judge_together
from vfio_kit.analysis.readiness.platform import platform_findings
from vfio_kit.knowledge.findings import SHARED_GROUP, UNKNOWN_MEMBER
from vfio_kit.model import Finding, Host, Level, PciAddress, PciDevice
from vfio_kit.model.vm import DeviceIdentity


def drift(
    planned: tuple[DeviceIdentity, ...], host: Host, *, drivers: bool = True
) -> tuple[str, ...]:
    """A sentence for each thing that is not as it was planned; nothing where all is the same.

    drivers  whether the drivers count as well: not where a VM has the devices already.

    Of groups who is in them is compared, and not their numbers: the kernel gives each new group the
    lowest one that is free, in the order in which it probes the devices (drivers/iommu/iommu.c,
    iommu_group_alloc), so that a reboot may number the same groups otherwise.
    What an identity does not know (None, in a record of an older version) is not compared.
    """
    going = {identity.address for identity in planned}
    changes: list[str] = []
    for identity in planned:
        now = host.device(identity.address)
        if now is None or not _is_the_card(identity, now):
            changes.append(_elsewhere(identity, now, planned, host))
        else:
            changes += _changes(identity, now, drivers=drivers)
    changes += _regrouped(planned, host)
    changes += _newcomers(host, going)
    return tuple(dict.fromkeys(changes))


def new_obstacles(
    host: Host, gpus: Iterable[PciAddress], known: Iterable[Finding]
) -> tuple[Finding, ...]:
    """What blocks now and was not there when the plan was made: a process that has the device open.

    known  the findings of the plan: of these those that block were accepted by the operator.

    Raises UsageError where one of the GPUs is none any more; drift says so in a sentence.
    """
    before = {(found.code, found.device) for found in known}
    # Newcomers of a group are drift's to tell.
    told = {SHARED_GROUP.code, UNKNOWN_MEMBER.code}
    reports = judge_together(host, gpus)
    found = (*platform_findings(host), *(f for report in reports for f in report.findings))
    return tuple(
        one
        for one in dict.fromkeys(found)
        if one.level is Level.BLOCK
        and one.code not in told
        and (one.code, one.device) not in before
    )


def _is_the_card(identity: DeviceIdentity, device: PciDevice) -> bool:
    """Whether a function has the ids, the subsystem and the class of the one that was planned."""
    known = (identity.subsystem, identity.class_code)
    seen = (_subsystem(device), device.class_code)
    return device.ids == identity.ids and all(
        before is None or before == now for before, now in zip(known, seen, strict=True)
    )


def _subsystem(device: PciDevice) -> str | None:
    if device.subsystem_vendor_id is None or device.subsystem_device_id is None:
        return None
    return f"{device.subsystem_vendor_id:04x}:{device.subsystem_device_id:04x}"


def _elsewhere(
    identity: DeviceIdentity,
    now: PciDevice | None,
    planned: tuple[DeviceIdentity, ...],
    host: Host,
) -> str:
    """Where the card is instead, if it is anywhere; what is in its place, if anything is."""
    at_home = {i.address for i in planned if (d := host.device(i.address)) and _is_the_card(i, d)}
    found = [
        device
        for device in host.devices
        if device.address not in at_home and _is_the_card(identity, device)
    ]
    card = f"{identity.address} ({_words(identity)})"
    if len(found) == 1:
        return f"the card that was at {card} is at {found[0].address} now" + (
            f", and in its place there is {describe(now)}" if now else ""
        )
    places = listed([str(device.address) for device in found])
    where = f"; such a card is at each of {places}" if found else ""
    if now is None:
        return f"there is no {card} any more{where}"
    if now.ids == identity.ids:
        return f"{card} is another card now: {_difference(identity, now)}{where}"
    return f"{card} is another device now: {describe(now)}{where}"


def _words(identity: DeviceIdentity) -> str:
    return f"{identity.ids} {identity.name}" if identity.name else identity.ids


def _difference(identity: DeviceIdentity, now: PciDevice) -> str:
    parts = []
    if identity.subsystem not in (None, _subsystem(now)):
        parts.append(f"its subsystem is {_subsystem(now) or 'none'}, was {identity.subsystem}")
    if identity.class_code not in (None, now.class_code):
        parts.append(f"its class is {now.class_code:06x}, was {identity.class_code:06x}")
    return listed(parts)


def _changes(identity: DeviceIdentity, now: PciDevice, *, drivers: bool) -> Iterator[str]:
    """Of a function that is the same, as far as its ids say, and stands otherwise."""
    who = f"{identity.address} ({_words(identity)})"
    if now.silent:
        yield f"{who} does not answer any more: its config space reads 0xff throughout"
    if identity.iommu_group is not None and now.iommu_group is None:
        yield f"{who} is in no IOMMU group now, was in group {identity.iommu_group}"
    # Ids alone do not tell two cards of one kind apart; their slots do. An identity that knows its
    # class knows the bridges above as well: no older record knows one of the two.
    if identity.class_code is not None and now.upstream != identity.upstream:
        yield f"{who} hangs {_below(now.upstream)} now, was {_below(identity.upstream)}"
    if identity.numa_node is not None and now.numa_node != identity.numa_node:
        node = "no NUMA node" if now.numa_node is None else f"NUMA node {now.numa_node}"
        yield f"{who} is on {node} now, was on node {identity.numa_node}"
    if drivers and now.driver != identity.driver:
        driver = f"has driver {now.driver}" if now.driver else "has no driver"
        yield f"{who} {driver} now, had {identity.driver or 'none'}"


def _below(upstream: tuple[PciAddress, ...]) -> str:
    return f"below {' and '.join(map(str, upstream))}" if upstream else "on the root bus"


def _regrouped(planned: tuple[DeviceIdentity, ...], host: Host) -> Iterator[str]:
    """Of devices that go: two that were in one IOMMU group and are not, or the other way round."""
    there = [(i, now) for i in planned if (now := host.device(i.address)) and _is_the_card(i, now)]
    known = [(i, now) for i, now in there if None not in (i.iommu_group, now.iommu_group)]
    for (first, first_now), (second, second_now) in combinations(known, 2):
        together = first.iommu_group == second.iommu_group
        if together != (first_now.iommu_group == second_now.iommu_group):
            how = "not in one IOMMU group any more" if together else "in one IOMMU group now"
            yield f"{first.address} and {second.address} are {how}"


def _newcomers(host: Host, going: set[PciAddress]) -> Iterator[str]:
    """What has come into a group, or into a card's slot, and does not go along.

    Nothing foreign was there when the plan was made: no plan is made of a group that is shared.
    """
    found = (host.device(address) for address in sorted(going))
    groups = {now.iommu_group for now in found if now and now.iommu_group is not None}
    for number in sorted(groups):
        for address in host.iommu_groups.get(number, ()):
            device = host.device(address)
            if address not in going and (device is None or not device.is_bridge):
                what = describe(device) if device else f"{address}, which could not be read"
                yield f"group {number} holds {what} now, which does not go along"
    slots = {address.slot for address in going}
    for device in host.devices:
        # A virtual function goes alone; a member of one of the groups is told above.
        told = device.physical_function is not None or device.iommu_group in groups
        if device.address.slot in slots and device.address not in going and not told:
            yield f"the card has one more function now, which does not go: {describe(device)}"
