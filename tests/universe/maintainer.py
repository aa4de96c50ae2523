"""What maintainer scripts do with debhelper's tools, found in their text and said in RPM's terms."""

from __future__ import annotations

import re
import shlex

from tests.universe.deb import merged
from tests.universe.model import Account, Alternative, Package

ACCOUNT_TOOLS = ("passwd", "base-passwd", "libc-bin")
_UNIT = re.compile(r"deb-systemd-helper\s+(?:unmask|enable)\s+'?([A-Za-z0-9@._\\-]+)'?")
_ADDUSER = re.compile(r"^\s*(?:[^#\n]*\s)?adduser\s+([^\n]*--system[^\n]*)", re.MULTILINE)
_ADDUSER_VALUES = ("--home", "--gecos", "--shell", "--uid", "--gid", "--ingroup", "--comment")
_SETCAP = re.compile(r"setcap\s+(\S+)\s+(\S+)")
_STATOVERRIDE = re.compile(r"dpkg-statoverride\s+(?:--\S+\s+)*--add\s+(\S+)\s+(\S+)\s+(\d+)\s+(\S+)")
_ALTERNATIVE = re.compile(r"update-alternatives\s+(?:--quiet\s+)?--install\s+(\S+)\s+(\S+)\s+(\S+)\s+(\d+)")


def units_of(postinst: str) -> list[str]:
    return sorted(set(_UNIT.findall(postinst)))


def accounts_of(postinst: str) -> list[Account]:
    """System users it makes; a name that is not literal is not found."""
    found: dict[str, Account] = {}
    for match in _ADDUSER.finditer(_joined(postinst)):
        name, home = None, "/nonexistent"
        words = iter(match[1].split())
        for word in words:
            if word in _ADDUSER_VALUES:
                value = next(words, "").strip("\"'")
                if word == "--home" and value.startswith("/"):
                    home = value
            elif re.match(r"[|>&;]|2>", word):
                break
            elif re.fullmatch(r"[_a-z][a-z0-9_-]*", word):
                name = word
        if name:
            found.setdefault(name, Account(name, home))
    return list(found.values())


def alternatives_of(postinst: str) -> list[Alternative]:
    return [
        Alternative(merged(match[1]), merged(match[3]), int(match[4]))
        for match in _ALTERNATIVE.finditer(_joined(postinst))
        if "$" not in match[1] + match[3]
    ]


def _joined(script: str) -> str:
    return script.replace("\\\n", " ")


def apply(package: Package, postinst: str) -> None:
    """Turn a postinst into units to enable, accounts, capabilities, owners and alternatives."""
    package.units = [unit for unit in units_of(postinst) if f"/usr/lib/systemd/system/{unit}" in package.files]
    package.alternatives = [each for each in alternatives_of(postinst) if each.target in package.files]
    for capabilities, path in _SETCAP.findall(postinst):
        if entry := package.files.get(merged(path.strip("\"'"))):
            entry.capabilities = capabilities.strip("\"'").replace("+", "=")
    for user, group, mode, path in _STATOVERRIDE.findall(postinst):
        if entry := package.files.get(merged(path)):
            entry.user, entry.group = user, group
            package.set_mode(entry.path, int(mode, 8))
    _declare_accounts(package, accounts_of(postinst))


def _declare_accounts(package: Package, accounts: list[Account]) -> None:
    """Accounts that its sysusers.d files declare; where it has none, those its postinst adds."""
    declared = [path for path in package.files if path.startswith("/usr/lib/sysusers.d/") and path.endswith(".conf")]
    for path in declared:
        declare_sysusers(package, package.text(path))
    if not declared:
        for account in accounts:
            _make_group(package, account.name)
            _make_user(package, account.name, home=account.home)


def declare_sysusers(package: Package, text: str) -> None:
    """Make the accounts of a sysusers.d file in %pre too, for files of the package may belong to them."""
    rows = [words for line in text.splitlines() if len(words := shlex.split(line, comments=True)) > 1]
    # groups first: a user may name one that comes later
    for words in sorted((words for words in rows if words[0][0] in "ug"), key=lambda words: words[0][0]):
        name = words[1]
        number, _, primary = (words[2] if len(words) > 2 else "-").partition(":")
        option = f"{number} " if number.isdigit() else ""
        # "UID:GROUP" names a group that is there
        if not primary:
            _make_group(package, name, f"-g {option}" if option else "")
        if words[0][0] == "u":
            home = words[4] if len(words) > 4 and words[4] != "-" else "/"
            _make_user(package, name, f"-u {option}" if option else "", group=primary or name, home=home)


def _make_group(package: Package, name: str, number: str = "") -> None:
    package.provides.append(f"group({name})")
    package.script("pre", f"getent group {name} >/dev/null || groupadd -r {number}{name}\n")
    package.requires_pre += [tool for tool in ACCOUNT_TOOLS if tool not in (package.name, *package.requires_pre)]


def _make_user(package: Package, name: str, number: str = "", *, group: str = "", home: str = "/") -> None:
    package.provides.append(f"user({name})")
    options = f"{number}-g {group or name} -d {home} -s /usr/sbin/nologin"
    package.script("pre", f"getent passwd {name} >/dev/null || useradd -r {options} {name}\n")


def systemd_scripts(package: Package) -> None:
    """Apply presets on the first install, disable on removal: as Fedora's systemd macros do."""
    if not package.units:
        return
    units = " ".join(package.units)
    package.script(
        "post",
        "if [ $1 -eq 1 ] && [ -x /usr/bin/systemctl ]; then\n"
        f"  /usr/bin/systemctl --no-reload preset {units} || :\nfi\n",
    )
    package.script(
        "preun",
        "if [ $1 -eq 0 ] && [ -x /usr/bin/systemctl ]; then\n"
        f"  /usr/bin/systemctl --no-reload disable --now {units} || :\nfi\n",
    )
