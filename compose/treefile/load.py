"""Loads a treefile into a LoadedTreefile, or raises one TreefileError that lists every error found."""

from __future__ import annotations

import hashlib
import json
import os
import re
from typing import Any

from compose.errors import RepositoryError, TreefileError
from compose.ostree.refs import validate_ref
from compose.rpm.specs import PackageSpec, RepoPackages
from compose.treefile.conditions import Value, references, substitute
from compose.treefile.flatten import FINALIZE, Config, Flattener, items_of
from compose.treefile.keys import KEYS, Merge
from compose.treefile.known import KnownFiles
from compose.treefile.model import (
    AddFile,
    BootLocation,
    Check,
    CheckKind,
    ExternalFile,
    LoadedTreefile,
    MetadataPlace,
    OptUsrLocal,
    RpmSource,
    Treefile,
)
from compose.treefile.packages import without_overridden
from compose.treefile.source import Located
from compose.treefile.version import unknown_tags

_SUBSTITUTED = ("ref", "automatic-version-prefix", "mutate-os-release", "platform-module")
# None: all members
_SUBSTITUTED_MEMBERS: dict[str, tuple[str, ...] | None] = {
    "metadata": None,
    "add-commit-metadata": None,
    "rojig": ("name", "summary", "description"),
}
_ADD_FILES_PREFIXES = ("usr/", "etc/", "bin/", "sbin/", "lib/", "lib64/")
# As in rpm-ostree, keys that change only the commit's metadata are hashed too.
_NOT_HASHED = (
    # informational
    "metadata",
    # hashed as commits, where the refs are resolved
    "ostree-layers",
    # says where packages come from, not which
    "lockfile-repos",
)


def load_treefile(path: str, *, basearch: str, known: KnownFiles | None = None) -> LoadedTreefile:
    """Read, validate and flatten a treefile. basearch: RPM base architecture of the compose. known: cache of parsed files.

    Raises TreefileError; its details have one line per error, "file:line:column: key: what is wrong".
    """
    config, flattener = flatten(path, basearch=basearch, known=known)
    flat = _flat(config, basearch)
    return LoadedTreefile(
        treefile=_model(config, flattener, basearch),
        json=json.dumps(flat, indent=2, sort_keys=True, ensure_ascii=False) + "\n",
        deciding_keys=_deciding_keys(flat, config),
        deciding_files=_deciding_files(flattener),
        directory=os.path.dirname(os.path.abspath(path)),
        files=tuple(flattener.opened.values()),
        warnings=tuple(map(str, flattener.remarks)),
    )


def named_files(path: str, *, basearch: str, known: KnownFiles | None = None) -> tuple[frozenset[str], frozenset[str]]:
    """What load_treefile() looks for, even when it finds errors: all files, existing or not, and the finalize.d directories."""
    flattener = Flattener(basearch=basearch, known=known)
    flattener.read(path)
    return frozenset(flattener.tried), frozenset(flattener.programs)


def flatten(path: str, *, basearch: str, known: KnownFiles | None = None) -> tuple[Config, Flattener]:
    """The first half of load_treefile(): every key with the place of its value, and the flattener with all it has collected."""
    flattener = Flattener(basearch=basearch, known=known)
    config = flattener.read(path)
    _check_values(config, flattener)
    if not flattener.faults:
        _substitute(config, flattener.variables, flattener.faults)
    if flattener.faults:
        found = list(dict.fromkeys(flattener.faults))
        raise TreefileError.of(found, f"{path}: {len(found)} errors in the treefile")
    return config, flattener


def _check_values(config: Config, flattener: Flattener) -> None:
    """Check what the schema cannot express."""
    for pair in items_of(config, "add-files"):
        dest = pair.value[1]
        plain = dest.value.lstrip("/")
        if not plain.startswith(_ADD_FILES_PREFIXES) or plain.startswith("usr/local/") or ".." in plain.split("/"):
            flattener.faults.append(
                f"{dest.place}: add-files: Unsupported path in add-files: {dest.value}; it must be below /usr (not "
                "/usr/local) or /etc"
            )
    for name in items_of(config, "remove-files"):
        if name.value.startswith("/") or ".." in name.value.split("/"):
            flattener.faults.append(f"{name.place}: remove-files: {name.value} must be relative, without ..")
    for row in items_of(config, "remove-from-packages"):
        for expression in row.value[1:]:
            try:
                re.compile(expression.value)
            except (re.error, OverflowError, RecursionError) as error:
                flattener.faults.append(
                    f"{expression.place}: remove-from-packages: {expression.value!r} is not a regular expression: {error}"
                )
    for name, value in config["repovars"].value.items() if "repovars" in config else ():
        if name in ("releasever", "basearch"):
            flattener.faults.append(
                f"{value.place}: repovars.{name}: the compose sets this variable; it cannot be defined"
            )
    script = flattener.externals.get(("postprocess-script", ""))
    if script is not None and not script.mode & 0o111:
        place = config["postprocess-script"].place
        flattener.faults.append(f"{place}: postprocess-script: {script.path} is not executable (chmod +x)")
    units, compat = config.get("units"), config.get("machineid-compat")
    if units is not None and units.value and compat is not None and compat.value is False:
        flattener.faults.append(f"{units.place}: units: needs machineid-compat: true")


def _substitute(config: Config, variables: dict[str, Value], faults: list[str]) -> None:
    for key in _SUBSTITUTED:
        if key in config:
            value = config[key]
            config[key] = Located(substitute(value.value, variables), value.place)
    for key, members in _SUBSTITUTED_MEMBERS.items():
        if key in config:
            value = config[key]
            config[key] = Located(
                {
                    name: Located(substitute(member.value, variables), member.place)
                    if isinstance(member.value, str) and (members is None or name in members)
                    else member
                    for name, member in value.value.items()
                },
                value.place,
            )
    ref = config.get("ref")
    if ref is not None:
        unknown = references(ref.value)
        faults += [f"{ref.place}: ref: undefined variable {name!r}" for name in unknown]
        try:
            if not unknown:
                validate_ref(ref.value)
        except RepositoryError as error:
            faults.append(f"{ref.place}: ref: {error.message} ({error.hint})")
    prefix = config.get("automatic-version-prefix")
    if prefix is not None:
        faults += [
            f"{prefix.place}: automatic-version-prefix: unknown tag {tag}; the only one is <date:FORMAT>"
            for tag in unknown_tags(prefix.value)
        ]


def _flat(config: Config, basearch: str) -> dict[str, Any]:
    """The flattened treefile as rpm-ostree prints it."""
    flat: dict[str, Any] = {"basearch": basearch}
    for key, value in config.items():
        if KEYS[key].shown:
            flat[key] = value.plain()
            if KEYS[key].merge is Merge.UNION:
                flat[key] = sorted(set(flat[key]))
    flat.setdefault("packages", [])
    if "rojig" in flat:
        flat["rojig"].setdefault("description", None)
    for row in flat.get("repo-packages", ()):
        row["packages"] = sorted(set(row["packages"]))
    if flat.get("opt-usrlocal") == "stateoverlay":
        flat["opt-usrlocal"] = "state-overlay"
    return flat


def _deciding_keys(flat: dict[str, Any], config: Config) -> tuple[tuple[str, str], ...]:
    found = {key: json.dumps(flat[key], sort_keys=True, ensure_ascii=False) for key in flat if key not in _NOT_HASHED}
    if "repovars" in config:
        # deciding keys are recorded in the commit, and a repovar may be a secret token
        text = json.dumps(config["repovars"].plain(), sort_keys=True)
        found["repovars"] = json.dumps(f"sha256:{hashlib.sha256(text.encode()).hexdigest()}")
    return tuple(sorted(found.items()))


def _deciding_files(flattener: Flattener) -> tuple[tuple[str, str], ...]:
    return tuple(
        (f"{key} {name}".rstrip(), f"{external.mode:o} sha256:{hashlib.sha256(external.data).hexdigest()}")
        for (key, name), external in sorted(flattener.externals.items())
    )


def _model(config: Config, flattener: Flattener, basearch: str) -> Treefile:
    def value(key: str, default: Any) -> Any:
        return config[key].plain() if key in config else default

    def exceptions(key: str) -> tuple[tuple[str, str, str], ...]:
        return tuple((row["package"], row["scriptlet"], row["reason"]) for row in value(key, ()))

    def texts(key: str) -> tuple[str, ...]:
        return tuple(value(key, ()))

    def specs(key: str) -> tuple[PackageSpec, ...]:
        rows = items_of(config, key)
        first = {row.value: row.place for row in reversed(rows)}
        return tuple(PackageSpec(text=text, place=str(first[text])) for text in sorted(first))

    def external(key: str, name: str = "") -> ExternalFile | None:
        return flattener.externals.get((key, name))

    def check(key: str) -> Check:
        row = value(key, {"type": "previous"})
        entries = row.get("entries") or {}
        # rpm-ostree's rule: a user's single id is also the id of its group
        count = 2 if key == "check-passwd" else 1
        given = [(name, ids if isinstance(ids, list) else [ids]) for name, ids in sorted(entries.items())]
        data = tuple((name, tuple(ids * count)[:count]) for name, ids in given)
        return Check(kind=CheckKind(row["type"]), file=external(key), data=data)

    releasever = value("releasever", None)
    boot = value("boot-location", "new")
    usrlocal = value("opt-usrlocal", "var")
    return Treefile(
        basearch=basearch,
        ref=value("ref", None),
        releasever=None if releasever is None else str(releasever),
        repos=tuple(value("repos", ())) if "repos" in config else None,
        repovars=tuple(sorted(value("repovars", {}).items())),
        packages=specs("packages"),
        repo_packages=_repo_packages(config),
        exclude_packages=specs("exclude-packages"),
        recommends=value("recommends", True),
        documentation=value("documentation", True),
        install_langs=texts("install-langs") if "install-langs" in config else None,
        selinux=value("selinux", True),
        selinux_label_version=value("selinux-label-version", 0),
        ignore_devices=value("ignore-devices", True),
        readonly_executables=value("readonly-executables", False),
        remove_from_packages=tuple((row[0], tuple(row[1:])) for row in value("remove-from-packages", ())),
        ignore_scriptlets=exceptions("ignore-scriptlets"),
        allow_scriptlet_failures=exceptions("allow-scriptlet-failures"),
        default_ignored_scriptlets=value("default-ignored-scriptlets", True),
        container=value("container", False),
        container_cmd=texts("container-cmd") if "container-cmd" in config else None,
        initramfs_args=texts("initramfs-args"),
        no_initramfs=value("no-initramfs", False),
        boot_location=BootLocation(boot) if boot in list(BootLocation) else BootLocation.NEW,
        tmp_is_dir=value("tmp-is-dir", False),
        opt_usrlocal=OptUsrLocal("state-overlay" if usrlocal == "stateoverlay" else usrlocal),
        units=texts("units"),
        default_target=value("default-target", None),
        machineid_compat=value("machineid-compat", True),
        mutate_os_release=value("mutate-os-release", None),
        automatic_version_prefix=value("automatic-version-prefix", None),
        automatic_version_suffix=value("automatic-version-suffix", "."),
        etc_group_members=texts("etc-group-members"),
        preserve_passwd=value("preserve-passwd", True),
        check_passwd=check("check-passwd"),
        check_groups=check("check-groups"),
        ignore_removed_users=texts("ignore-removed-users"),
        ignore_removed_groups=texts("ignore-removed-groups"),
        postprocess=texts("postprocess"),
        postprocess_script=external("postprocess-script"),
        add_files=tuple(
            AddFile(dest=dest, source=found)
            for name, dest in value("add-files", ())
            if (found := external("add-files", name)) is not None
        ),
        remove_files=texts("remove-files"),
        add_commit_metadata=tuple(value("add-commit-metadata", {}).items()),
        gpg_key=value("gpg-key", None),
        repo_metadata=MetadataPlace(value("repo-metadata", "inline")),
        advisories_metadata=MetadataPlace(value("advisories-metadata", "inline")),
        rpm_files=_rpm_files(config),
        lockfile_repos=texts("lockfile-repos"),
        ima=value("ima", False),
        cliwrap=value("cliwrap", False),
        cliwrap_binaries=texts("cliwrap-binaries"),
        ostree_layers=texts("ostree-layers"),
        ostree_override_layers=texts("ostree-override-layers"),
        id_lock=external("id-lock"),
        finalize=tuple(found for (key, _), found in sorted(flattener.externals.items()) if key == FINALIZE),
    )


def _rpm_files(config: Config) -> tuple[RpmSource, ...]:
    found = []
    for row in items_of(config, "rpm-files"):
        path, url = row.value.get("path"), row.value.get("url")
        found.append(
            RpmSource(
                sha256=row.value["sha256"].value,
                place=str(row.place),
                path=None if path is None else os.path.join(os.path.dirname(row.place.file), path.value),
                url=None if url is None else url.value,
            )
        )
    return tuple(found)


def _repo_packages(config: Config) -> tuple[RepoPackages, ...]:
    return tuple(
        RepoPackages(
            repo=row.value["repo"].value,
            packages=tuple(PackageSpec(text=item.value, place=str(item.place)) for item in row.value["packages"].value),
            place=str(row.place),
        )
        for row in without_overridden(items_of(config, "repo-packages"))
    )
