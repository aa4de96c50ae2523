"""A coverage-guided fuzzer for everything that reads what others wrote: `make fuzz SECONDS=600`.

Inputs are mutated from seeds; one that runs a line or takes a branch that none did before becomes a seed too. The reader may
refuse an input with its own error; any other exception is a finding, printed with the input, and the run fails. What was
tried is reported per reader.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import sys
import tarfile
import tempfile
import time
import traceback
from pathlib import Path
from types import CodeType

from compose.blobs import BlobStore
from compose.bundle import INDEX, Source, unpack, write
from compose.errors import ComposeError
from compose.lock import own, rpmostree
from compose.oci.overlay import Overlay
from compose.oci.untar import TarReader
from compose.rpm.repofile import read_repo_files, select
from compose.treefile.conditions import ConditionFault, evaluate, substitute
from compose.treefile.kickstart import parse_kickstart
from compose.treefile.lint import lint
from compose.treefile.load import load_treefile
from compose.treefile.origin import origins
from compose.treefile.parse import parse_json, parse_yaml
from compose.treefile.rewrite import OLD_DEFAULTS, format_text, migrate_text
from compose.treefile.source import SourceFault
from tests.fuzz.binary import binary_targets
from tests.fuzz.repositories import repository_targets
from tests.fuzz.target import Target
from tests.fuzz.trees import tree_targets
from tests.support.layers import directory, hard_link, layer, member, symlink

_XATTRS = {"SCHILY.xattr.user.a": "b", "mtime": "1.5"}
PROJECT = Path(__file__).parents[2]
TOOL = sys.monitoring.COVERAGE_ID
WORDS = [
    b"packages", b"include", b"conditional-include", b"if", b"==", b"${", b"}", b"variables", b"true", b"2024", b"edition",
    b"postprocess", b"|", b">", b"- ", b": ", b"\n", b"\n  ", b"'", b'"', b"&a", b"*a", b"!!", b"{", b"[", b"]", b",", b"#",
    b"\t", b"\r", b"\0", b"\xff", b"\xc3\xa4", b"evra", b"sha256:", b"[id]", b"baseurl=", b"gpgcheck=", b"%packages", b"%end",
    b"99999999999999999999", b"-1", b"~", b"null", b"@group", b"<date:%", b"arch-include", b"add-files", b"rpm-files",
]  # fmt: skip


class Unchecked(TarReader):
    """One to which every checksum of a header is right: chance finds none."""

    def _verify_checksum(self, block: bytes) -> None:
        pass


class Coverage:
    """Lines and branches of the package that ran for the first time. Each is watched until then, so it costs little."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int, int]] = set()
        self.fresh = False
        sys.monitoring.use_tool_id(TOOL, "compose-fuzz")
        events = sys.monitoring.events
        sys.monitoring.register_callback(TOOL, events.LINE, self._line)
        wanted = events.LINE
        # branches by direction are watched from Python 3.14 on
        for name in ("BRANCH_LEFT", "BRANCH_RIGHT"):
            if (event := getattr(events, name, None)) is not None:
                sys.monitoring.register_callback(TOOL, event, self._branch)
                wanted |= event
        sys.monitoring.set_events(TOOL, wanted)

    def _note(self, code: CodeType, first: int, second: int) -> object:
        if "/compose/" in code.co_filename:
            self.seen.add((code.co_filename + code.co_qualname, first, second))
            self.fresh = True
        return sys.monitoring.DISABLE

    def _line(self, code: CodeType, line: int) -> object:
        return self._note(code, line, -1)

    def _branch(self, code: CodeType, start: int, end: int) -> object:
        return self._note(code, start, end)


def mutate(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Some of: bytes flipped, cut, doubled, moved; words put in; another seed's piece put in."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(out) + 1)
        end = min(len(out), at + chance.choice((1, 2, 4, 16, 64)))
        match chance.randrange(7):
            case 0 if out:
                out[min(at, len(out) - 1)] = chance.randrange(256)
            case 1:
                del out[at:end]
            case 2:
                out[at:at] = out[at:end] * chance.choice((1, 2, 50))
            case 3:
                out[at:at] = chance.choice(WORDS)
            case 4:
                out[at:end] = chance.choice(WORDS)
            case 5:
                other = chance.choice(others)
                start = chance.randrange(len(other) + 1)
                out[at:at] = other[start : start + chance.choice((4, 16, 64, 256))]
            case _:
                piece = out[at:end]
                del out[at:end]
                to = chance.randrange(len(out) + 1)
                out[to:to] = piece
    return bytes(out[:20_000])


def targets(scratch: Path) -> list[Target]:
    """Every reader of text that people write, of images' layers and of bundles, with seeds of the project itself."""
    treefiles = [path.read_bytes() for path in sorted((PROJECT / "treefiles").rglob("*.yaml"))]
    examples = [path.read_bytes() for path in sorted((PROJECT / "examples").rglob("*.yaml"))]
    repos = [path.read_bytes() for path in sorted((PROJECT / "treefiles").rglob("*.repo"))]
    language = (PROJECT / "tests/e2e/test_min_keys.py").read_text().split('"""')[3].encode()
    (scratch / "common.yaml").write_text("packages: [bash]\nvariables: {a: 1}\n")
    (scratch / "x.repo").write_bytes(repos[0])

    def treefile(data: bytes) -> None:
        path = scratch / "top.yaml"
        path.write_bytes(data)
        load_treefile(str(path), basearch="x86_64")
        origins(str(path), basearch="x86_64")
        lint(str(path), basearch="x86_64")

    def json_treefile(data: bytes) -> None:
        (scratch / "top.json").write_bytes(data)
        load_treefile(str(scratch / "top.json"), basearch="x86_64")

    def rewrite(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        format_text(text, "x.yaml")
        migrate_text(text, "x.yaml", effective=OLD_DEFAULTS)

    def repofile(data: bytes) -> None:
        directory = scratch / "repos"
        directory.mkdir(exist_ok=True)
        (directory / "x.repo").write_bytes(data)
        for section in select(read_repo_files((str(directory),)), None):
            assert section.gpgcheck in (True, False)

    def condition(data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        substitute(text, {"a": 1, "b": "x", "c": True})
        evaluate(text, {"a": 1, "b": "x", "c": True})

    good = io.BytesIO()
    write(good, {"a/x": Source(data=b"1"), "b": Source(data=b"2" * 600, mode=0o755)}, {"facts": [1]})
    length = int(good.getvalue()[124:135], 8)
    rest = good.getvalue()[512 + length + -length % 512 :]

    def bundle(data: bytes) -> None:
        """The index with its header right, the files as they are."""
        header = tarfile.TarInfo(INDEX)
        header.size = len(data)
        stream = header.tobuf(tarfile.PAX_FORMAT) + data + bytes(-len(data) % 512) + rest
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            unpack(io.BytesIO(stream), "x.tar", directory)

    def whole_bundle(data: bytes) -> None:
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            unpack(io.BytesIO(data), "x.tar", directory)

    lower = layer(
        directory("usr"), symlink("lib", "usr/lib"), member("usr/f", data=b"1" * 600), hard_link("usr/h", "usr/f")
    )
    upper = layer(member("usr/.wh.f"), member(".wh..wh..opq"), member("usr/" + "n" * 120, pax_headers=_XATTRS))
    long = layer(member("d/" * 60 + "n" * 120), symlink("s", "t" * 200), kind=tarfile.GNU_FORMAT)

    def layers(data: bytes) -> None:
        """Upon another one."""
        with tempfile.TemporaryDirectory(dir=scratch) as directory:
            overlay = Overlay(BlobStore(f"{directory}/store"), "image")
            for stream in (lower, data):
                overlay.apply(Unchecked(io.BytesIO(stream), "x"), "x")
            overlay.finish(without=("sysroot",))

    lock = (
        b'compose-lock: 2\narches:\n  x86_64:\n    request: ' + b"ab" * 32 + b'\n    specs: ["a"]\n    repos:\n      "r": 1\n'
        b'    packages:\n      - {"nevra": "a-0:1-1.x86_64", "repo": "r", "location": "a.rpm", "checksum": "sha256:'
        + b"cd" * 32 + b'", "size": 1, "installed": 2, "source": "a.src.rpm", "reason": "requested"}\n'
        b'    advisories:\n      - {"id": "A-1", "severity": "low", "packages": ["a-1-1.x86_64"], "references": '
        b'[{"url": "https://a", "title": "CVE-1"}]}\n'
    )  # fmt: skip
    foreign = b'{"packages": {"a": {"evra": "1:2-3.x86_64", "digest": "sha256:00"}}, "metadata": {"generated": "x"}}'
    plain = json.dumps(
        {"packages": ["a"], "ref": "x", "comment": "c", "repo-packages": [{"repo": "r", "packages": ["b"]}]}
    )
    return [
        Target("treefile", treefile, [*treefiles, *examples, language]),
        Target("JSON treefile", json_treefile, [plain.encode()]),
        Target("fmt and migrate", rewrite, [*treefiles, *examples, language]),
        Target(
            "kickstart",
            lambda data: parse_kickstart(data, "x.ks"),
            [b"%packages\n-a\nb\n%end\n%include x"],
            (SourceFault,),
        ),
        Target("condition", condition, [b"a == 1", b'b != "x"', b"c == true", b"${a} $${b}"], (ConditionFault,)),
        Target(".repo file", repofile, repos),
        Target("lockfile", lambda data: own.parse_lock(data, "x"), [lock]),
        Target("index of a bundle", bundle, [good.getvalue()[512 : 512 + length]]),
        Target("layer of an image", layers, [lower, upper, long]),
        Target("bundle", whole_bundle, [good.getvalue()]),
        Target(
            "rpm-ostree lockfile",
            lambda data: rpmostree.read_locked((parse_json if data[:1] == b"{" else parse_yaml)(data, "x")),
            [foreign, b"packages:\n  a:\n    evr: 1-1\n"],
            (SourceFault,),
        ),
    ]


def fuzz(target: Target, coverage: Coverage, seconds: float, chance: random.Random) -> None:
    """One reader for a while; findings are printed as they come, the same traceback once."""
    told: set[str] = set()
    end = time.monotonic() + seconds
    queue = list(target.seeds)
    while time.monotonic() < end:
        # every seed as it is first
        data = queue[target.tried] if target.tried < len(target.seeds) else mutate(chance.choice(queue), queue, chance)
        coverage.fresh = False
        target.tried += 1
        try:
            target.read(data)
        except (ComposeError, *target.allowed):
            target.refused += 1
        except Exception as error:
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            if where not in told:
                told.add(where)
                target.findings.append(data)
                print(f"\n{target.name}: {error!r}\n{where}input: {data!r}\n", flush=True)
        if coverage.fresh:
            queue.append(data)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python3 -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60, help="for all readers together")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("names", nargs="*", help="only these readers")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    coverage = Coverage()
    with tempfile.TemporaryDirectory() as scratch:
        found = [
            *targets(Path(scratch)),
            *binary_targets(Path(scratch)),
            *tree_targets(),
            *repository_targets(Path(scratch)),
        ]
        found = [each for each in found if not options.names or each.name in options.names]
        for number, target in enumerate(found):
            before = len(coverage.seen)
            fuzz(target, coverage, options.seconds / len(found), random.Random(seed + number))
            print(
                f"{target.name}: {target.tried} inputs, {target.refused} refused, {len(coverage.seen) - before} new lines and "
                f"branches, {len(target.findings)} findings",
                flush=True,
            )
    print(f"{sum(each.tried for each in found)} inputs in all, {sum(len(each.findings) for each in found)} findings")
    return 1 if any(each.findings for each in found) else 0


if __name__ == "__main__":
    sys.exit(main())
