"""`compose sbom` and `compose provenance`, with the reference libraries of SPDX, CycloneDX and package URLs as judges."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from tests.e2e.tiny import BASE, REF, SPECS, Site, release
from tests.support.rpmrepo import Keys, run

pytestmark = pytest.mark.root


def bill(site: Site, form: str) -> str:
    return site.tool("sbom", REF, f"--repo={site.repo}", f"--format={form}").stdout


def names(site: Site) -> set[str]:
    """Packages of the commit, by the real tools."""
    text = site.ostree("show", "--print-metadata-key=rpmostree.rpmdb.pkglist", REF)
    return {name for name in (*BASE, "hello-lib", "tiny-odd", "tiny-weak") if f"'{name}'" in text}


def test_spdx(site: Site, tmp_path: Path) -> None:
    reader = pytest.importorskip("spdx_tools.spdx.parser.parse_anything", reason="python3-spdx-tools is Debian's")
    validator = pytest.importorskip("spdx_tools.spdx.validation.document_validator")
    converter = pytest.importorskip("spdx_tools.spdx.jsonschema.document_converter")
    site.write_treefile("tiny-odd")
    site.compose()
    path = tmp_path / "tiny.spdx.json"
    site.tool("sbom", REF, f"--repo={site.repo}", f"--output={path}")
    document = reader.parse_file(str(path))
    assert validator.validate_full_spdx_document(document) == []
    # values are spelled as the library spells them
    (system, *_) = json.loads(path.read_text())["packages"]
    assert converter.DocumentConverter().convert(document)["packages"][0] == system
    found = {each.name: each for each in document.packages}
    assert found.keys() == {REF, *names(site)}
    assert found[REF].checksums[0].value == site.head()
    rpm = site.packages / "hello.rpm"
    assert found["hello"].checksums[0].value == hashlib.sha256(rpm.read_bytes()).hexdigest()
    assert (found["hello"].file_name, found["hello"].version) == ("hello.rpm", "1.0-1")
    assert "signed by" in found["hello"].comment


def test_cyclonedx(site: Site) -> None:
    validation = pytest.importorskip("cyclonedx.validation.json", reason="python3-cyclonedx-lib is Debian's")
    schema = pytest.importorskip("cyclonedx.schema")
    urls = pytest.importorskip("packageurl")
    site.write_treefile("tiny-odd")
    site.compose()
    done = site.tool("sbom", REF, f"--repo={site.repo}", "--format=cyclonedx")
    assert validation.JsonStrictValidator(schema.SchemaVersion.V1_6).validate_str(done.stdout) is None
    document = json.loads(done.stdout)
    assert {each["name"] for each in document["components"]} == names(site)
    for each in document["components"]:
        assert urls.PackageURL.from_string(each["purl"]).to_string() == each["purl"]
    (hello,) = (each for each in document["components"] if each["name"] == "hello")
    needs = {row["ref"]: row["dependsOn"] for row in document["dependencies"]}
    assert any(each.startswith("hello-lib-") for each in needs[hello["bom-ref"]])


@pytest.mark.parametrize("form", ["spdx", "cyclonedx"])
def test_the_same_commit_gives_the_same_bytes(site: Site, form: str) -> None:
    site.write_treefile()
    site.compose()
    before = bill(site, form)
    assert bill(site, form) == before
    # a commit of the same packages, another time
    site.compose("--force-nocache", SOURCE_DATE_EPOCH="1750000000")
    assert bill(site, form) != before


def test_a_package_of_an_old_encoding(moving: Site, keys: Keys, tmp_path: Path) -> None:
    spec = (SPECS / "hello-lib.spec").read_bytes().decode()
    spec = re.sub(r"(?m)^Summary: .*$", "%global _invalid_encoding_terminates_build 0\nSummary: Caf\udce9", spec)
    release(moving, keys, tmp_path, "hello-lib", "2.0", spec=spec)
    moving.write_treefile()
    moving.compose()
    for form, field in (("spdx", "packages"), ("cyclonedx", "components")):
        (found,) = (each for each in json.loads(bill(moving, form))[field] if each["name"] == "hello-lib")
        assert "Caf\ufffd" in (found.get("summary"), found.get("description"))


def test_a_commit_that_was_pulled(site: Site, tmp_path: Path) -> None:
    site.write_treefile()
    site.compose()
    repo = f"--repo={tmp_path}/elsewhere"
    run("ostree", repo, "init", "--mode=archive")
    run("ostree", repo, "pull-local", str(site.repo), REF)
    done = site.tool("sbom", REF, repo)
    assert "warning: checksums, repositories and signers of the packages are not known" in done.stderr
    packages = json.loads(done.stdout)["packages"]
    assert {each["name"] for each in packages[1:]} == names(site)
    assert all("checksums" not in each for each in packages[1:])
    refused = site.tool("provenance", REF, repo, "--builder-id=https://ci.example.com", status=1)
    assert "has no records of" in refused.stderr


def test_provenance(site: Site) -> None:
    (site.path / "base.yaml").write_text("add-files: [[motd, /usr/etc/motd]]\n")
    (site.path / "motd").write_text("hello\n")
    site.write_treefile(include="base.yaml")
    site.compose()
    done = site.tool("provenance", REF, f"--repo={site.repo}", "--builder-id=https://ci.example.com/composes")
    statement = json.loads(done.stdout)
    assert statement["subject"] == [{"name": REF, "digest": {"sha256": site.head()}}]
    assert statement["predicate"]["runDetails"]["builder"] == {"id": "https://ci.example.com/composes"}
    definition = statement["predicate"]["buildDefinition"]
    digests = {each["name"]: each["digest"]["sha256"] for each in definition["resolvedDependencies"]}
    for name in ("base.yaml", "motd", "tiny.yaml"):
        assert digests[name] == hashlib.sha256((site.path / name).read_bytes()).hexdigest()
    (hello,) = (name for name in digests if name.startswith("hello-1"))
    assert digests[hello] == hashlib.sha256((site.packages / "hello.rpm").read_bytes()).hexdigest()
    assert definition["externalParameters"]["treefile"] == {
        "path": "tiny.yaml",
        "digest": {"sha256": digests["tiny.yaml"]},
    }


def test_provenance_of_an_image(site: Site, tmp_path: Path) -> None:
    site.write_treefile()
    layout, archive = f"oci:{tmp_path}/layout:latest", f"oci-archive:{tmp_path}/image.ociarchive"
    composed = site.tool(
        "image", site.treefile, f"{tmp_path}/image.ociarchive", "--initialize", f"--cachedir={site.cachedir}"
    )
    (commit,) = re.findall(r"(?m)^commit: (\S+)$", composed.stdout)
    arguments = [commit, f"--repo={site.cachedir}/image-repo"]
    encapsulated = site.tool("container-encapsulate", commit, layout, *arguments[1:])
    (digest,) = re.findall(r"(?m)^digest: sha256:(\S+)$", composed.stdout)
    (other,) = re.findall(r"(?m)^Pushed digest: sha256:(\S+)$", encapsulated.stdout)
    who = ["--builder-id=https://ci.example.com", f"--image={archive}"]
    done = site.tool("provenance", *arguments, *who, f"--image={layout}")
    assert json.loads(done.stdout)["subject"] == [
        {"name": commit, "digest": {"sha256": commit}},
        {"name": f"{tmp_path}/image.ociarchive", "digest": {"sha256": digest}},
        {"name": f"{tmp_path}/layout", "digest": {"sha256": other}},
    ]
    # nobody vouches by mistake for another build
    site.compose("--force-nocache", SOURCE_DATE_EPOCH="1750000000")
    refused = site.tool("provenance", REF, f"--repo={site.repo}", *who, status=1)
    assert f"holds the commit {commit}, not {site.head()}" in refused.stderr
    missing = site.tool("provenance", *arguments, who[0], f"--image=oci:{tmp_path}/layout:absent", status=1)
    assert "there is no such image" in missing.stderr
    assert "not an image reference" in site.tool("provenance", *arguments, who[0], "--image=x", status=2).stderr


def test_wrong_use(site: Site, tmp_path: Path) -> None:
    site.write_treefile()
    site.compose()
    repo = f"--repo={site.repo}"
    assert "is not a URI" in site.tool("provenance", REF, repo, "--builder-id=me", status=2).stderr
    assert "--builder-id" in site.tool("provenance", REF, repo, status=2).stderr
    assert "has no commit" in site.tool("sbom", "nothing/here", repo, status=1).stderr
    assert "is not a URI" in site.tool("provenance", REF, repo, "--builder-id=https://a b", status=2).stderr
    nowhere = tmp_path / "absent" / "file"
    for place in (nowhere, tmp_path):
        for command in (["sbom"], ["provenance", "--builder-id=x:y"]):
            done = site.tool(*command, REF, repo, f"--output={place}", status=1)
            assert done.stderr.startswith("error: ") and f"{place}" in done.stderr


@pytest.mark.parametrize("command", [["sbom"], ["provenance", "--builder-id=x:y"]])
def test_a_damaged_record(site: Site, command: list[str]) -> None:
    site.write_treefile()
    site.compose()
    (record,) = (site.repo / "extensions/compose").glob("*.sources.tar.zst")
    data = bytearray(record.read_bytes())
    data[len(data) // 2] ^= 255
    record.write_bytes(data)
    done = site.tool(*command, REF, f"--repo={site.repo}", status=4)
    assert "the record of " in done.stderr and "damaged" in done.stderr
    assert "hint: compose the commit again" in done.stderr
