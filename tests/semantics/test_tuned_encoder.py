"""Encoders are tuned on attributes: views of one item become alike, and a kill changes no bit."""

import json
import signal
import subprocess
import sys
import warnings

import numpy as np
import polars as pl
import pytest
import torch
from rich.progress import Progress

from llm_esr import files
from llm_esr.cli import main
from llm_esr.config import EmbedConfig
from llm_esr.files import printable, read_record
from llm_esr.semantics import contrastive_tuning as tuning
from llm_esr.semantics import embed, embed_fresh, embed_key, item_prompts, tuned_encoder
from llm_esr.semantics.attribute_views import item_attributes
from llm_esr.semantics.encoders import make_encoder
from llm_esr.semantics.encoders.sentence_transformers import load_sentence_model
from llm_esr.semantics.tuned_encoder import tuning_lines
from llm_esr.semantics.tuning_acceptance import auc, first_shares, make_trial, nearest_hold
from llm_esr.semantics.tuning_levels import encode_raw, make_level, raw_vectors

NO_BARS = Progress(disable=True)
LEVELS = ["head", "layers", "lora"]


@pytest.fixture(scope="session")
def small_encoder(tmp_path_factory):
    """A sentence-transformers folder: a random BERT of two layers over single characters, 16 wide."""
    sentence_transformers = pytest.importorskip("sentence_transformers", reason="needs the extra text")
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizerFast

    folder = tmp_path_factory.mktemp("encoder")
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.:>,"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{one}" for one in letters)]
    (folder / "vocab.txt").write_text("\n".join(words))
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=len(words), max_position_embeddings=128, **sizes)).save_pretrained(folder / "bert")
    BertTokenizerFast(str(folder / "vocab.txt")).save_pretrained(folder / "bert")
    bert = Transformer(str(folder / "bert"), max_seq_length=128)
    model = sentence_transformers.SentenceTransformer(modules=[bert, Pooling(16), Normalize()], device="cpu")
    model.save(str(folder / "whole"), create_model_card=False)
    return f"sentence-transformers:{folder / 'whole'}"


def needs(level):
    if level == "lora":
        pytest.importorskip("peft", reason="needs the extra tune-lora")


def ignored(_):
    """Nobody asks how many texts were encoded."""


def a_level(encoder, attributes, config):
    model = load_sentence_model(encoder.removeprefix("sentence-transformers:"), "cpu")
    return make_level(model, attributes, config, ignored)


def settings(level="head", **others):
    options = {"tune_batch": 4, "tune_epochs": 6, "tune_learning_rate": 0.01, "dtype": "float32", **others}
    return EmbedConfig(tune="attributes", tune_level=level, **options)


WORDS = ["lamp", "chair", "brush", "cream", "kettle", "scarf", "tent", "jug"]
ITEMS = pl.DataFrame(
    {
        "item_id": [f"i{n}" for n in range(16)],
        "title": [f"{WORDS[n % 8]} {WORDS[(3 * n + n // 8) % 8]}" for n in range(16)],
        "brand": [["almont", "breton", "norvik"][n % 3] for n in range(16)],
        "kind": [f"{'home' if n % 2 else 'out'} > {WORDS[n % 4]}" for n in range(16)],
    }
)
EVENTS = {f"u{user}": [f"i{(user + step * step) % 16}" for step in range(6)] for user in range(12)}


def tuned(make_shop, encoder, config, name="shop"):
    """A shop whose vectors a tuned encoder made; whether tuning is worth its while is not asked of a random one."""
    shop = make_shop(EVENTS, ITEMS, name)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "tuning made the vectors of")
        embed(shop, encoder, config=config, progress=False)
    return shop


@pytest.mark.parametrize("level", LEVELS)
def test_a_tuned_encoder_is_an_ordinary_folder_and_makes_the_vectors(make_shop, small_encoder, level, capfd):
    needs(level)
    config = settings(level)
    capfd.readouterr()
    shop = tuned(make_shop, small_encoder, config)
    assert capfd.readouterr().err == ""
    folder = shop.folder / "encoder"
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".txt"}
    assert not (shop.folder / "tuning").exists()
    assert embed_fresh(shop, config, encoder=small_encoder)
    ordinary = make_shop(EVENTS, ITEMS, "ordinary")
    embed(ordinary, f"sentence-transformers:{folder}", dtype="float32", progress=False)
    np.testing.assert_array_equal(shop.item_embeddings, ordinary.item_embeddings)
    np.testing.assert_array_equal(shop.user_embeddings, ordinary.user_embeddings)
    plain = make_encoder(small_encoder, EmbedConfig()).encode(item_prompts(shop))
    assert np.abs(np.asarray(shop.item_embeddings) - plain).max() > 1e-3
    about = json.loads((shop.folder / "item_embeddings.json").read_text())
    assert about["encoder"] == f"{small_encoder}, tuned on attributes ({level})"
    assert about["made_from"]["settings"]["tune_level"] == level
    lines = tuning_lines(shop.folder)
    assert lines[0] == f"tuned on 16 items by title, brand, kind (at '>') -> {folder}"
    figures = json.loads((folder / "tuning.json").read_text())
    shown = [f"{figures[when]['recall']:.3f}" for when in ("before", "after")]
    assert lines[1].startswith(f"a view's own item is the nearest: {' -> '.join(shown)}, tail items ")


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("loss", ["infonce", "soft-targets"])
def test_training_brings_the_views_of_an_item_together(make_shop, small_encoder, tmp_path, level, loss):
    needs(level)
    shop = make_shop(EVENTS, ITEMS)
    drawn = {"tune_fresh_pairs": True, "tune_temperature": 0.05} if loss == "infonce" else {"tune_fresh_pairs": False}
    config = settings(level, tune_loss=loss, tune_drop_ratio=0.4, tune_epochs=12, **drawn)
    attributes = item_attributes(shop)
    encoder = a_level(small_encoder, attributes, config)
    value = tuning.PairLoss(config, attributes)
    trial = make_trial(shop, item_prompts(shop), attributes, config)
    pairs = tuning.Schedule(config, attributes).batches(0)[0]

    def now():
        with torch.no_grad():
            return value(encoder, pairs).item(), trial.judge(lambda texts: encoder.encode(texts, ignored)).recall

    before = now()
    tuning.train(encoder, attributes, config, tmp_path, NO_BARS)
    after = now()
    assert after[0] < before[0]
    if loss == "infonce" and level != "head":
        assert after[1] > before[1]


@pytest.mark.parametrize("level", LEVELS)
def test_a_kill_changes_no_bit(make_shop, small_encoder, tmp_path, monkeypatch, level):
    needs(level)
    attributes = item_attributes(make_shop(EVENTS, ITEMS))
    config = settings(level, tune_loss="soft-targets", tune_epochs=3)
    monkeypatch.setattr(tuning, "CHECKPOINT_STEPS", 5)

    def trained(name, kill_at=None):
        encoder = a_level(small_encoder, attributes, config)
        with monkeypatch.context() as patch:
            if kill_at is not None:
                calls = iter(range(kill_at))
                step = torch.optim.AdamW.step
                patch.setattr(torch.optim.AdamW, "step", lambda self: (next(calls), step(self)))
            tuning.train(encoder, attributes, config, tmp_path / name, NO_BARS)
        return {name: one.detach().numpy().copy() for name, one in encoder.trained().items()}

    whole = trained("whole")
    for kill_at in (3, 7, 6):  # before a checkpoint, after the first, after the second
        with pytest.raises(StopIteration):
            trained("killed", kill_at)
    resumed = trained("killed")
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(value, resumed[name])


def test_a_killed_embed_goes_on_to_the_same_bytes(make_shop, small_encoder, monkeypatch):
    config = settings("layers", tune_epochs=2)
    whole = tuned(make_shop, small_encoder, config, "whole")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tuned_encoder, "write_json", interrupted_at("tuning.json"))
        tuned(make_shop, small_encoder, config, "killed")
    killed = whole.folder.parent / "killed"
    assert not (killed / "encoder").exists() and list((killed / "tuning").glob("*/*.safetensors"))
    monkeypatch.setattr(tuning.Schedule, "batches", None)  # the training itself was done
    resumed = tuned_again(killed, small_encoder, config)
    for path in sorted((whole.folder / "encoder").rglob("*")):
        other = resumed.folder / "encoder" / path.relative_to(whole.folder / "encoder")
        assert path.is_dir() or path.read_bytes() == other.read_bytes(), path
    assert (resumed.folder / "item_embeddings.npy").read_bytes() == (whole.folder / "item_embeddings.npy").read_bytes()


# At the end of the second epoch of three, after a checkpoint.
KILLED = """
import os, signal, sys, torch
from llm_esr.semantics import contrastive_tuning as tuning
tuning.CHECKPOINT_STEPS = 2
calls, step = iter(range(8)), torch.optim.AdamW.step
def counted(self):
    if next(calls) == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self)
torch.optim.AdamW.step = counted
from llm_esr.cli import main
main()
"""


def test_the_command_killed_minus_nine_goes_on_to_the_same_bytes(make_shop, small_encoder):
    config = settings("layers", tune_epochs=3)
    whole = tuned(make_shop, small_encoder, config, "whole")
    shop = make_shop(EVENTS, ITEMS, "killed").folder
    given = config.model_dump(exclude_defaults=True)
    options = [part for name, value in given.items() for part in ("--set", f"embed.{name}={value}")]
    command = ["embed", str(shop), "--encoder", small_encoder, *options]
    script = [sys.executable, "-c", KILLED, *command]
    killed = subprocess.run(script, capture_output=True, text=True, timeout=300, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "Loading weights" not in killed.stderr
    assert not (shop / "encoder").exists() and list((shop / "tuning").glob("*/*.safetensors"))
    steps = []
    with pytest.MonkeyPatch.context() as patch:
        step = torch.optim.AdamW.step
        patch.setattr(torch.optim.AdamW, "step", lambda self: (steps.append(1), step(self)))
        resumed = tuned_again(shop, small_encoder, config)
    assert len(steps) < 3 * len(tuning.Schedule(config, item_attributes(resumed)).batches(0))
    for path in sorted((whole.folder / "encoder").rglob("*")):
        other = shop / "encoder" / path.relative_to(whole.folder / "encoder")
        assert path.is_dir() or path.read_bytes() == other.read_bytes(), path
    assert (shop / "item_embeddings.npy").read_bytes() == (whole.folder / "item_embeddings.npy").read_bytes()


def interrupted_at(name):
    def write(path, value):
        if path.name == name:
            raise KeyboardInterrupt
        files.write_json(path, value)

    return write


def tuned_again(folder, encoder, config):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "tuning made the vectors of")
        return embed(folder, encoder, config=config, progress=False)


def test_what_tuning_depends_on_is_in_the_key_and_nothing_else_changes_it(make_shop, small_encoder, monkeypatch):
    shop = make_shop(EVENTS, ITEMS)
    tunings = (settings(), settings("layers"), settings(tune_seed=1), settings(tune_attributes=["kind"]))
    keys = {embed_key(shop, config, encoder=small_encoder) for config in (EmbedConfig(), *tunings)}
    assert len(keys) == 5
    assert embed_key(shop, EmbedConfig(tune_seed=1), encoder=small_encoder) in keys  # not read where nothing is tuned
    shop = tuned(make_shop, small_encoder, settings())
    monkeypatch.setattr(tuning, "train", None)
    again = settings(dtype="float16", user_vectors="prompt")  # other vectors of the same encoder
    assert not embed_fresh(shop, again, encoder=small_encoder)
    tuned_again(shop.folder, small_encoder, again)
    assert embed_fresh(shop, again, encoder=small_encoder)


def test_nothing_is_learnt_from_what_is_held_out(make_shop, small_encoder):
    others = {user: [*items[:-2], "i3", "i4"] for user, items in EVENTS.items()}
    assert others != EVENTS
    shops = [make_shop(events, ITEMS, name) for name, events in (("one", EVENTS), ("other", others))]
    trials = [make_trial(shop, item_prompts(shop), item_attributes(shop), settings()) for shop in shops]
    order = [shop.item_ids for shop in shops]
    assert order[0] == order[1]
    assert trials[0].texts == trials[1].texts
    for name in ("pairs", "random", "is_tail", "items"):
        np.testing.assert_array_equal(getattr(trials[0], name), getattr(trials[1], name))


def test_vectors_are_the_same_for_any_batch_and_order(make_shop, small_encoder):
    texts = item_prompts(make_shop(EVENTS, ITEMS))
    model = load_sentence_model(small_encoder.removeprefix("sentence-transformers:"), "cpu").eval()
    whole = encode_raw(model, texts, 64, ignored)
    np.testing.assert_allclose(whole[::-1], encode_raw(model, texts[::-1], 3, ignored), atol=1e-5)
    unit = whole / np.linalg.norm(whole, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, make_encoder(small_encoder, EmbedConfig()).encode(texts), atol=1e-5)


def test_pooling_is_that_of_the_authors(scft):
    pytest.importorskip("sentence_transformers", reason="needs the extra text")
    from sentence_transformers.sentence_transformer.modules import Pooling

    hidden, mask = (torch.from_numpy(scft[f"pool/{name}"]) for name in ("hidden", "mask"))
    features = {"token_embeddings": hidden, "attention_mask": mask.long()}

    class Model(list):
        device = torch.device("cpu")

        def preprocess(self, _):
            return features

    np.testing.assert_allclose(raw_vectors(Model([Pooling(12)]), []), scft["pool/vector"], atol=1e-5)


def test_the_figures_are_those_of_a_plain_count():
    rng = np.random.default_rng(1)
    items, views, rows = rng.normal(size=(9, 4)), rng.normal(size=(20, 4)), rng.integers(0, 9, 20)
    items[3] = items[5]  # two items that say the same
    views[0], rows[0] = items[3], 3
    items, views = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (items, views))
    shares = first_shares(views.astype(np.float32), items.astype(np.float32), rows)
    for view, row, share in zip(views, rows, shares, strict=True):
        near = np.isclose(items @ view, (items @ view).max())
        assert share == pytest.approx(near[row] / near.sum())
    assert shares[0] == 0.5
    close, far = rng.integers(0, 5, 30), rng.integers(0, 4, 25)
    wins = [(a > b) + (a == b) / 2 for a in close for b in far]
    assert auc(close, far) == pytest.approx(np.mean(wins))
    assert np.isnan(auc(close[:0], far))
    pairs = np.array([(a, b) for a in range(9) for b in range(9) if a != b and {a, b} != {3, 5}])
    for count in (1, 3):
        expected = [sum(items[a] @ items[c] > items[a] @ items[b] + 1e-9 for c in range(9) if c != a) < count
                    for a, b in pairs]  # fmt: skip
        np.testing.assert_array_equal(nearest_hold(items, pairs, count), expected)
    assert nearest_hold(items, pairs[:0], 3).shape == (0,)


def test_a_fall_of_the_figures_is_said(make_shop, small_encoder, monkeypatch):
    shop = tuned(make_shop, small_encoder, settings())
    record = read_record(shop.folder / "encoder" / "tuning.json")
    for name, words in (
        ("near", "vectors of items worse: the item met next is less often among the 10 nearest"),
        ("near_tail", "vectors of tail items worse: the item met next"),
    ):
        before = record["after"] | {name: record["after"][name] + 0.1}
        files.write_json(shop.folder / "encoder" / "tuning.json", record | {"before": before})
        with pytest.warns(UserWarning, match=words):
            tuned_encoder.warn_if_worse(shop.folder)
    files.write_json(shop.folder / "encoder" / "tuning.json", record | {"before": record["after"]})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tuned_encoder.warn_if_worse(shop.folder)


def test_what_cannot_be_tuned_is_refused(make_shop, small_encoder, monkeypatch):
    shop = make_shop(EVENTS, ITEMS)
    for name in ("lsa", "file:vectors.npy", None):
        with pytest.raises(
            ValueError, match=r"tunes a sentence encoder, and the encoder is '.*'; give encoder='sentence-"
        ):
            embed(shop, name, tune="attributes", progress=False)
    with pytest.raises(ValueError, match="is what tuning makes, and would be replaced by itself"):
        embed(shop, f"sentence-transformers:{shop.folder / 'encoder'}", tune="attributes", progress=False)
    with pytest.raises(ValueError, match="names 'colour', which is no text column"):
        embed(shop, small_encoder, config=settings(tune_attributes=["colour"]), progress=False)
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ImportError, match=r"pip install 'llm-esr\[tune-lora\]'"):
        embed(shop, small_encoder, config=settings("lora"), progress=False)


def test_the_papers_form_is_used_for_tuning_and_for_the_vectors(make_shop, small_encoder):
    header = "The item has the following attributes: "
    shop = make_shop(EVENTS, ITEMS)
    prompts = tuned_encoder.tuned_prompts(shop, settings(tune_header=header))
    assert prompts[0] == f"{header}\n title is {ITEMS['title'][0]}; brand is almont; kind is out > lamp"
    shop = tuned(make_shop, small_encoder, settings(tune_header=header, tune_loss="soft-targets"))
    encoder = make_encoder(f"sentence-transformers:{shop.folder / 'encoder'}", EmbedConfig())
    np.testing.assert_allclose(shop.item_embeddings, encoder.encode(prompts), atol=1e-5)


def test_the_command_line_tunes_and_says_what_came_of_it(make_shop, small_encoder, capsys):
    shop = make_shop(EVENTS, ITEMS)
    options = ["--tune", "attributes", "--tune-level", "head", "--tune-loss", "soft-targets"]
    options += ["--attributes", "title,kind", "--set", "embed.tune_batch=4"]
    with pytest.raises(SystemExit) as left:
        main(["embed", str(shop.folder), "--encoder", small_encoder, *options])
    assert not left.value.code
    assert capsys.readouterr().out.splitlines()[2:] == [printable(line) for line in tuning_lines(shop.folder)]
    made_from = read_record(shop.folder / "encoder" / "tuning.json")["made_from"]["settings"]
    assert made_from["tune_loss"] == "soft-targets" and made_from["tune_attributes"] == ["title", "kind"]
