from __future__ import annotations

import os

import pytest

from compose.bindings import install_hint, require_bindings
from compose.errors import UsageError


def test_fedora_and_its_kin_get_the_command():
    for system in ({"ID": "fedora"}, {"ID": "rhel", "ID_LIKE": "fedora"}):
        hint = install_hint(("libdnf5", "selinux"), system)
        assert hint.startswith("dnf install python3-libdnf5 python3-libselinux;")
        # where they are installed, and an environment hides them
        assert "--system-site-packages" in hint


def test_debian_gets_the_command_when_it_has_the_packages():
    hint = install_hint(("libdnf5", "rpm", "selinux"), {"ID": "debian", "VERSION_CODENAME": "forky"})
    assert hint.startswith("apt-get install python3-libdnf5 python3-rpm python3-selinux;")


@pytest.mark.parametrize(
    "system",
    [
        {"ID": "debian", "VERSION_CODENAME": "bookworm", "PRETTY_NAME": "Debian 12"},
        {"ID": "ubuntu", "ID_LIKE": "debian", "PRETTY_NAME": "Ubuntu"},
        {"ID": "arch"},
        {},
    ],
)
def test_others_learn_which_distributions_have_them(system):
    hint = install_hint(("libdnf5",), system)
    assert "Fedora" in hint
    assert "forky" in hint
    assert not hint.startswith(("dnf", "apt-get"))


def test_the_program_is_looked_for(monkeypatch):
    require_bindings()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="lacks rpmdb,"):
        require_bindings()
    assert install_hint(("rpmdb",), {"ID": "debian", "VERSION_CODENAME": "forky"}).startswith("apt-get install rpm;")


def test_missing_modules_are_a_usage_error_that_names_them():
    require_bindings(lambda module: module)
    with pytest.raises(UsageError, match="lacks libdnf5, selinux, rpmdb,") as caught:
        require_bindings(lambda module: module if module == "rpm" else None)
    assert caught.value.hint
