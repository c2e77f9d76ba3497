"""PURE: the script that fills an offline bundle with what the guest's script will ask for."""

from vfio_kit.analysis.provisioning import provisioning_of
from vfio_kit.assets import asset_dir
from vfio_kit.errors import UsageError
from vfio_kit.knowledge.guest_archives import GUEST_ARCHIVES
from vfio_kit.knowledge.provisioning import Provisioning
from vfio_kit.model.vm import RenderedFile, SeedKeys, UpPlan
from vfio_kit.render.environment import environment
from vfio_kit.render.seed import Settings, assignment, repository_key, settings


def bundle_files(plan: UpPlan, _keys: SeedKeys) -> tuple[RenderedFile, ...]:
    """make-bundle.sh; raises UsageError where nothing is installed in the guest."""
    provisioning = provisioning_of(plan.guest, plan.software)
    if provisioning is None:
        raise UsageError(
            "nothing is installed in this guest, so there is nothing to bundle",
            "name a driver or packages",
        )
    values = (*settings(provisioning, has_gpu=True), *_archive(provisioning))
    head = [
        "#!/bin/bash",
        f"# Written by vfio-kit for {provisioning.guest.title}.",
        "# Without a FOLDER it says how it is used.",
        "set -Eeuo pipefail",
        "",
        "# The same as in the guest's /etc/vfio-kit/provision.conf.",
        "# shellcheck disable=SC2034  # some of them the guest's script alone has use for",
        "{",
        *(assignment(name, value) for name, value in values),
        "}",
    ]
    body = (asset_dir("cloud-init") / "bundle" / "make-bundle.sh").read_text(encoding="utf-8")
    return (RenderedFile("make-bundle.sh", "\n".join(head) + "\n" + body, 0o755),)


def _archive(provisioning: Provisioning) -> Settings:
    """The archive's part of the settings, with the pins that hold in the guest as well."""
    archive = GUEST_ARCHIVES[provisioning.guest.id]
    preferences = (
        environment("cloud-init")
        .get_template("common/preferences.j2")
        .render(provisioning=provisioning)
        if provisioning.driver
        else ""
    )
    sources = tuple(
        f"deb [signed-by={archive.keyring}] {uri} {suite} {' '.join(archive.components)}"
        for uri, suite in archive.suites
    )
    return (
        ("KEYRING", archive.keyring),
        ("KEYRING_PACKAGE", archive.keyring_package),
        ("SOURCES", sources),
        ("REPOSITORY_KEY", repository_key(provisioning) or ""),
        ("PREFERENCES", preferences),
    )
