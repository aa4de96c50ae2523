"""The spec and the file list of a package."""

from __future__ import annotations

from pathlib import Path

from tests.universe.model import Entry, Kind, Package

SECTIONS = ("pretrans", "pre", "post", "preun", "postun", "posttrans")


def literal(text: str) -> str:
    """Text that RPM does not expand."""
    return text.replace("%", "%%")


def quoted(path: str) -> str:
    """A path of a file list: within quotes nothing but "%" and a quote is special (rpm 6)."""
    if '"' in path or "\n" in path:
        raise ValueError(f"a file list cannot name {path!r}")
    return f'"{literal(path)}"'


def file_list(package: Package) -> str:
    """One line for each entry, by path; directories are never walked."""
    lines = ["%defattr(-,root,root,-)"]
    lines += [_line(package.files[path]) for path in sorted(package.files)]
    lines += [f"%ghost %attr(0{ghost.mode:o},root,root) {quoted(ghost.path)}" for ghost in package.ghosts]
    return "\n".join(lines) + "\n"


def _line(entry: Entry) -> str:
    words = list(entry.flags)
    if entry.kind is Kind.DIRECTORY:
        words.append("%dir")
    if entry.capabilities:
        words.append(f"%caps({entry.capabilities})")
    if entry.kind is not Kind.LINK:
        words.append(f"%attr(0{entry.mode:o},{entry.user},{entry.group})")
    return " ".join([*words, quoted(entry.path)])


def spec(package: Package, files: Path) -> str:
    """files: where the file list is."""
    lines = [f"Name: {package.name}", f"Version: {package.version}", f"Release: {package.release}"]
    if package.epoch:
        lines.append(f"Epoch: {package.epoch}")
    lines += [
        f"Summary: {literal(package.summary)}",
        f"License: see /usr/share/doc/{package.name}/copyright",
        f"Group: {package.section}",
        "Vendor: universe",
    ]
    if package.homepage:
        lines.append(f"URL: {literal(package.homepage)}")
    if package.arch == "noarch":
        lines.append("BuildArch: noarch")
    lines.append("AutoReqProv: no")
    for tag, values in (
        ("Requires(pre)", package.requires_pre),
        ("Requires", package.requires_pre + package.requires),
        ("Recommends", package.recommends),
        ("Suggests", package.suggests),
        ("Enhances", package.enhances),
        ("Conflicts", package.conflicts),
        ("Provides", package.provides),
        ("Obsoletes", package.obsoletes),
    ):
        lines += [f"{tag}: {value}" for value in dict.fromkeys(values)]
    lines += ["", "%description", literal(package.description), ""]
    for section in SECTIONS:
        if body := package.scripts.get(section):
            lines += _section(f"%{section}", body)
    for trigger in package.triggers:
        head = f"%{trigger.kind} -P {trigger.priority}"
        lines += _section(head, trigger.body, f" -- {' '.join(trigger.prefixes)}")
    lines.append(f"%files -f {files}")
    return "\n".join(lines) + "\n"


def _section(head: str, body: str, tail: str = "") -> list[str]:
    if body.startswith("-p "):
        interpreter, _, body = body.partition("\n")
        head += f" {interpreter}"
    return [head + tail, literal(body).rstrip("\n"), ""]
