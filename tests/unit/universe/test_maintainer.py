"""What a postinst says, found in its text."""

from __future__ import annotations

from pathlib import Path

from tests.universe import maintainer
from tests.universe.model import Account, Alternative, Entry, Kind, Package

POSTINST = r"""
adduser --system --home /var/lib/thing --no-create-home \
    --ingroup daemon --gecos "a thing" _thing >/dev/null
# adduser --system commented
deb-systemd-helper unmask 'thing.service' >/dev/null || true
if deb-systemd-helper enable 'absent.service'; then :; fi
setcap cap_net_raw+ep /bin/thing
dpkg-statoverride --update --add root daemon 2755 /usr/lib/helper
update-alternatives --install /usr/bin/vi vi \
    /usr/bin/thing 15 --slave /usr/share/man/x x y
update-alternatives --install /usr/bin/$name vi /usr/bin/thing 15
"""


def package(root: Path, **files: int) -> Package:
    made = Package(
        name="thing", root=root, version="1", release="1", arch="x86_64", summary="A thing", description="", mtime=1000
    )
    for path, mode in files.items():
        made.add_file(path, "x", mode=mode)
    return made


def test_calls_are_found() -> None:
    assert maintainer.accounts_of(POSTINST) == [Account("_thing", "/var/lib/thing")]
    assert maintainer.units_of(POSTINST) == ["absent.service", "thing.service"]
    assert maintainer.alternatives_of(POSTINST) == [Alternative("/usr/bin/vi", "/usr/bin/thing", 15)]


def test_a_package_gets_what_its_postinst_does(tmp_path: Path) -> None:
    thing = package(
        tmp_path, **{"/usr/bin/thing": 0o755, "/usr/lib/helper": 0o755, "/usr/lib/systemd/system/thing.service": 0o644}
    )
    maintainer.apply(thing, POSTINST)
    assert thing.units == ["thing.service"]
    assert thing.files["/usr/bin/thing"].capabilities == "cap_net_raw=ep"
    helper = thing.files["/usr/lib/helper"]
    assert (helper.group, helper.mode) == ("daemon", 0o2755)
    assert {"user(_thing)", "group(_thing)"} <= set(thing.provides)
    assert "useradd -r -g _thing -d /var/lib/thing -s /usr/sbin/nologin _thing" in thing.scripts["pre"]
    assert set(maintainer.ACCOUNT_TOOLS) <= set(thing.requires_pre)


def test_accounts_of_sysusers_come_first(tmp_path: Path) -> None:
    thing = package(tmp_path)
    thing.add_file(
        "/usr/lib/sysusers.d/thing.conf", 'u! web 33:www-data "A server" /srv/web\ng www-data 33\n# g no\nm a b\n'
    )
    maintainer.apply(thing, POSTINST)
    assert thing.provides == ["group(www-data)", "user(web)"]
    group, user = thing.scripts["pre"].splitlines()
    assert group.endswith("groupadd -r -g 33 www-data")
    assert user.endswith("useradd -r -u 33 -g www-data -d /srv/web -s /usr/sbin/nologin web")


def test_presets_are_applied_on_the_first_install_only(tmp_path: Path) -> None:
    thing = package(tmp_path)
    maintainer.systemd_scripts(thing)
    assert not thing.scripts
    thing.units = ["a.service", "b.socket"]
    maintainer.systemd_scripts(thing)
    assert "[ $1 -eq 1 ]" in thing.scripts["post"]
    assert "preset a.service b.socket" in thing.scripts["post"]
    assert "disable --now a.service b.socket" in thing.scripts["preun"]


def test_entries_move_and_go(tmp_path: Path) -> None:
    thing = package(tmp_path, **{"/boot/vmlinuz-1": 0o600, "/boot/map": 0o600})
    thing.move("/boot/vmlinuz-1", "/usr/lib/modules/1/vmlinuz")
    thing.add_link("/usr/bin/a", "b")
    thing.drop("/boot")
    assert sorted(thing.files) == ["/usr/bin/a", "/usr/lib/modules/1/vmlinuz"]
    assert thing.files["/usr/bin/a"] == Entry(path="/usr/bin/a", kind=Kind.LINK, mode=0o777)
    assert not (tmp_path / "boot").exists()
    assert (tmp_path / "usr/bin/a").lstat().st_mtime == 1000
