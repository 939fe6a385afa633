"""Files of tensors from anywhere: what is damaged or wants to run code is refused, by name."""

import os
import pickle
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import save, save_file

from tissueseg.errors import WeightsError, WeightsNotFoundError
from tissueseg.tensorfile import CONVERT, fetch, read_tensors

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(2)}


class Runs:
    """What a pickle calls when it is built; a file of weights has no business doing so."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def refusal(source, kind=WeightsError):
    with pytest.raises(kind) as error:
        read_tensors(str(source))
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def weights(tmp_path):
    """A function that writes content with torch.save and says where it lies."""

    def write(content, name="w.pth", **options):
        torch.save(content, tmp_path / name, **options)
        return tmp_path / name

    return write


def same(tensors, wanted):
    assert list(tensors) == list(wanted)
    for name, tensor in tensors.items():
        assert torch.equal(tensor, wanted[name])
    return True


def test_safetensors_are_read_with_what_is_said_of_them(tmp_path):
    save_file(STATE, tmp_path / "w.safetensors", metadata={"arch": "tiny"})
    read = read_tensors(str(tmp_path / "w.safetensors"))
    assert same(dict(sorted(read.tensors.items())), dict(sorted(STATE.items())))
    assert read.about == {"arch": "tiny"}


def test_safetensors_are_known_under_another_name(tmp_path):
    save_file(STATE, tmp_path / "w.bin")
    assert set(read_tensors(str(tmp_path / "w.bin")).tensors) == set(STATE)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_bare_state_is_read_from_both_formats_of_torch(weights, zipped):
    path = weights(STATE, _use_new_zipfile_serialization=zipped)
    read = read_tensors(str(path))
    assert same(read.tensors, STATE)
    assert read.about == {}


def test_one_bare_tensor_has_no_name(weights):
    assert same(read_tensors(str(weights(STATE["a.bias"]))).tensors, {"": STATE["a.bias"]})


@pytest.mark.parametrize("key", ["model_state_dict", "state_dict", "model", "teacher"])
def test_a_nested_state_is_found_and_what_lies_beside_it_kept(weights, key):
    beside = {"arch": "CellViT256", "config": {"data.num_nuclei_classes": 6}}
    read = read_tensors(str(weights({**beside, key: STATE, "optimizer": {"lr": 0.1}})))
    assert same(read.tensors, STATE)
    assert read.about == {**beside, "optimizer": {"lr": 0.1}}


def test_numbers_of_numpy_beside_the_tensors_are_taken(weights):
    numbers = {"loss": np.float64(0.5), "lr": np.float32(0.1), "epoch": np.int64(3)}
    read = read_tensors(str(weights({**numbers, "model_state_dict": STATE})))
    assert read.about == numbers


def test_values_that_are_no_tensors_are_left_out_of_a_state(weights):
    assert same(read_tensors(str(weights({**STATE, "version": 3}))).tensors, STATE)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_is_named_and_does_not(tmp_path, weights, zipped):
    made = tmp_path / "made_by_the_pickle"
    path = weights({"w": Runs(os.mkdir, str(made))}, _use_new_zipfile_serialization=zipped)
    said = refusal(path)
    assert "mkdir" in said
    assert CONVERT in said
    assert not made.exists()
    with path.open("rb") as file:  # the trap is live: another reader springs it
        torch.load(file, weights_only=False)
    assert made.exists()


def test_the_line_that_converts_a_pickle_does(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shared = torch.ones(4)  # safetensors refuse tensors that share memory
    state = {**STATE, "a.half": shared[:2], "a.other": shared[1:3], "version": 3}
    weights({"model_state_dict": state, "made by": Runs(print, "anything")}, "in.pth")
    code = CONVERT.partition('python -c "')[2].rstrip('"')
    exec(code)
    converted = read_tensors("out.safetensors").tensors
    assert set(converted) == {*STATE, "a.half", "a.other"}
    assert torch.equal(converted["a.weight"], STATE["a.weight"])


def test_a_plain_pickle_that_would_run_does_not(tmp_path):
    made, path = tmp_path / "made_by_the_pickle", tmp_path / "w.pkl"
    path.write_bytes(pickle.dumps(Runs(os.mkdir, str(made)), protocol=2))
    assert "mkdir" in refusal(path)
    assert not made.exists()


def test_a_whole_pickled_module_is_refused_by_its_class(weights):
    assert "torch.nn.modules.linear.Linear" in refusal(weights(torch.nn.Linear(2, 2)))


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>Sign in</html>", "is a web page"),
        (b"\n\n <html lang='en'>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\x00\x01garbage\xff" * 40, "w.pth"),
        (b"PK\x03\x04" + b"\x00" * 100, "damaged"),
        (b"Access denied", "w.pth"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_what_is_no_file_of_tensors_is_told_apart(tmp_path, content, says, suffix):
    path = tmp_path / f"w.pth.{suffix}"
    path.write_bytes(content)
    assert says in refusal(path)


@pytest.mark.parametrize("kept", [4, 20, 100, -1])
def test_safetensors_cut_short_are_refused(tmp_path, kept):
    path = tmp_path / "w.safetensors"
    save_file(STATE, path)
    path.write_bytes(path.read_bytes()[:kept])
    assert "damaged or cut short" in refusal(path)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.6, 0.95])
def test_torch_files_cut_short_are_refused(weights, part, zipped):
    path = weights(STATE, _use_new_zipfile_serialization=zipped)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * part)])
    assert str(path) in refusal(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"epoch": 3, "best": 0.5}, r"holds no tensors, only ['best', 'epoch']"),
        ([torch.ones(2)], "holds a list"),
        ({}, "holds no tensors"),
        ({"state_dict": {}}, "holds no tensors"),
    ],
)
def test_a_file_without_named_tensors_is_refused(weights, content, says):
    assert says in refusal(weights(content))


def test_safetensors_without_tensors_are_refused(tmp_path):
    save_file({}, tmp_path / "w.safetensors")
    assert "holds no tensors" in refusal(tmp_path / "w.safetensors")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "none.pth" in refusal(tmp_path / "none.pth", WeightsNotFoundError)
    assert str(tmp_path) in refusal(tmp_path, WeightsNotFoundError)


def test_a_file_that_may_not_be_read_is_refused(weights, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = weights(STATE)
    monkeypatch.setattr(Path, "open", denied)
    assert "cannot be read: Permission denied." in refusal(path)


def test_a_path_may_start_at_home(tmp_path, monkeypatch, weights):
    weights(STATE)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert same(read_tensors("~/w.pth").tensors, STATE)


@pytest.mark.parametrize("address", ["hf://", "hf://owner", "hf://owner/repo", "hf://owner//file"])
def test_an_address_that_is_none_is_refused(address):
    assert "hf://owner/repository/file[@revision]" in refusal(address)


def test_the_hub_needs_its_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'tissueseg[hub]'" in refusal("hf://owner/repo/w.pth")


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for the hub's library whose download is a function of the test's."""

    def install(download):
        module = ModuleType("huggingface_hub")
        module.hf_hub_download = download
        monkeypatch.setitem(sys.modules, "huggingface_hub", module)

    return install


@pytest.mark.parametrize(("suffix", "revision"), [("", None), ("@v1.2", "v1.2"), ("@", None)])
def test_a_file_of_the_hub_is_fetched_at_its_revision(hub, weights, suffix, revision):
    asked, path = [], weights(STATE)
    hub(lambda repo, file, revision: asked.append((repo, file, revision)) or str(path))
    assert same(read_tensors(f"hf://owner/repo/sp32/w.pth{suffix}").tensors, STATE)
    assert asked == [("owner/repo", "sp32/w.pth", revision)]
    assert fetch(f"hf://owner/repo/sp32/w.pth{suffix}") == path


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("\n403 Client Error.\n\nAccept the licence at …\n", "403 Client Error. Download"),
        ("", "OSError. Download"),
    ],
)
def test_errors_of_the_hub_become_one_line(hub, message, says):
    def download(*_, **__):
        raise OSError(message)

    hub(download)
    said = refusal("hf://owner/repo/w.pth", WeightsNotFoundError)
    assert said.startswith("hf://owner/repo/w.pth could not be fetched")
    assert says in said


def test_a_zip_under_the_other_name_is_read_as_what_it_is(tmp_path):
    torch.save({"a": torch.ones(2)}, tmp_path / "w.safetensors")
    assert read_tensors(str(tmp_path / "w.safetensors")).tensors["a"].tolist() == [1, 1]


def test_a_program_is_told_from_weights(tmp_path, recwarn):
    with zipfile.ZipFile(tmp_path / "p.pth", "w") as file:
        for name in ("p/constants.pkl", "p/data.pkl", "p/version", "p/code/x.py"):
            file.writestr(name, b"\x80\x02}.")
    assert "\n" not in refusal(tmp_path / "p.pth")
    assert not recwarn.list


def test_sparse_tensors_are_refused(tmp_path):
    torch.save({"a": torch.eye(3).to_sparse()}, tmp_path / "w.pth")
    assert "a is sparse or quantised" in refusal(tmp_path / "w.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_numbers_that_little_computes_with_are_refused(tmp_path, suffix):
    tensors = {"a.weight": torch.zeros(2).to(torch.float8_e4m3fn)}
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(save(tensors)) if suffix == "safetensors" else torch.save(tensors, path)
    with pytest.raises(WeightsError, match=r"a\.weight holds float8_e4m3fn, wanted plain numbers"):
        read_tensors(str(path))


def test_one_sparse_tensor_is_refused(tmp_path):
    torch.save(torch.eye(3).to_sparse(), tmp_path / "w.pth")
    with pytest.raises(WeightsError, match="the tensor is sparse"):
        read_tensors(str(tmp_path / "w.pth"))


def test_what_is_no_text_is_no_source():
    with pytest.raises(WeightsError, match="weights=3, wanted a file"):
        read_tensors(3)
