"""Dependencies between installed packages, from their rpm database alone; no repository is needed."""

from __future__ import annotations

import os

from compose.errors import SolveError
from compose.events import Reporter
from compose.rpm import child
from compose.rpm.database import DATABASE_PATH, look_in
from compose.rpm.nevra import Nevra
from compose.solve.links import Link, links_of, nevra_of


def installed_links(root: str, reporter: Reporter) -> tuple[tuple[Nevra, ...], tuple[Link, ...]]:
    """The packages and the dependencies between them, both sorted. root: a private directory that contains only a database, at
    DATABASE_PATH. Raises SolveError if libdnf5 crashes."""
    return child.call(_ask, root, reporter, crash=_crashed)


def _crashed(outcome: str, output: tuple[str, ...]) -> SolveError:
    return SolveError(f"libdnf5 crashed on the rpm database: {outcome}", details=output)


def _ask(root: str, reporter: Reporter) -> tuple[tuple[Nevra, ...], tuple[Link, ...]]:
    import libdnf5

    del reporter
    base = libdnf5.base.Base()
    config = base.get_config()
    config.get_config_file_path_option().set("/dev/null")
    config.get_plugins_option().set(False)
    config.get_use_host_config_option().set(False)
    config.get_installroot_option().set(root)
    for option in (config.get_cachedir_option(), config.get_system_cachedir_option(), config.get_logdir_option()):
        option.set(os.path.join(root, "libdnf5"))
    # otherwise it looks for a provider of system-release
    base.get_vars().set("releasever", "0")
    base.setup()
    # setup() reads librpm's configuration again
    look_in(f"/{DATABASE_PATH}")
    base.get_repo_sack().load_repos(libdnf5.repo.Repo.Type_SYSTEM)
    packages = libdnf5.rpm.PackageQuery(base)
    return tuple(sorted(nevra_of(package) for package in packages)), links_of(libdnf5, base, packages)
