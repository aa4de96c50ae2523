"""Follows includes and merges them, as rpm-ostree does.

After a file is read, its variables are added (a variable that is already defined keeps its value). Then its includes, its
arch-includes and the conditional includes whose conditions hold are read in turn, and each is merged at once. So a condition
sees the variables of its own file, of the files that include it and of files read earlier, but not those of its own file's
includes. `edition` and `container` set defaults for the file they are in, when it is read.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import BinaryIO

from compose.treefile.conditions import ConditionFault, Value, evaluate
from compose.treefile.keys import CLIENT_ONLY, KEYS, LEGACY, Merge, nearest
from compose.treefile.kickstart import parse_kickstart
from compose.treefile.known import KnownFiles
from compose.treefile.model import ExternalFile
from compose.treefile.packages import split_packages, without_overridden
from compose.treefile.source import Located, Place, Remark, SourceFault
from compose.treefile.validate import faults, given

_MAX_DEPTH = 50
FINALIZE = "finalize.d"
"""Directory beside a treefile whose programs run last; also the key of its files in externals."""

_REMOVE = "packages-remove"
_SPLIT = ("packages", "bootstrap-packages", _REMOVE)
_RESERVED_VARIABLES = ("releasever", "basearch")
_EDITION_2024 = {"boot-location": "modules", "tmp-is-dir": True}
_CONTAINER = {
    "boot-location": "modules",
    "selinux": False,
    "tmp-is-dir": True,
    "preserve-passwd": False,
    "check-passwd": {"type": "none"},
    "check-groups": {"type": "none"},
}

Config = dict[str, Located]


@dataclass(slots=True)
class Flattener:
    """Reads a treefile and everything it includes; the fields collect the results.

    known: cache of parsed files. externals: files that keys refer to, by key and by the name given there, "" for a key that
    takes one file. faults: "place: message". remarks: warnings. files: contents of the treefiles that were read, by path.
    opened: every file that was read, under the path it was opened by. tried: paths of all files that were looked for, existing
    or not. programs: the finalize.d directories that were looked for, existing or not. legacy: (place, old, new) for each old
    spelling. untaken: (place, path, reason) for each include that was not followed.
    """

    basearch: str
    known: KnownFiles | None = None
    variables: dict[str, Value] = field(default_factory=dict)
    externals: dict[tuple[str, str], ExternalFile] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    opened: dict[str, ExternalFile] = field(default_factory=dict)
    tried: set[str] = field(default_factory=set)
    programs: set[str] = field(default_factory=set)
    legacy: list[tuple[Place, str, str]] = field(default_factory=list)
    untaken: list[tuple[Place, str, str]] = field(default_factory=list)
    _seen: set[tuple[int, int]] = field(default_factory=set)
    # files whose includes are being read, the top one first
    _open: list[tuple[int, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.variables["basearch"] = self.basearch

    def read(self, path: str, chain: tuple[Place, ...] = ()) -> Config:
        """Read a file and merge everything it includes. Errors go to `faults`; a file that cannot be read counts as empty, as
        does one that was read before, for another file that includes it."""
        if len(chain) > _MAX_DEPTH:
            self._fault(chain[-1], f"includes nested deeper than {_MAX_DEPTH}", chain[:-1])
            return {}
        depth = len(self._open)
        config = self._with_includes(path, self._read_one(path, chain), chain)
        del self._open[depth:]
        return config

    def _with_includes(self, path: str, config: Config | None, chain: tuple[Place, ...]) -> Config:
        if config is None:
            return {}
        directory = os.path.dirname(path)
        for place, included in self._includes(config, chain):
            if isinstance(included, str):
                other = self.read(os.path.join(directory, included), (*chain, place))
            else:
                other = self._finish({**included}, os.path.join(directory, "inline"), chain, inline=True)
            merge(config, other)
        self._remove_packages(config)
        return config

    def _remove_packages(self, config: Config) -> None:
        """Apply packages-remove: drop packages that this file's includes list."""
        unwanted = config.pop(_REMOVE, None)
        if unwanted is None or "packages" not in config:
            return
        names = {item.value: item.place for item in unwanted.value}
        packages = config["packages"]
        for name in sorted(names.keys() - {item.value for item in packages.value}):
            message = f"{_REMOVE}: no include lists {name}"
            self.remarks.append(Remark(place=names[name], rule="packages-remove-needless", message=message))
        kept = [item for item in packages.value if item.value not in names]
        config["packages"] = Located(kept, packages.place)

    def _read_one(self, path: str, chain: tuple[Place, ...]) -> Config | None:
        self.tried.add(path)
        target = None
        try:
            data, identity = _contents(path)
            if (target := _git_symlink(path, data)) is not None:
                # as with a real symlink, its includes are relative to the link's own directory
                self.tried.add(target)
                data, identity = _contents(target)
        except OSError as error:
            self._unreadable(target or path, error, chain)
            return None
        if identity in self._open:
            self._fault(chain[-1], f"include loop: {path} includes itself", chain[:-1])
        if identity in self._seen:
            return None
        self._seen.add(identity)
        self._open.append(identity)
        self.files[target or path] = data
        self.opened[path] = ExternalFile(path=path, data=data, mode=0o644)
        if _is_kickstart(path):
            self._read_finalize(os.path.join(os.path.dirname(path), FINALIZE))
            return self._parse_kickstart(data, path, chain, os.path.dirname(path), {identity})
        known = self.known.recall(data, path) if self.known else None
        try:
            parsed = known or parse_source(data, path)
        except SourceFault as fault:
            self._fault(fault.place, fault.message, chain)
            return None
        # a copy, since keys are renamed in it
        source = self._without_comments(parsed) if is_json(path) else Located({**parsed.value}, parsed.place)
        config: Config = source.value
        for old, new in LEGACY.items():
            if old not in config:
                continue
            if new in config:
                self._fault(config[old].place, f"{old}: the old spelling of {new}, which is also given", chain)
            self.legacy.append((config[old].place, old, new))
            config[new] = config.pop(old)
        config = given(config)
        wrong = [] if known else faults(Located(config, source.place))
        for place, message in wrong:
            self._fault(place, message, chain)
        if wrong:
            # invalid keys cannot be merged; the file's includes are still read, to report their errors too
            config = {key: value for key, value in config.items() if not faults(Located({key: value}, source.place))}
        elif self.known and not known:
            self.known.note(data, path, parsed)
        return self._finish(config, path, chain)

    def _parse_kickstart(
        self, data: bytes, path: str, chain: tuple[Place, ...], directory: str, seen: set[tuple[int, int]]
    ) -> Config:
        """Parse a kickstart file and append what it includes. As in rpm-ostree, all of that is kickstart, whatever its name,
        and relative to `directory`, that of the first one, in which alone a file may be included only once (`seen`)."""
        try:
            config: Config = parse_kickstart(data, path).value
        except SourceFault as fault:
            self._fault(fault.place, fault.message, chain)
            return {}
        includes = config.pop("include", None)
        for item in includes.value if includes is not None else []:
            included, way = os.path.join(directory, item.value), (*chain, item.place)
            self.tried.add(included)
            try:
                inner, identity = _contents(included)
            except OSError as error:
                self._unreadable(included, error, way)
                continue
            if identity in seen:
                self._fault(item.place, f"include loop: {included} is already included", chain)
            elif len(way) > _MAX_DEPTH:
                self._fault(item.place, f"includes nested deeper than {_MAX_DEPTH}", chain)
            else:
                seen.add(identity)
                self.opened[included] = ExternalFile(path=included, data=inner, mode=0o644)
                for key, value in self._parse_kickstart(inner, included, way, directory, seen).items():
                    if isinstance(value.value, list):
                        _append(config, key, value)
                    else:
                        config[key] = value
        return config

    def _without_comments(self, source: Located) -> Located:
        """Drop unknown top-level keys, with a warning: they serve as comments in JSON, and rpm-ostree ignores them there."""
        kept: Config = {}
        for key, value in source.value.items():
            if not _is_comment(key):
                kept[key] = value
            else:
                near = nearest(key, KEYS)
                message = f"{key}: unknown key, ignored as a comment" + (f' (or "{near}"?)' if near else "")
                self.remarks.append(Remark(place=value.place, rule="json-comment", message=message))
        return Located(kept, source.place)

    def _finish(self, config: Config, path: str, chain: tuple[Place, ...], *, inline: bool = False) -> Config:
        """Bring one file's own keys into their final form: split lists, add implied defaults, read files that keys name."""
        for key in [key for key in config if key.startswith("packages-") and key != _REMOVE]:
            value = config.pop(key)
            if key == f"packages-{self.basearch}" and value.value is not None:
                _append(config, "packages", value)
        if not inline:
            for key in _SPLIT:
                if key in config:
                    config[key] = self._split(key, config[key], chain)
            self._imply(config)
        for row in items_of(config, "repo-packages"):
            packages = row.value["packages"]
            row.value["packages"] = (
                Located(packages.value or [], packages.place)
                if inline
                else self._split("repo-packages", packages, chain)
            )
        if (old := config.pop("bootstrap-packages", None)) is not None:
            self.legacy.append((old.place, "bootstrap-packages", "packages"))
            _append(config, "packages", old)
        basearch = config.pop("basearch", None)
        if basearch is not None and basearch.value != self.basearch:
            self._fault(
                basearch.place, f"basearch: {basearch.value} is given, but this compose is for {self.basearch}", chain
            )
        self._fold_variables(config, chain)
        self._read_externals(config, os.path.dirname(path), chain)
        if not inline:
            self._read_finalize(os.path.join(os.path.dirname(path), FINALIZE))
        return config

    def _imply(self, config: Config) -> None:
        """Add the defaults that edition and container imply."""
        for switch, wanted, implied in (("edition", "2024", _EDITION_2024), ("container", True, _CONTAINER)):
            if switch in config and config[switch].value == wanted:
                for key, value in implied.items():
                    place = config[switch].place
                    inner = (
                        {name: Located(member, place) for name, member in value.items()}
                        if isinstance(value, dict)
                        else value
                    )
                    config.setdefault(key, Located(inner, place))

    def _split(self, key: str, value: Located, chain: tuple[Place, ...]) -> Located:
        found: list[Located] = []
        for item in value.value or []:
            try:
                found += [Located(word, item.place) for word in split_packages(item.value)]
            except ValueError as error:
                self._fault(item.place, f"{key}: {error}", chain)
        return Located(found, value.place)

    def _fold_variables(self, config: Config, chain: tuple[Place, ...]) -> None:
        declared = config.get("variables")
        for name, value in (declared.value if declared else {}).items():
            if name in _RESERVED_VARIABLES:
                self._fault(
                    value.place, f"variables.{name}: the compose sets this variable; it cannot be defined", chain
                )
            else:
                self.variables.setdefault(name, value.value)
        if "releasever" in config:
            self.variables.setdefault("releasever", config["releasever"].value)

    def _includes(self, config: Config, chain: tuple[Place, ...]) -> Iterable[tuple[Place, str | Config]]:
        """Yield what to merge, in order: paths and inline treefiles. All conditions are evaluated before a file is read."""
        plain = config.pop("include", None)
        by_arch = config.pop("arch-include", None)
        conditional = config.pop("conditional-include", None)
        files = [(item.place, item.value) for item in _texts(plain)]
        for arch, included in by_arch.value.items() if by_arch is not None else ():
            for item in _texts(included):
                if arch == self.basearch:
                    files.append((item.place, item.value))
                else:
                    self.untaken.append(
                        (item.place, item.value, f"it is for {arch}, this compose is for {self.basearch}")
                    )
        for row in conditional.value if conditional is not None else []:
            included = row.value["include"]
            if not self._holds(row.value["if"], chain):
                conditions = " and ".join(item.value for item in _texts(row.value["if"]))
                paths = _texts(included) if not isinstance(included.value, dict) else []
                self.untaken += [(item.place, item.value, f"{conditions} does not hold") for item in paths]
                continue
            if isinstance(included.value, dict):
                # merged before any file, so that it overrides them
                yield included.place, given(included.value)
            else:
                files += [(item.place, item.value) for item in _texts(included)]
        yield from files

    def _holds(self, conditions: Located, chain: tuple[Place, ...]) -> bool:
        held = True
        for item in _texts(conditions):
            try:
                held &= evaluate(item.value, self.variables)
            except ConditionFault as fault:
                self._fault(item.place, f"conditional-include: {fault}", chain)
                held = False
        return held

    def _read_externals(self, config: Config, directory: str, chain: tuple[Place, ...]) -> None:
        for key, name in _externals_of(config):
            path = os.path.join(directory, name.value)
            self.tried.add(path)
            try:
                with open(path, "rb") as file:
                    external = self.opened[path] = ExternalFile(path=path, data=file.read(), mode=_mode(file))
            except FileNotFoundError as error:
                if key != "id-lock":
                    self._fault(name.place, f"{key}: cannot read {path}: {error.strerror}", chain)
                    continue
                # --accept-new-ids will write it
                external = ExternalFile(path=path, data=b"", mode=0o644)
            except OSError as error:
                self._fault(name.place, f"{key}: cannot read {path}: {error.strerror}", chain)
                continue
            if key == "add-files":
                # rpm-ostree's rule: a file of the same name in an include replaces the includer's
                self.externals[(key, name.value)] = external
            else:
                self.externals.setdefault((key, ""), external)

    def _read_finalize(self, directory: str) -> None:
        """Read the executable files in finalize.d; the includer's file wins over an include's file of the same name."""
        self.programs.add(directory)
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            return
        for name in names:
            path = os.path.join(directory, name)
            if (FINALIZE, name) in self.externals or not os.path.isfile(path):
                continue
            try:
                with open(path, "rb") as file:
                    mode = _mode(file)
                    if mode & 0o111:
                        # of names that are not, no digest can be computed
                        name.encode()
                        external = ExternalFile(path=path, data=file.read(), mode=mode)
                        self.externals[(FINALIZE, name)] = self.opened[path] = external
            except UnicodeEncodeError:
                self._fault(Place(path), f"{FINALIZE}: the name of a program must be UTF-8", ())
            except OSError as error:
                self._fault(Place(path), f"{FINALIZE}: cannot be read: {error.strerror}", ())

    def _unreadable(self, path: str, error: OSError, chain: tuple[Place, ...]) -> None:
        directory, name = os.path.split(path)
        try:
            includers = {os.path.basename(place.file) for place in chain}
            near = nearest(name, [other for other in os.listdir(directory or ".") if other not in includers])
        except OSError:
            near = None
        hint = f'; did you mean "{near}"?' if near and near != name else ""
        if chain:
            self._fault(chain[-1], f"include: cannot read {path}: {error.strerror}{hint}", chain[:-1])
        else:
            self._fault(Place(path), f"cannot read the treefile: {error.strerror}{hint}", ())

    def _fault(self, place: Place, message: str, chain: tuple[Place, ...]) -> None:
        trail = "".join(f" (included from {includer})" for includer in reversed(chain))
        self.faults.append(f"{place}: {message}{trail}")


def _contents(path: str) -> tuple[bytes, tuple[int, int]]:
    """A file's contents, and its device and inode number."""
    with open(path, "rb") as file:
        status = os.fstat(file.fileno())
        return file.read(), (status.st_dev, status.st_ino)


def _mode(file: BinaryIO) -> int:
    """Permission bits without group and other write: these depend on the umask of the checkout, and the tree must not."""
    return os.fstat(file.fileno()).st_mode & 0o7777 & ~0o022


def _is_kickstart(path: str) -> bool:
    return os.path.splitext(path)[1] == ".ks"


def is_json(path: str) -> bool:
    """Whether a file is JSON: its extension is neither that of YAML nor that of kickstart."""
    return os.path.splitext(path)[1] not in (".yaml", ".yml", ".ks")


def parse_source(data: bytes, path: str) -> Located:
    """Parse one file, without interpreting its keys. Raises SourceFault."""
    if _is_kickstart(path):
        return parse_kickstart(data, path)
    from compose.treefile.parse import parse_json, parse_yaml

    if is_json(path):
        return parse_json(data, path, may_repeat=lambda where, key: _is_treefile(where) and _is_comment(key))
    return parse_yaml(
        data, path, may_repeat=lambda where, key: bool(where) and _is_treefile(where) and _is_comment(key)
    )


def _is_treefile(path: tuple[str | int, ...]) -> bool:
    """Whether the mapping at `path` is a treefile: the whole file, or an inline treefile."""
    return not path or (path[0] == "conditional-include" and path[2:3] == ("include",) and _is_treefile(path[3:]))


def _is_comment(key: str) -> bool:
    """Whether a key is unknown, and so ignored in JSON and in inline treefiles."""
    return not (key in KEYS or key in LEGACY or key in CLIENT_ONLY or key.startswith("packages-"))


def _git_symlink(path: str, data: bytes) -> str | None:
    """Target of a symlink that git checked out as a file containing the target's path (core.symlinks=false), else None."""
    if len(data) > 255 or b"\n" in data or not data.endswith((b".yaml", b".yml", b".json")):
        return None
    target = os.path.join(os.path.dirname(path), os.fsdecode(data))
    return target if os.path.isfile(target) and not os.path.samefile(target, path) else None


def _append(config: Config, key: str, value: Located) -> None:
    """Append a list to that of a key."""
    present = config.get(key)
    config[key] = value if present is None else Located([*present.value, *value.value], present.place)


def items_of(config: Config, key: str) -> list[Located]:
    """The items of a key's list; none if it is not given."""
    found: list[Located] = config[key].value if key in config else []
    return found


def _texts(value: Located | None) -> list[Located]:
    if value is None or value.value is None:
        return []
    return list(value.value) if isinstance(value.value, list) else [value]


def _externals_of(config: Config) -> Iterable[tuple[str, Located]]:
    for key in ("postprocess-script", "id-lock"):
        if key in config:
            yield key, config[key]
    for pair in items_of(config, "add-files"):
        yield "add-files", pair.value[0]
    for key in ("check-passwd", "check-groups"):
        check = config.get(key)
        if check is not None and check.value["type"].value == "file" and "filename" in check.value:
            yield key, check.value["filename"]


def merge(config: Config, included: Config) -> None:
    """Merge an included file's keys into its includer's, by the rule of each key."""
    for key, value in included.items():
        if key not in KEYS:
            continue
        present = config.get(key)
        if present is None:
            if KEYS[key].merge is not Merge.TOP:
                config[key] = value
            continue
        match KEYS[key].merge:
            case Merge.PREPEND:
                config[key] = Located([*value.value, *present.value], present.place)
            case Merge.UNION:
                config[key] = Located([*present.value, *value.value], present.place)
            case Merge.UPDATE:
                config[key] = Located({**value.value, **present.value}, present.place)
            case Merge.FIRST | Merge.TOP:
                pass
    if "repo-packages" in config:
        rows = config["repo-packages"]
        config["repo-packages"] = Located(without_overridden(rows.value), rows.place)
