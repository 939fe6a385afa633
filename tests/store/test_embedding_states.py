"""What a store of features says of itself and its tissues, before a feature is read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zarr
from stored_features import DIGESTS, SPEC, left_beside, made_up, make_store, publish

from tissueseg.errors import SpecMismatchError, StoreNotFoundError, StoreWriteError
from tissueseg.store import embedding_writer
from tissueseg.store.embedding_writer import EmbeddingWriter, create_store
from tissueseg.store.embeddings import ATTRIBUTE, EmbeddingStore, Request, State


@pytest.fixture
def store(tmp_path: Path) -> EmbeddingStore:
    """One tissue, `a`, of two tiles."""
    store = make_store(tmp_path / "s.zarr")
    with EmbeddingWriter(store) as writer:
        publish(writer, "a", made_up(store, 2))
    return store


def change(path: Path, act: Callable[[dict[str, Any]], Any]) -> None:
    """Alter the JSON in a `zarr.json`; what `act` returns takes its place, unless that is nothing."""
    found = json.loads((path / "zarr.json").read_text())
    (path / "zarr.json").write_text(json.dumps(act(found) or found))


def root(act: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """What alters the attributes of a store's root."""

    def act_on(found: dict[str, Any]) -> None:
        act(found["attributes"][ATTRIBUTE])

    return lambda path: change(path, act_on)


def text(content: bytes) -> Callable[[Path], Any]:
    return lambda path: (path / "zarr.json").write_bytes(content)


NO_STORE = "holds no stored features: make some with embed."
DAMAGED = "is damaged: it does not say what its features were made from. Remove it and embed again."
HALF_ROOTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing": (lambda path: shutil.rmtree(path), "the path does not exist."),
    "a file": (lambda path: (shutil.rmtree(path), path.touch()), "no stored features at"),
    "an empty folder": (lambda path: (shutil.rmtree(path), path.mkdir()), "no stored features"),
    "no root": (lambda path: (path / "zarr.json").unlink(), "no stored features"),
    "half a root": (text(b'{"zarr_format": 3, "node_ty'), "no stored features at"),
    "an empty root": (text(b""), "no stored features at"),
    "bytes": (text(b"\xff\xfe\x00"), "no stored features at"),
    "a list": (text(b"[]"), "no stored features at"),
    "an empty mapping": (text(b"{}"), NO_STORE),
    "an array": (
        lambda path: (shutil.rmtree(path), shutil.copytree(path.with_name("array"), path)),
        "no stored features at",
    ),
    "another's group": (lambda path: zarr.open_group(path, mode="w"), NO_STORE),
    "another kind": (
        lambda path: change(path, lambda found: found | {"attributes": {ATTRIBUTE: "yes"}}),
        NO_STORE,
    ),
    "an older schema": (root(lambda about: about.update(schema=0)), "has schema 0, this version"),
    "no schema": (root(lambda about: about.pop("schema")), "has schema None, this version"),
    "no fields": (root(lambda about: about.pop("fields")), DAMAGED),
    "fields of a list": (root(lambda about: about.update(fields=[1])), DAMAGED),
    "other fields": (root(lambda about: about["fields"].update(encoder={"seed": 1})), DAMAGED),
    "another fingerprint": (root(lambda about: about.update(fingerprint="0" * 64)), DAMAGED),
    "another number type": (root(lambda about: about["fields"].update(dtype="int8")), DAMAGED),
    "no spec": (root(lambda about: about.update(spec=None)), DAMAGED),
    "half a spec": (root(lambda about: about["spec"].pop("channels")), DAMAGED),
    "a spec of fewer levels": (root(lambda about: about["spec"].update(channels=[5])), DAMAGED),
    "no grid": (root(lambda about: about.update(grid=None)), DAMAGED),
    "half a grid": (root(lambda about: about.update(grid=[4, 2, 3])), DAMAGED),
}


@pytest.mark.parametrize("name", HALF_ROOTS)
def test_half_a_root_is_no_store_and_says_so_in_one_line(store, tmp_path, name):
    path, (spoil, said) = Path(store.path), HALF_ROOTS[name]
    zarr.create_array(tmp_path / "array", shape=(1,), dtype="int8")
    spoil(path)
    with pytest.raises(StoreNotFoundError) as caught:
        EmbeddingStore(path)
    message = str(caught.value)
    assert said in message
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 500


def test_a_tissue_is_complete_while_its_images_are_the_same(store):
    assert store.state("a", DIGESTS) == State.COMPLETE
    assert store.state("a", dict(reversed(DIGESTS.items()))) == State.COMPLETE
    changed = ({"he": "red"}, DIGESTS | {"sp": "blue"}, DIGESTS | {"ir": "black"}, {})
    assert {store.state("a", digests) for digests in changed} == {State.STALE}
    assert store.state("b", DIGESTS) == State.MISSING


def test_a_tissue_that_another_completes_is_seen_at_once(store):
    assert store.state("b", DIGESTS) == State.MISSING
    other = EmbeddingStore(store.path)
    with EmbeddingWriter(other) as writer:
        publish(writer, "b", made_up(other, 3))
    assert store.state("b", DIGESTS) == State.COMPLETE
    assert store.tiles("b") == 3


def attributes(value: Any) -> Callable[[Path], None]:
    return lambda path: change(path, lambda found: found | {"attributes": value})


def about(**changed: Any) -> Callable[[Path], None]:
    return attributes({ATTRIBUTE: {"digests": DIGESTS, "complete": True} | changed})


INCOMPLETE: dict[str, Callable[[Path], Any]] = {
    "says nothing": attributes({}),
    "is not complete": about(complete=False),
    "says something else": about(complete="yes"),
    "is not known to be complete": attributes({ATTRIBUTE: {"digests": DIGESTS}}),
    "of no known images": attributes({ATTRIBUTE: {"complete": True}}),
    "has no metadata": lambda path: (path / "zarr.json").unlink(),
}


@pytest.mark.parametrize("name", INCOMPLETE)
def test_an_array_that_does_not_say_it_is_complete_is_missing(store, name):
    INCOMPLETE[name](Path(store.path) / "a")
    assert store.state("a", DIGESTS) == State.MISSING
    with pytest.raises(StoreNotFoundError, match="has no features of tissue a: embed it first"):
        store.tiles("a")


def cut_axis(found: dict[str, Any]) -> None:
    """As an encoder of other grids would leave it."""
    found["shape"][-1] = 4
    found["chunk_grid"]["configuration"]["chunk_shape"][-1] = 4
    found["codecs"][0]["configuration"]["chunk_shape"][-1] = 4


UNUSABLE: dict[str, Callable[[Path], Any]] = {
    "a number": attributes({ATTRIBUTE: 3}),
    "a text": attributes({ATTRIBUTE: "complete"}),
    "a list": attributes({ATTRIBUTE: [True]}),
    "nothing at all": attributes({ATTRIBUTE: None}),
    "attributes of a list": attributes([1, 2]),
    "half its metadata": text(b'{"shape": [2'),
    "metadata of a list": text(b"[[]]"),
    "a group": lambda path: (shutil.rmtree(path), zarr.open_group(path, mode="w")),
    "another number type": lambda path: change(path, lambda f: f.update(data_type="float32")),
    "another shape": lambda path: change(path, cut_axis),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_array_of_another_kind_is_damaged_and_says_so_in_one_line(store, name):
    path = Path(store.path) / "a"
    UNUSABLE[name](path)
    for use in (lambda: store.state("a", DIGESTS), lambda: store.tiles("a")):
        with pytest.raises(StoreNotFoundError) as caught:
            use()
        message = str(caught.value)
        assert message.startswith(f"{path} is damaged (")
        assert message.endswith("): remove it and embed the tissue again.")
        assert "\n" not in message


def test_complete_tissues_are_opened_once_to_be_asked_for_and_read(store, monkeypatch):
    opened, open_array = [], zarr.open_array
    monkeypatch.setattr(zarr, "open_array", lambda *a, **k: opened.append(a) or open_array(*a, **k))
    given = {"a": DIGESTS, "z": DIGESTS}
    assert store.states(given) == {"a": State.COMPLETE, "z": State.MISSING}
    assert len(opened) == 2
    assert (store.tiles("a"), store.shard_tiles("a") > 0) == (2, True)
    assert len(opened) == 2


def test_stale_tissues_are_read_once_they_are_made_anew(store):
    assert store.states({"a": DIGESTS | {"he": "other"}}) == {"a": State.STALE}
    shutil.rmtree(Path(store.path) / "a")
    with EmbeddingWriter(store) as writer:
        publish(writer, "a", made_up(store, 3))
    assert store.state("a", DIGESTS) == State.COMPLETE
    assert store.tiles("a") == 3


def test_a_store_is_made_once_and_opened_by_all_who_want_the_same(store):
    before = (Path(store.path) / "zarr.json").read_bytes()
    again = make_store(Path(store.path))
    assert (again.fingerprint, again.state("a", DIGESTS)) == (store.fingerprint, State.COMPLETE)
    assert (Path(store.path) / "zarr.json").read_bytes() == before


def test_features_of_another_origin_are_never_put_beside_those_that_are_there(store):
    with pytest.raises(SpecMismatchError) as caught:
        make_store(Path(store.path), "bfloat16", encoder={"seed": 5})
    assert str(caught.value).startswith(
        f"{store.path} holds features of another origin (stored ≠ wanted): dtype float16 ≠ bfloat16; "
        "encoder.seed 0 ≠ 5. Choose another place with embeddings.path=…"
    )


def test_the_faster_of_two_workers_makes_the_store(tmp_path, monkeypatch):
    path, rename = tmp_path / "s.zarr", Path.rename

    def second(draft: Path, target: Path) -> Path:
        monkeypatch.setattr(Path, "rename", rename)
        made.append(make_store(path).fingerprint)
        return rename(draft, target)

    made: list[str] = []
    monkeypatch.setattr(Path, "rename", second)
    assert make_store(path).fingerprint == made[0]
    assert left_beside(EmbeddingStore(path)) == []


def test_a_disk_that_takes_no_store_leaves_none(tmp_path, monkeypatch):
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(embedding_writer.zarr, "open_group", full)
    path = tmp_path / "s.zarr"
    with pytest.raises(StoreWriteError, match=r"s\.zarr \(No space left on device\): free space"):
        create_store(path, {}, SPEC, embedding_writer.Grid(4, 1, 1, 1), {})
    assert not path.exists()
    assert list((tmp_path / ".s.zarr.work").iterdir()) == []


def test_reading_asks_for_nothing_it_does_not_have(store):
    with pytest.raises(StoreNotFoundError, match="no features of tissue nowhere: embed it first"):
        store.read([Request("nowhere", 0, 0)], made_up(store, 1)[0, :1])
