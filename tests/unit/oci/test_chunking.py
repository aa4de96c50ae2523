"""Components packed into layers: nothing lost, nothing twice, and what did not change where it was."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compose.errors import UsageError
from compose.oci.chunking import ANNOTATION, Chunk, PreviousLayers, plan_layers, previous_layers, read_previous_layers
from compose.oci.contentmeta import ALWAYS, INITRAMFS, UNPACKAGED, Component, ContentMeta


def component(
    name: str, size: int, frequency: int = 0, *, build: str = "1", exclusive: bool = False, objects: int = 2
) -> Component:
    return Component(
        identifier=f"{name}-{build}",
        name=name,
        source=name,
        change_time_offset=0,
        change_frequency=frequency,
        objects=tuple(f"{name}-{build}-{exclusive}-{number}" for number in range(objects)),
        size=size,
        exclusive=exclusive,
    )


def content(components: Sequence[Component]) -> ContentMeta:
    return ContentMeta(components=tuple(components), sizes={})


def names(chunks: Sequence[Chunk]) -> list[list[str]]:
    return [list(each.components) for each in chunks]


def structure(chunks: Sequence[Chunk]) -> PreviousLayers:
    """As the next build finds it in the manifest."""
    layers = [{}, *({"annotations": {ANNOTATION: ",".join(each.components)}} for each in chunks)]
    return previous_layers({"layers": layers}, "x")


NAMES = [f"p{number}" for number in range(40)]
FREQUENCIES = st.one_of(st.integers(0, 60), st.just(ALWAYS))
SIZES = st.one_of(st.integers(0, 10), st.integers(0, 10_000), st.integers(0, 10**9))


@st.composite
def contents(draw: st.DrawFn) -> ContentMeta:
    """Some names have two builds at once, as kernels do and packages for two word sizes."""
    found = [component(name, draw(SIZES), draw(FREQUENCIES)) for name in draw(st.sets(st.sampled_from(NAMES)))]
    found += [component(each.name, draw(SIZES), build="2") for each in found if draw(st.integers(0, 9)) == 0]
    found += [
        component(name, draw(SIZES), ALWAYS, exclusive=True)
        for name in draw(st.sets(st.sampled_from([*NAMES[:3], "own"]), max_size=3))
    ]
    return content(draw(st.permutations(found)))


@given(contents(), st.integers(4, 70), st.one_of(st.none(), contents()), st.randoms())
def test_each_object_is_in_one_layer_whatever_the_order(content, most, before, random):
    previous = None if before is None else structure(plan_layers(before, max_layers=70))
    chunks = plan_layers(content, max_layers=most, previous=previous)
    assert len(chunks) <= most
    objects = [checksum for chunk in chunks for checksum in chunk.objects]
    assert sorted(objects) == sorted(checksum for each in content.components for checksum in each.objects)
    assert sum(chunk.size for chunk in chunks) == sum(each.size for each in content.components)
    owner = {checksum: each.name for each in content.components for checksum in each.objects}
    for chunk in chunks:
        assert {owner[checksum] for checksum in chunk.objects} == set(chunk.components)
        assert list(chunk.components) == sorted(chunk.components)
    exclusive = [(each.name, each.objects) for each in content.components if each.exclusive]
    assert {(chunk.components[0], chunk.objects) for chunk in chunks[: len(exclusive)]} == set(exclusive)
    shuffled = list(content.components)
    random.shuffle(shuffled)
    other = dataclasses.replace(content, components=tuple(shuffled))
    assert plan_layers(other, max_layers=most, previous=previous) == chunks


@given(contents(), st.integers(4, 70), st.data())
def test_what_did_not_change_keeps_its_layer(content, most, data):
    chunks = plan_layers(content, max_layers=most)
    changed = data.draw(st.sets(st.sampled_from(NAMES)))
    gone = data.draw(st.sets(st.sampled_from(NAMES)))
    components = [
        component(each.name, each.size + 1, build="3", exclusive=each.exclusive) if each.name in changed else each
        for each in content.components
        if each.name not in gone or each.exclusive
    ]
    new = component("new", 5)
    again = plan_layers(
        dataclasses.replace(content, components=(*components, new)), max_layers=most, previous=structure(chunks)
    )
    expected = {chunk.objects for chunk in chunks[:-1] if not {*chunk.components} & (changed | gone) and chunk.objects}
    if {each.name for each in components if not each.exclusive}:
        assert expected <= {chunk.objects for chunk in again}
        assert "new" in again[-1].components


@given(contents(), st.integers(4, 70))
def test_the_same_again_is_the_same(content, most):
    chunks = plan_layers(content, max_layers=most)
    again = plan_layers(content, max_layers=most, previous=structure(chunks))
    assert {chunk.objects for chunk in again} == {chunk.objects for chunk in chunks}


def test_few_components_have_a_layer_each_and_one_is_reserved():
    few = content([component("b", 2), component("a", 1), component("c", 1)])
    assert names(plan_layers(few)) == [["b"], ["a"], ["c"], []]
    assert [each.name for each in plan_layers(few)][::3] == ["b-1", "Reserved for new packages"]
    assert plan_layers(content([])) == ()


@pytest.mark.parametrize("most", [1, 2, 3])
def test_with_fewer_than_four_layers_all_are_in_one(most):
    some = content([component(name, 1) for name in "abcdef"])
    (only,) = plan_layers(some, max_layers=most)
    assert (only.components, only.size, only.name) == (tuple("abcdef"), 6, "6 components")


MANY = [
    component("huge", 100_000, 30),
    component("large", 99_000, 100),
    component("often", 900, 90),
    component("seldom", 800, 1),
    component("sometimes", 700, 10),
    component("tiny", 2, 30),
    component("tinier", 1, 30),
    component(INITRAMFS, 50_000, ALWAYS),
    component(UNPACKAGED, 40_000, ALWAYS),
]


def test_large_often_and_small_apart():
    layers = names(plan_layers(content(MANY), max_layers=9))
    assert layers == [
        ["huge"], ["large"], ["tinier", "tiny"], ["often"], ["seldom"], ["sometimes"], [INITRAMFS], [UNPACKAGED], [],
    ]  # fmt: skip


def test_what_always_changes_is_together_where_layers_are_few():
    assert names(plan_layers(content(MANY), max_layers=6))[-2:] == [[INITRAMFS, UNPACKAGED], []]


def test_a_package_more_moves_no_other():
    chunks = plan_layers(content(MANY), max_layers=9)
    more = content([*MANY, component("vast", 10**9), component("small", 1)])
    again = plan_layers(more, max_layers=9, previous=structure(chunks))
    assert names(again) == [*names(chunks)[:-1], ["small", "vast"]]
    # and stays there
    third = plan_layers(more, max_layers=9, previous=structure(again))
    assert third == again


def test_builds_of_one_name_are_together():
    kernels = [component("kernel", 10, build="1"), component("kernel", 10, build="2"), component("x", 1)]
    chunks = plan_layers(content(kernels))
    assert [(each.name, each.components) for each in chunks[:2]] == [
        ("kernel-1 and kernel-2", ("kernel",)),
        ("x-1", ("x",)),
    ]


def test_a_layer_whose_packages_are_gone_is_too():
    previous = PreviousLayers(layers=(("a",), ("gone",), ("b", "gone-too"), ()))
    assert names(plan_layers(content([component("a", 1), component("b", 1)]), previous=previous)) == [["a"], ["b"], []]


def test_a_structure_of_other_packages_is_not_kept():
    some = content([component("a", 1), component("b", 1)])
    for layers in ((), (("x",), ("y",), ())):
        assert plan_layers(some, previous=PreviousLayers(layers=layers)) == plan_layers(some)


def test_a_structure_of_too_many_layers_is_kept_as_far_as_it_fits():
    previous = PreviousLayers(layers=(("a",), ("b",), ("c",), ("d",), ()))
    some = content([component("a", 100), component("b", 1), component("c", 50), component("d", 2), component("e", 3)])
    assert names(plan_layers(some, max_layers=4, previous=previous)) == [["a"], ["b", "d"], ["c"], ["e"]]
    assert names(plan_layers(some, max_layers=1, previous=previous)) == [["a", "b", "c", "d", "e"]]


def test_a_package_that_gets_a_layer_of_its_own():
    chunks = plan_layers(content([component("a", 3), component("b", 2), component("b", 2, exclusive=True)]))
    assert names(chunks) == [["b"], ["a"], ["b"], []]
    both = content([component("a", 3), component("b", 2, build="2"), component("b", 2, exclusive=True)])
    again = plan_layers(both, previous=structure(chunks))
    assert names(again) == names(chunks)
    assert (again[0].objects, again[1].objects) == (chunks[0].objects, chunks[1].objects)


def test_too_few_layers_for_those_that_want_their_own():
    some = content([component("a", 1), *(component(name, 1, exclusive=True) for name in "xyz")])
    with pytest.raises(UsageError) as caught:
        plan_layers(some, max_layers=3)
    assert "3 components" in caught.value.message
    assert "--max-layers" in (caught.value.hint or "")
    assert names(plan_layers(some, max_layers=4)) == [["x"], ["y"], ["z"], ["a"]]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{", "not JSON"),
        ("[]", "an image manifest must be a JSON object"),
        ("{}", "no layers"),
        ('{"manifests": []}', "it lists several images"),
        ('{"layers": [1]}', "no layers"),
        ('{"layers": [{}, {}]}', "layer 2 of 2 has no ostree.components"),
        ('{"layers": [{}, {"annotations": {"ostree.components": 1}}]}', "layer 2 of 2 has no ostree.components"),
    ],
)
def test_what_is_no_manifest_of_layers(tmp_path: Path, text: str, complaint: str):
    path = tmp_path / "manifest.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=complaint) as caught:
        read_previous_layers(str(path))
    assert caught.value.message.startswith(str(path))


def test_a_manifest_that_is_not_there(tmp_path: Path):
    with pytest.raises(UsageError, match="No such file"):
        read_previous_layers(f"{tmp_path}/x")


def test_a_manifest(tmp_path: Path):
    path = tmp_path / "manifest.json"
    layers = [{"digest": "x"}, {"annotations": {ANNOTATION: "bash,dash"}}, {"annotations": {ANNOTATION: ""}}]
    path.write_text(json.dumps({"layers": layers}))
    assert read_previous_layers(str(path)) == PreviousLayers(layers=(("bash", "dash"), ()))


def test_a_manifest_that_lost_its_annotations():
    """As when podman pushes from its storage, or skopeo compresses with zstd:chunked; the configuration stays as it was."""
    layers = [{"annotations": {"of": "others"}}, {}, {"annotations": {ANNOTATION: "dash"}}, {}]
    comments = ("", "ostree.components=bash,zsh", "ostree.components=other", "ostree.components=")
    found = previous_layers({"layers": layers}, "x", comments)
    assert found == PreviousLayers(layers=(("bash", "zsh"), ("dash",), ()))
    for none in ((), ("", "bash,zsh", "", ""), comments[:2]):
        with pytest.raises(UsageError, match=r"has no ostree\.components"):
            previous_layers({"layers": layers}, "x", none)
