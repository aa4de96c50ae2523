"""Scriptlets and triggers beside rpm itself: the same packages installed by `rpm --root`, and what each run left in a log.

Here all that runs before files are there (%triggerprein, %pre) runs first, for all packages; else the order, the arguments
and the input must be rpm's.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from compose.assemble.options import AssembleOptions
from compose.assemble.stage import assemble
from compose.blobs import BlobStore
from compose.events import Reporter
from tests.e2e import tiny
from tests.support.differential import imported
from tests.support.rpmrepo import run

pytestmark = pytest.mark.root

EARLY = ("triggerprein", "pre")
LOG = "etc/trace"


@dataclass(frozen=True)
class Lab:
    """A package. triggers: (kind, options, what it watches). shared: directories, of other packages too."""

    name: str
    triggers: tuple[tuple[str, str, str], ...] = ()
    requires: str = "tiny-shell"
    files: tuple[str, ...] = ()
    shared: tuple[str, ...] = ()

    def spec(self) -> str:
        def script(section: str, tag: str, *, reads: bool = False) -> str:
            body = f'echo "= {tag} $*" >>/{LOG}\n' + (f"cat >>/{LOG}\n" if reads else "")
            return f"%{section}\n{body}"

        made = "\n".join(
            f"mkdir -p %{{buildroot}}{Path(path).parent}\necho {self.name} >%{{buildroot}}{path}" for path in self.files
        )
        sections = [script(kind, f"{self.name} {kind}") for kind in ("pretrans", "pre", "post", "posttrans")]
        for number, (kind, options, watched) in enumerate(self.triggers):
            section = f"{kind} {options} -- {watched}"
            sections.append(script(section, f"{self.name} {kind} {number}", reads="file" in kind))
        # %pretrans runs before there is a shell
        return (
            f"Name: {self.name}\nVersion: 1\nRelease: 1\nSummary: x\nLicense: MIT\nBuildArch: noarch\nAutoReqProv: no\n"
            f"Requires: {self.requires}\n%description\nx\n%install\n{made}\n"
            + "\n".join(sections[1:])
            + "\n%files\n"
            + "\n".join((*self.files, *(f"%dir {path}" for path in self.shared)))
            + "\n"
        )


def chain(*labs: Lab) -> list[Lab]:
    """Each requires the one before, so that rpm installs them in this order."""
    found: list[Lab] = []
    for lab in labs:
        requires = found[-1].name if found else "tiny-shell"
        files = lab.files or (f"/usr/share/lab/{lab.name}", f"/usr/share/lab-{lab.name}/file", f"/etc/{lab.name}.conf")
        found.append(Lab(lab.name, lab.triggers, requires, files, lab.shared))
    return found


SHARED_DIRECTORIES = chain(
    Lab(
        "a",
        (("filetriggerin", "", "/usr/share/lab"), ("transfiletriggerin", "", "/usr/share/lab")),
        shared=("/usr/share/lab",),
    ),
    Lab("b", (("filetriggerin", "-P 20000", "/usr/share"),), shared=("/usr/share/lab",)),
    Lab("c", (("transfiletriggerin", "", "/usr/share/lab"),), shared=("/usr/share/lab",)),
    Lab("d", (("filetriggerin", "", "/usr/share/lab"),), shared=("/usr/share/lab",)),
)


DOCUMENTED = chain(
    Lab("a", files=("/usr/share/doc/a/x", "/usr/share/lab/a")),
    Lab(
        "b",
        (
            ("filetriggerin", "", "/usr/share/doc"),
            ("filetriggerin", "-P 20000", "/usr/share"),
            ("transfiletriggerin", "", "/usr/share/doc"),
        ),
        files=("/usr/share/doc/b/x", "/usr/share/lab/b"),
    ),
    Lab(
        "c", (("transfiletriggerin", "", "/usr/share/doc /usr/share/lab"),), files=("/usr/share/doc/c/x", "/usr/bin/c")
    ),
)


EVERY_KIND = chain(
    Lab(
        "a",
        (
            ("triggerprein", "", "b, a, c < 2"),
            ("triggerin", "", "b, a"),
            ("triggerin", "", "c > 1"),
            ("filetriggerin", "-P 20000", "/usr/share/lab"),
            ("filetriggerin", "-P 9999", "/usr/share/lab/b /usr/share/lab/c"),
            ("filetriggerin", "-P 10000", "/etc/c /etc"),
            ("transfiletriggerin", "", "/usr/share"),
        ),
    ),
    Lab(
        "b",
        (
            ("triggerprein", "", "a"),
            ("triggerin", "", "a = 1-1, c"),
            ("filetriggerin", "", "/usr/share/lab"),
            ("filetriggerin", "-P 30000", "/usr/share/lab"),
            ("transfiletriggerin", "-P 5", "/usr/share/lab"),
            ("transfiletriggerin", "-P 2000000", "/nowhere /etc"),
        ),
    ),
    Lab("c", (("triggerin", "", "b >= 1"), ("triggerin", "", "a < 2:0"), ("triggerin", "", "tiny-shell > 0:0.5-0"))),
    Lab(
        "d",
        (
            ("filetriggerin", "", "/usr/share"),
            ("filetriggerin", "-P 50", "/usr/share/lab/a /usr/share/lab"),
            ("triggerin", "", "c, b, a, absent"),
            ("triggerprein", "", "c, a >= 1"),
            ("triggerin", "", "d"),
        ),
    ),
)


def any_labs(seed: int) -> list[Lab]:
    """Six packages with a dozen triggers of any kind."""
    chance = random.Random(seed)
    names = ["p", "q", "r", "s", "t", "u"]
    labs = []
    for name in names:
        triggers: list[tuple[str, str, str]] = []
        taken: set[tuple[str, str]] = set()
        for _ in range(chance.randrange(5)):
            kind = chance.choice(["triggerin", "triggerprein", "filetriggerin", "transfiletriggerin"])
            if "file" in kind:
                priority = chance.choice(["", "-P 1", "-P 9999", "-P 10000", "-P 500000"])
                paths = ["/usr", "/usr/share/lab", "/usr/share/lab/q", "/etc", "/etc/s", "/opt"]
                triggers.append((kind, priority, " ".join(chance.sample(paths, chance.choice((1, 1, 2))))))
                continue
            # rpmbuild refuses two triggers of one kind at one name
            free = [other for other in names if (kind, other) not in taken]
            watched = chance.sample(free, min(len(free), chance.choice((1, 2, 3))))
            taken.update((kind, other) for other in watched)
            version = chance.choice(["", "", " = 1", " >= 1-1", " < 1", " > 0:1"])
            if watched:
                triggers.append((kind, "", ", ".join(f"{other}{version}" for other in watched)))
        labs.append(Lab(name, tuple(triggers)))
    return chain(*labs)


@pytest.fixture(scope="module")
def shell(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shell") / "rpms"
    tiny.build_packages(directory, "tiny-filesystem", "tiny-shell")
    return directory


def runs(log: str) -> list[str]:
    return [each for each in log.split("= ") if each]


def phase(entry: str) -> str:
    return entry.split()[1]


@pytest.mark.parametrize(
    "labs",
    [EVERY_KIND, SHARED_DIRECTORIES, DOCUMENTED, *map(any_labs, range(6))],
    ids=["every kind", "shared directories", "documented", *map(str, range(6))],
)
def test_as_rpm_runs_them(labs: list[Lab], shell: Path, tmp_path: Path) -> None:
    rpms = tmp_path / "rpms"
    for lab in labs:
        (tmp_path / f"{lab.name}.spec").write_text(lab.spec())
        run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {tmp_path}/top", "--define", f"_rpmdir {rpms}",
            "--define", "_build_name_fmt %{NAME}.rpm", str(tmp_path / f"{lab.name}.spec"), SOURCE_DATE_EPOCH="1")  # fmt: skip
    paths = sorted([*rpms.glob("*.rpm"), *shell.glob("*.rpm")])
    root = tmp_path / "root"
    root.mkdir()
    bare = ["--nodocs"] if labs is DOCUMENTED else []
    run("rpm", "--root", str(root), "--define", "_pkgverify_level none", "--nosignature", *bare, "-i", *map(str, paths))
    theirs = runs((root / LOG).read_text())

    store = BlobStore(str(tmp_path / "blobs"))
    work = tmp_path / "work"
    work.mkdir()
    options = AssembleOptions(epoch=1, documentation=not bare)
    tree = assemble(imported(paths, store), options, store, str(work), Reporter()).tree
    blob = tree[LOG].blob
    assert blob is not None
    ours = runs(store.read(blob).decode())

    first = [each for each in theirs if phase(each) in EARLY]
    rest = [each for each in theirs if phase(each) not in EARLY]
    assert ours == [*first, *rest]
    assert len(theirs) >= 3 * len(labs)
