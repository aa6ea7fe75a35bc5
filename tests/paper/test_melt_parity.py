"""`melt-paper` against the authors' own code: golden vectors of MELT over SASRec, with their draws.

Another folder of vectors: `LLM_ESR_METHOD_VECTORS=/path/to/folder pytest tests/paper`.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from golden_vectors import method_files

import llm_esr
import llm_esr.loading.contexts
from llm_esr.attention import Tokens
from llm_esr.config import load_config
from llm_esr.loading import BatchLoader, LoaderOptions
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.training.optimizer import build_optimizer
from llm_esr.training.step import compute_losses
from llm_esr.training.terms import TermData, item_transfer, ranking, user_transfer
from llm_esr.training.transfer.branches import encoded
from llm_esr.training.weights import Weights

CLOSE = 1e-5


def files() -> list[Path]:
    # FMLP, the authors' second backbone, is none of ours.
    return [file for file in method_files("melt") if "sasrec" in file.name]


def close(ours: Any, theirs: Any, largest: float | None = None) -> bool:
    """Within `CLOSE` of the largest entry of theirs."""
    ours, theirs = (np.asarray(torch.as_tensor(x).detach(), np.float64) for x in (ours, theirs))
    scale = np.abs(theirs).max(initial=1e-12) if largest is None else largest
    return ours.shape == theirs.shape and float(np.abs(ours - theirs).max(initial=0.0)) <= CLOSE * scale


class Melt:
    """One file: its data set, its model in double precision, and both terms."""

    def __init__(self, file: Path, folder: Path) -> None:
        with np.load(file, allow_pickle=False) as arrays:
            self.arrays = dict(arrays)
        self.given: dict[str, Any] = json.loads(str(self["config"]))
        given = self.given
        self.config = load_config("melt-paper", [
            f"model.width={given['hidden_size']}", f"model.max_len={given['max_len']}",
            f"model.blocks={given['num_blocks']}", f"model.heads={given['num_heads']}",
            f"model.dropout={given['dropout']}", f"train.epochs={given['epochs']}",
            f"train.batch_size={given['batch_size']}", f"train.learning_rate={given['lr']}",
            f"train.adam_beta2={given['betas'][1]}", f"transfer.head_share={given['head_share']}",
            f"transfer.user_weight={given['user_weight']}", f"transfer.item_weight={given['item_weight']}",
            f"transfer.refresh_chunk={given['refresh_chunk']}", "train.start_from=null",
        ])  # fmt: skip
        self.data = self._data(folder)
        loader = BatchLoader(self.data, LoaderOptions.from_config(self.config))
        terms = TermData(torch.device("cpu"), loader, self.data)
        self.ranking = ranking.build(self.config, terms)
        users, items = user_transfer.build(self.config, terms), item_transfer.build(self.config, terms)
        assert users is not None and items is not None
        self.users, self.items = users, items

    def __getitem__(self, key: str) -> np.ndarray:
        return self.arrays[key]

    def _data(self, folder: Path) -> llm_esr.Dataset:
        offsets, items = self["sequences_offsets"], self["sequences_flat"]
        users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        table = pl.DataFrame({"user_id": users, "item_id": items, "order": np.arange(len(items))})
        known = pl.DataFrame({"item_id": np.arange(1, self.given["num_items"] + 1)})
        return llm_esr.prepare(table, items=known, out=folder / "data", order_column="order", keep_unseen_items=True)

    def named(self, ours: str) -> tuple[str, slice]:
        """The authors' name of a parameter of ours, and which rows of theirs it is."""
        name, _, kind = ours.rpartition(".")
        whole, width = slice(None), self.given["hidden_size"]
        if name.startswith("transfer"):
            return f"{'user_branch.W_U' if name.endswith('users') else 'item_branch.W_I'}.{kind}", whole
        if not name.startswith("backbones"):
            return f"sasrec.{'pos_emb' if name == 'positions' else 'item_emb'}.{kind}", whole
        if name.endswith("last_norm"):
            return f"sasrec.last_layernorm.{kind}", whole
        _, _, _, block, layer, *rest = name.split(".")
        if rest and rest[0] != "output":
            part = ("query", "key", "value").index(rest[0])
            return f"sasrec.attention_layers.{block}.in_proj_{kind}", slice(part * width, (part + 1) * width)
        theirs = {
            "attention_norm": f"attention_layernorms.{block}", "forward_norm": f"forward_layernorms.{block}",
            "expand": f"forward_layers.{block}.conv1", "contract": f"forward_layers.{block}.conv2",
            "attention": f"attention_layers.{block}.out_proj",
        }[layer]  # fmt: skip
        return f"sasrec.{theirs}.{kind}", whole

    def theirs(self, kind: str, ours: str, like: torch.Tensor) -> torch.Tensor:
        """Their array for a parameter of ours; of the item table without the row of the mask token."""
        name, rows = self.named(ours)
        array = torch.from_numpy(self[f"{kind}/{name}"][rows]).to(like.dtype)
        return array.reshape(len(array), *like.shape[1:])

    def model(self, state: str = "init") -> SequentialEncoder:
        model = SequentialEncoder(self.config.model, ModelData(self.given["num_items"])).double()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                theirs = self.theirs(state, name, parameter)
                parameter[: len(theirs)] = theirs
        return model

    def batch(self, step: int) -> Any:
        seq, pos, neg = (self[f"batch{step}/{name}"] for name in ("seq", "pos", "neg"))
        students = self.sequences(seq, pos)
        return SimpleNamespace(
            epoch=int(self[f"batch{step}/epoch"]), step=step, students=students, teachers=None, collision=None,
            negatives=neg[seq > 0][:, None].astype(np.int32), users=self[f"batch{step}/user_id"],
        )  # fmt: skip

    @staticmethod
    def sequences(seq: np.ndarray, targets: np.ndarray | None = None) -> Any:
        """Left-padded rows as `Sequences` without padding."""
        real = seq > 0
        slots = np.full(seq.shape, -1, np.int32)
        slots[real] = np.arange(real.sum())
        places = (np.cumsum(real, axis=1))[real]
        return SimpleNamespace(
            items=seq[real].astype(np.int32), positions=places.astype(np.int32), slots=slots,
            targets=(np.zeros_like(seq) if targets is None else targets)[real].astype(np.int32),
            offsets=np.concatenate([[0], np.cumsum(real.sum(axis=1))]).astype(np.int64),
        )  # fmt: skip

    def drawn_contexts(self, step: int) -> np.ndarray:
        """The numbers of the contexts that they drew."""
        items, counts = self[f"batch{step}/head_item"], self[f"batch{step}/context_count"]
        return np.repeat(self.items.contexts.offsets[items], counts) + self[f"batch{step}/context_choice"]

    def losses(self, model: SequentialEncoder, step: int) -> dict[str, torch.Tensor]:
        """The three losses of a step with their draws, not weighted."""
        epoch, users = int(self[f"batch{step}/epoch"]), self[f"batch{step}/head_user"]
        items, counts = self[f"batch{step}/head_item"], self[f"batch{step}/context_count"]
        return compute_losses(model, self.batch(step), [self.ranking]) | {
            "users": self.users.loss(model, users, self[f"batch{step}/recent"], self.users.weights_of(users, epoch)),
            "items": self.items.loss(
                model, items, counts, self.drawn_contexts(step), self.items.weights_of(items, epoch)
            ),
        }

    def total(self, losses: dict[str, torch.Tensor]) -> torch.Tensor:
        return losses["ranking"] + self.users.weight * losses["users"] + self.items.weight * losses["items"]

    def trained(self) -> tuple[SequentialEncoder, list[dict[str, float]], dict[str, np.ndarray]]:
        """The model after all steps, their losses, and the item table around each refresh."""
        model = self.model()
        optimizer = build_optimizer(model, self.config, None)
        weights = Weights(model, lambda: model, optimizer)
        said, tables, before = [], {}, -1
        assert model.item_table is not None
        table = model.item_table.weight
        for step in range(self.given["steps"]):
            epoch = int(self[f"batch{step}/epoch"])
            for kind in ("before", "after") if epoch != before else ():
                if kind == "after":
                    self.items.before_epoch(epoch, weights)
                tables[f"refresh{epoch}/{kind}"] = table.detach().numpy()[:-1].copy()
            before = epoch
            losses = self.losses(model, step)
            total = self.total(losses)
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            optimizer.step()
            said.append({name: float(loss.detach()) for name, loss in {**losses, "total": total}.items()})
        return model, said, tables


@pytest.fixture(scope="module", params=files(), ids=lambda file: file.stem)
def melt(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Melt:
    return Melt(request.param, tmp_path_factory.mktemp("melt"))


@pytest.fixture(scope="module")
def refreshed(melt: Melt) -> SequentialEncoder:
    """The model after the first refresh, as step 0 sees it."""
    model = melt.model()
    melt.items.refresh(Weights(model, lambda: model, build_optimizer(model, melt.config, None)))
    return model


def test_head_and_tail_are_the_authors(melt: Melt) -> None:
    groups = melt.users.groups
    np.testing.assert_allclose([groups.tail_user, groups.tail_item], melt["thresholds"], rtol=1e-12)
    assert groups.counts.tolist() == melt["item_counts"].tolist()
    assert groups.head_users.tolist() == sorted(melt["head_users"].tolist())
    assert groups.head_items.tolist() == sorted(melt["head_items"].tolist())
    assert groups.tail_items.tolist() == melt["tail_items"].tolist()


def test_the_contexts_are_the_authors_in_their_order(melt: Melt) -> None:
    contexts, items = melt.items.contexts, melt["contexts_items"]
    assert contexts.counts(items).tolist() == np.diff(melt["contexts_offsets"]).tolist()
    flat, offsets = contexts.read(contexts.of(items.astype(np.int64)))
    for row, start, end in zip(melt["contexts"], offsets[:-1], offsets[1:], strict=True):
        assert row[row > 0].tolist() == flat[start:end].tolist()
    others = np.setdiff1d(np.arange(1, melt.given["num_items"] + 1), items)
    assert not contexts.counts(others).any()


@pytest.mark.parametrize("chunk", ["chunk4", "after", "at_once"])
def test_a_refresh_is_the_authors(melt: Melt, chunk: str) -> None:
    model = melt.model()
    before = melt.items.settings
    size = {"chunk4": 4, "after": melt.given["refresh_chunk"], "at_once": None}[chunk]
    melt.items.settings = before.model_copy(update={"refresh_chunk": size})
    melt.items.refresh(Weights(model, lambda: model, build_optimizer(model, melt.config, None)))
    melt.items.settings = before
    assert model.item_table is not None
    assert close(model.item_table.weight[1:-1], melt[f"refresh0/{chunk}"][1:])


def test_the_states_of_tokens_users_and_contexts_are_the_authors(melt: Melt, refreshed: SequentialEncoder) -> None:
    seq, model = melt["batch0/seq"], refreshed
    assert close(model(Tokens(melt.sequences(seq))), melt["features0"][seq > 0])
    users, recent = melt["batch0/head_user"], melt["batch0/recent"]
    whole = melt.data.histories(users, "train")
    assert close(encoded(model, whole), melt["whole_features0"])
    assert close(encoded(model, llm_esr.loading.contexts.newest(whole, recent)), melt["recent_features0"])
    drawn = melt.items.contexts.read(melt.drawn_contexts(0))
    assert close(encoded(model, drawn), melt["context_features0"])


def test_the_weights_of_the_curriculum_are_the_authors(melt: Melt) -> None:
    for step in range(melt.given["steps"]):
        epoch = int(melt[f"batch{step}/epoch"])
        assert close(melt.users.weights_of(melt[f"batch{step}/head_user"], epoch), melt[f"batch{step}/user_curriculum"])
        assert close(melt.items.weights_of(melt[f"batch{step}/head_item"], epoch), melt[f"batch{step}/item_curriculum"])


def test_the_gradients_of_the_first_step_are_the_authors(melt: Melt, refreshed: SequentialEncoder) -> None:
    refreshed.zero_grad()
    melt.total(melt.losses(refreshed, 0)).backward()
    largest = max(float(np.abs(array).max()) for name, array in melt.arrays.items() if name.startswith("grad0/"))
    for name, parameter in refreshed.named_parameters():
        ours = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        theirs = melt.theirs("grad0", name, parameter)
        assert close(ours[: len(theirs)], theirs, largest), name
        assert not ours[len(theirs) :].any(), name


def test_the_losses_the_second_refresh_and_the_last_weights_are_the_authors(melt: Melt) -> None:
    melt.items.refreshed_epoch = -1
    model, said, tables = melt.trained()
    for ours, theirs in {"ranking": "ranking_losses", "users": "user_losses", "items": "item_losses",
                         "total": "losses"}.items():  # fmt: skip
        np.testing.assert_allclose([step[ours] for step in said], melt[theirs], rtol=CLOSE)
    for name, table in tables.items():
        np.testing.assert_allclose(table[1:], melt[name][1:], atol=5e-5, rtol=0)
    assert {"refresh0/after", "refresh1/after"} <= set(tables)
    for name, parameter in model.named_parameters():
        if name.endswith("attention.key.bias"):
            continue  # its true gradient is zero, and Adam makes a step of the rounding
        theirs = melt.theirs("final", name, parameter)
        np.testing.assert_allclose(parameter.detach()[: len(theirs)], theirs, atol=5e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("part", ["valid", "test"])
def test_scores_ranks_and_metrics_are_the_authors(melt: Melt, part: str) -> None:
    model = melt.model("final").eval()
    assert model.transfer is not None
    tail, candidates = melt[f"{part}/tail_user"], melt[f"{part}/candidates"]
    lengths = melt.users.groups.lengths[melt[f"{part}/user_id"]]
    assert tail.tolist() == (lengths <= melt.users.groups.tail_user).tolist()
    model.transfer.tail_user.fill_(melt.users.groups.tail_user)
    states = model.last_states(melt.sequences(melt[f"{part}/seq"]))
    users = model.transfer.scored(states, lengths)
    logits = torch.einsum("bc,bnc->bn", users, model.item_matrix()[torch.from_numpy(candidates).long() - 1])
    assert close(logits, melt[f"{part}/logits"])
    ranks = (logits[:, 1:] > logits[:, :1]).sum(dim=1).numpy()
    assert ranks.tolist() == melt[f"{part}/rank"].tolist()
    head_item = np.isin(candidates[:, 0], melt["head_items"])
    groups = {"Overall": np.ones_like(tail), "Tail_User": tail, "Head_User": ~tail, "Tail_Item": ~head_item,
              "Head_Item": head_item}  # fmt: skip
    for k, table in json.loads(str(melt[f"{part}/metrics"])).items():
        for name, values in table.items():
            mine = ranks[groups[name]]
            np.testing.assert_allclose((mine < int(k)).mean(), values["HIT"], rtol=1e-6)
            gains = np.where(mine < int(k), 1 / np.log2(mine + 2), 0.0)
            np.testing.assert_allclose(gains.mean(), values["NDCG"], rtol=1e-6)


def test_the_models_own_rule_scores_a_validation_as_the_authors_do(melt: Melt) -> None:
    # A test history is one item longer than the training sequence that they go by.
    model = melt.model("final").eval()
    assert model.transfer is not None
    model.transfer.tail_user.fill_(melt.users.groups.tail_user)
    histories = melt.data.histories(melt["valid/user_id"], "validation")
    users = model.encode(model.sequences(*histories))
    matrix = model.item_matrix()[torch.from_numpy(melt["valid/candidates"]).long() - 1]
    assert close(torch.einsum("bc,bnc->bn", users, matrix), melt["valid/logits"])


def test_an_epoch_ends_with_the_shortest_of_the_three_lists(melt: Melt) -> None:
    assert melt.users.most_steps == melt.items.most_steps == 2
    dealt = [melt.users.dealing.of(0, step).tolist() for step in range(2)]
    assert sorted(user for users in dealt for user in users) == sorted(melt["head_users"].tolist())
    assert [len(users) for users in dealt] == [len(melt[f"batch{step}/head_user"]) for step in range(2)]
