"""`decoder.ckpt`: what went in comes out, and what does not fit is refused by name."""

from dataclasses import replace

import pytest
import torch

from tissueseg.contracts import Channel, DataSpec, EncoderSpec, Modality, Normalisation, TissueClass
from tissueseg.data.normalise import Normaliser
from tissueseg.data.splits import Split
from tissueseg.encoders.finetune import Finetune
from tissueseg.errors import RunFolderError, SpecMismatchError
from tissueseg.modules import checkpoint as checkpoints
from tissueseg.modules.checkpoint import DecoderCheckpoint, load_decoder, save_decoder

ENCODER = EncoderSpec("vit", ("sp",), (8,) * 4, 8, random_init=True, sha256="abc")
CLASSES = (TissueClass(0, "background", "#000000"), TissueClass(1, "cell", "#ffffff"))
DATA = DataSpec(Modality.SP, 2, CLASSES, (Channel("DAPI", None, True), Channel("CD3")), 0.5, 64)
NORMALISER = Normaliser(Modality.SP, Normalisation(), (0.1, 0.2), (1.0, 2.0))


def make(**changes):
    state = {"weight": torch.arange(6.0).view(2, 3), "steps": torch.tensor(7)}
    made = DecoderCheckpoint(
        encoder=ENCODER.as_dict(),
        data=DATA.as_dict(),
        normaliser=NORMALISER.as_dict(),
        decoder={"_target_": "x", "heads": {"classes": {"depth": 2}}, "width": 0.5},
        split={"train": {"a": "1"}, "val": {"b": "2"}, "test": {}},
        train_pixels=[10, 3],
        state=state,
        epoch=4,
        monitor="val/dice/macro_foreground",
        score=0.5,
    )
    return replace(made, **changes)


@pytest.fixture
def path(tmp_path):
    save_decoder(tmp_path / "sub" / "decoder.ckpt", make())
    return tmp_path / "sub" / "decoder.ckpt"


def test_round_trip(path):
    loaded, made = load_decoder(path), make()
    without = {"state": {}, "encoder_state": {}}
    assert replace(loaded, **without) == replace(made, **without)
    assert loaded.encoder_state.keys() == made.encoder_state.keys()
    assert loaded.state.keys() == made.state.keys()
    assert all(torch.equal(loaded.state[k], v) for k, v in made.state.items())
    assert loaded.read_normaliser() == NORMALISER
    loaded.check_encoder(ENCODER)
    loaded.check_data(DATA)
    assert [p.name for p in path.parent.iterdir()] == ["decoder.ckpt"]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(RunFolderError, match=r"no decoder checkpoint at .*nowhere.ckpt"):
        load_decoder(tmp_path / "nowhere.ckpt")


def other_format(content):
    return content | {"format": 0}


def extra_key(content):
    return content | {"optimizer": {}}


def lacking_key(content):
    return {k: v for k, v in content.items() if k != "state"}


@pytest.mark.parametrize("change", [other_format, extra_key, lacking_key])
def test_files_of_another_layout_are_refused(path, change):
    content = torch.load(path, weights_only=True)
    torch.save(change(content), path)
    with pytest.raises(RunFolderError, match=r"decoder.ckpt is damaged or no decoder checkpoint"):
        load_decoder(path)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("encoder", {"name": "x"}),
        ("encoder", ENCODER.as_dict() | {"unheard_of": 1}),
        ("encoder", ENCODER.as_dict() | {"channels": 3}),
        ("data", DATA.as_dict() | {"classes": [{"id": "0", "name": "a", "color": "#000000"}]}),
        ("data", DATA.as_dict() | {"modality": "xray"}),
        ("normaliser", {}),
        ("normaliser", NORMALISER.as_dict() | {"sp_mean": [None]}),
        ("decoder", {"_target_": "x"}),
        ("decoder", {"heads": 3}),
        ("split", {"train": ["a"], "val": {}}),
        ("split", {"val": {}}),
        ("train_pixels", 3),
        ("state", {"weight": [1.0]}),
        ("epoch", "last"),
        ("finetune", {"blocks": -1}),
    ],
)
def test_fields_of_another_form_are_refused_when_they_are_read(path, field, value):
    content = torch.load(path, weights_only=True)
    torch.save(content | {field: value}, path)
    with pytest.raises(RunFolderError, match=r"decoder.ckpt is damaged or no decoder checkpoint"):
        load_decoder(path)


def test_a_decoder_of_another_making_is_refused(path):
    with pytest.raises(
        SpecMismatchError, match=r"is not the one of its checkpoint: .*weight"
    ) as caught:
        load_decoder(path).restore(torch.nn.Linear(3, 3), None)
    assert "\n" not in str(caught.value)


def test_files_from_before_fine_tuning_are_read(path):
    content = torch.load(path, weights_only=True)
    old = {k: v for k, v in content.items() if k not in ("finetune", "encoder_state")}
    torch.save(old | {"format": 2}, path)
    loaded = load_decoder(path)
    assert (loaded.finetune, loaded.encoder_state) == ({}, {})
    assert loaded.about("baseline")["run"] == "baseline-sp-vit_random_init"
    assert torch.equal(loaded.state["weight"], make().state["weight"])


def test_what_learnt_of_the_encoder_is_kept_and_named(path):
    tuned = {"blocks.3.norm1.weight": torch.randn(8)}
    save_decoder(path, make(finetune=Finetune(blocks=1).as_dict(), encoder_state=tuned))
    loaded = load_decoder(path)
    assert torch.equal(loaded.encoder_state["blocks.3.norm1.weight"], *tuned.values())
    assert loaded.about("baseline")["run"] == "baseline-sp-vit_random_init+blocks1"
    assert loaded.about("baseline")["encoder"] == "vit_random_init+blocks1"
    loaded.check_encoder(ENCODER)  # which stays the published one


@pytest.mark.parametrize("content", [torch.zeros(3), [1, 2], {}, "text", None, 5])
def test_files_of_something_else_are_refused(path, content):
    torch.save(content, path)
    with pytest.raises(RunFolderError, match="damaged"):
        load_decoder(path)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
def test_files_cut_short_are_refused(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunFolderError, match="damaged"):
        load_decoder(path)


@pytest.mark.parametrize(
    "junk", [b"not a checkpoint\n", b"\x80", b"\x80\x02.", b"\x00" * 99, b"(]."]
)
def test_files_of_junk_are_refused(path, junk):
    path.write_bytes(junk)
    with pytest.raises(RunFolderError, match="damaged"):
        load_decoder(path)


class Evil:
    def __reduce__(self):
        return print, ("run",)


def test_code_in_a_file_is_not_run(path, capsys):
    torch.save({"format": 1, "state": Evil()}, path)
    with pytest.raises(RunFolderError):
        load_decoder(path)
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "other"}, "name: vit ≠ other"),
        ({"stride_px": 16}, "stride_px: 8 ≠ 16"),
        ({"channels": (8, 8, 8, 16)}, "channels"),
        ({"random_init": False}, "random_init: True ≠ False"),
        ({"normalisation": Normalisation(sp_quantile=0.999)}, r"normalisation"),
    ],
)
def test_another_encoder_is_refused_by_what_differs(path, changes, says):
    with pytest.raises(SpecMismatchError, match=rf"trained on other encoder .*: {says}") as error:
        load_decoder(path).check_encoder(replace(ENCODER, **changes))
    assert ";" not in str(error.value)  # that, and nothing else


def test_other_weights_of_the_same_encoder_are_refused(path):
    with pytest.raises(SpecMismatchError, match="sha256: abc ≠ xyz"):
        load_decoder(path).check_encoder(replace(ENCODER, sha256="xyz"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"modality": Modality.HE}, "modality: sp ≠ he"),
        ({"mpp": 0.25}, "mpp: 0.5 ≠ 0.25"),
        ({"classes": CLASSES[:1]}, "classes"),
        ({"panel": DATA.panel[::-1]}, "panel"),
        ({"image_channels": 3}, "image_channels: 2 ≠ 3"),
    ],
)
def test_other_data_is_refused_by_what_differs(path, changes, says):
    with pytest.raises(SpecMismatchError, match=rf"trained on other data .*: {says}"):
        load_decoder(path).check_data(replace(DATA, **changes))


def test_tiles_may_have_another_size(path):
    other = replace(DATA, tile_px=128)
    load_decoder(path).check_data(other)
    assert other.as_dict() != load_decoder(path).data


def test_a_write_that_fails_leaves_the_file_before(path, monkeypatch):
    def full(content, target):
        target.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(checkpoints.torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        save_decoder(path, make(epoch=5))
    assert load_decoder(path).epoch == 4


def test_what_stands_above_a_table_names_random_weights(path):
    about = load_decoder(path).about("baseline")
    assert about["run"] == "baseline-sp-vit_random_init"
    assert (about["epoch"], about["classes"]) == (4, ["background", "cell"])


def test_a_fit_leaves_a_decoder_that_can_be_used_again(fitted, make_run):
    checkpoint = load_decoder(fitted.folder / "decoder.ckpt")
    run = make_run()
    checkpoint.check_encoder(run.module.spec)
    checkpoint.check_data(run.data.spec)
    run.module.decoder.load_state_dict(checkpoint.state)
    assert checkpoint.read_normaliser() == run.data.normaliser
    pixels = run.store.class_pixels(run.data.split.train)
    assert checkpoint.train_pixels == pixels.tolist()
    assert checkpoint.train_pixels[0] > 0


def test_the_split_is_that_of_training():
    assert make().split_of({"a": "1", "b": "2", "c": "3"}) == Split(("a",), ("b",))


@pytest.mark.parametrize("digests", [{"a": "1"}, {"a": "1", "b": "1"}])
def test_a_store_that_has_changed_has_no_split(digests):
    with pytest.raises(SpecMismatchError, match="tissue b of side 'val'"):
        make().split_of(digests)


def test_tissues_that_trained_are_refused_under_any_name():
    make().check_unseen({"a": "2", "b": "3"})
    with pytest.raises(SpecMismatchError, match="such as other, trained the decoder"):
        make().check_unseen({"b": "3", "other": "1"})
