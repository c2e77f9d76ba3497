"""PURE: the cloud-init seed of a VM, with the script that installs a driver where one is wanted."""

import shlex
from collections.abc import Iterable

from vfio_kit.analysis.provisioning import provisioning_of
from vfio_kit.assets import asset_dir
from vfio_kit.knowledge.cuda_samples import SAMPLES
from vfio_kit.knowledge.guest_archives import GUEST_ARCHIVES
from vfio_kit.knowledge.provision_steps import PROVISION_STEPS, Needs, ProvisionStep
from vfio_kit.knowledge.provisioning import Provisioning
from vfio_kit.model.vm import RenderedFile, SeedKeys, UpPlan
from vfio_kit.render.environment import environment

Settings = tuple[tuple[str, str | tuple[str, ...]], ...]
"""Names of shell variables and their values; a tuple is an array."""


def seed_files(plan: UpPlan, keys: SeedKeys) -> tuple[RenderedFile, ...]:
    """user-data holds the guest's private host key, so all files are for their owner alone."""
    templates = environment("cloud-init")
    provisioning = provisioning_of(plan.guest, plan.software)
    values: dict[str, object] = {
        "plan": plan,
        "domain": plan.domain,
        "keys": keys,
        "provisioning": provisioning,
    }
    if provisioning:
        values |= {
            "settings": shell_settings(provisioning, has_gpu=bool(plan.domain.host_devices)),
            "script": provision_script(),
            "repository_key": None if provisioning.from_bundle else repository_key(provisioning),
        }
    return tuple(
        RenderedFile(name, templates.get_template(f"{folder}/{name}.j2").render(values), 0o600)
        for folder, name in (
            (plan.guest, "user-data"),
            ("common", "meta-data"),
            ("common", "network-config"),
        )
    )


def provision_script() -> str:
    """The script that runs in the guest: the same for all; what it installs say its settings."""
    parts = sorted((asset_dir("cloud-init") / "common" / "provision").glob("*.sh"))
    return "".join(part.read_text(encoding="utf-8") for part in parts)


def shell_settings(provisioning: Provisioning, *, has_gpu: bool) -> str:
    """/etc/vfio-kit/provision.conf, which the script reads: assignments of bash."""
    steps = provision_steps(provisioning, has_gpu=has_gpu)
    lines = [assignment(name, value) for name, value in settings(provisioning, has_gpu=has_gpu)]
    lines += [assignment("STEPS", tuple(step.code for step in steps))]
    lines += ["declare -A TITLES CULPRITS"]
    for step in steps:
        lines.append(f"TITLES[{step.code}]={shlex.quote(step.title)}")
        if step.culprits:
            lines.append(f"CULPRITS[{step.code}]={shlex.quote(' '.join(step.culprits))}")
    return "\n".join(lines) + "\n"


def provision_steps(provisioning: Provisioning, *, has_gpu: bool) -> tuple[ProvisionStep, ...]:
    """The steps that this guest has, in order."""
    there = {
        Needs.NOTHING: True,
        Needs.BUNDLE: provisioning.from_bundle,
        Needs.DRIVER: provisioning.driver is not None,
        Needs.CUDA: provisioning.cuda is not None,
        Needs.GPU: provisioning.driver is not None and has_gpu,
        Needs.PACKAGES: bool(provisioning.packages),
    }
    return tuple(step for step in PROVISION_STEPS if there[step.needs])


def settings(provisioning: Provisioning, *, has_gpu: bool) -> Settings:
    """Every name is always there: the script runs with `set -u`."""
    driver, cuda = provisioning.driver, provisioning.cuda
    repository, runfile = provisioning.cuda_repository, provisioning.runfile
    guest = provisioning.guest
    return (
        ("MODE", "guest" if has_gpu else "bake"),
        ("GUEST", guest.id),
        ("COMPONENTS", driver.components if driver else ()),
        ("KERNEL_SERIES", guest.kernel.series),
        ("KERNEL_UNFIT", guest.kernel.unfit),
        ("KERNEL_PACKAGE", GUEST_ARCHIVES[guest.id].kernel),
        ("COMPILERS", driver.compilers if driver else ()),
        ("DRIVER", driver.name if driver else ""),
        ("DRIVER_VERSION", driver.version if driver else ""),
        ("DRIVER_PACKAGES", driver.packages if driver else ()),
        ("MODULE", driver.module if driver else ""),
        ("HOLD", driver.hold if driver else ()),
        ("CUDA", cuda.name if cuda else ""),
        ("CUDA_PACKAGES", provisioning.cuda_packages),
        ("CUDA_HOME", cuda.home if cuda else ""),
        ("CUDA_INCLUDE", cuda.include if cuda else ""),
        ("CUDA_LIB", cuda.lib if cuda else ""),
        ("HOST_COMPILER", cuda.host_compiler if cuda else ""),
        ("SMS", tuple(one.replace(".", "") for one in provisioning.capabilities)),
        ("REPOSITORY", repository.name if repository else ""),
        ("REPOSITORY_URI", repository.uri if repository else ""),
        ("REPOSITORY_KEY_URI", repository.key_uri if repository else ""),
        ("REPOSITORY_FINGERPRINT", repository.key_fingerprint if repository else ""),
        ("RUNFILE", runfile.file if runfile else ""),
        ("RUNFILE_URI", runfile.uri if runfile else ""),
        ("RUNFILE_SHA256", runfile.sha256 if runfile else ""),
        ("RUNFILE_ARGUMENTS", runfile.arguments if runfile else ()),
        ("RUNFILE_PACKAGES", runfile.packages if runfile else ()),
        ("SAMPLES", SAMPLES.tag if cuda else ""),
        ("SAMPLES_URI", SAMPLES.uri if cuda else ""),
        ("SAMPLES_SHA256", (SAMPLES.sha256 or "") if cuda else ""),
        ("PACKAGES", provisioning.packages),
    )


def assignment(name: str, value: str | tuple[str, ...]) -> str:
    """A line of bash."""
    return f"{name}={shlex.quote(value) if isinstance(value, str) else f'({_words(value)})'}"


def _words(values: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, values))


def repository_key(provisioning: Provisioning) -> str | None:
    """The armoured key of CUDA's repository, where there is one and its key is shipped."""
    repository = provisioning.cuda_repository
    if repository is None or repository.key_asset is None:
        return None
    return (asset_dir("cloud-init") / repository.key_asset).read_text(encoding="utf-8")
