"""The dual-view model: layouts change its speed only, it is causal, and one view is plain SASRec."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from small_encoders import N_ITEMS, TEXT_WIDTH, VARIANTS, borrowed_rows, config_of, histories, model_of

from llm_esr.attention import Tokens
from llm_esr.config import Config, load_config
from llm_esr.loading import Sequences, build_sequences
from llm_esr.models import ModelData, SequentialEncoder
from llm_esr.models.text_profile import centred_texts
from llm_esr.models.views import semantic


def sequences(lengths: list[int], layout: str = "packed", max_len: int = 9) -> Sequences:
    items, offsets = histories(lengths)
    return build_sequences(items, offsets, max_len=max_len, layout=layout)


@pytest.mark.parametrize("variant", VARIANTS)
def test_packed_and_padded_layouts_give_the_same_states_and_gradients(variant: str) -> None:
    results = []
    for layout in ("packed", "padded"):
        model = model_of(config_of(**VARIANTS[variant]))
        states = model.encode(sequences([1, 5, 3, 9, 2, 2, 4], layout))
        (states * torch.arange(states.numel()).view_as(states).cos()).sum().backward()
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        results.append((states, gradients))
    (packed, packed_gradients), (padded, padded_gradients) = results
    assert torch.allclose(packed, padded, atol=1e-5)
    assert packed_gradients.keys() == padded_gradients.keys()
    for name, gradient in packed_gradients.items():
        assert torch.allclose(gradient, padded_gradients[name], atol=1e-4 * max(1, float(gradient.abs().max()))), name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_sequence_is_encoded_the_same_alone_and_in_company(variant: str) -> None:
    model = model_of(config_of(**VARIANTS[variant]))
    items, offsets = histories([3, 9, 1, 6])
    together = model.encode(build_sequences(items, offsets, max_len=9))
    for index in range(4):
        part = items[offsets[index] : offsets[index + 1]]
        alone = model.encode(build_sequences(part, np.array([0, len(part)]), max_len=9))
        assert torch.allclose(alone[0], together[index], atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_state_does_not_depend_on_later_items(variant: str) -> None:
    model = model_of(config_of(**VARIANTS[variant]))
    items, offsets = histories([7, 5])
    before = model(Tokens(build_sequences(items, offsets, max_len=9)))
    changed = items.copy()
    changed[4] = changed[4] % N_ITEMS + 1
    after = model(Tokens(build_sequences(changed, offsets, max_len=9)))
    moved = (before - after).abs().amax(dim=1) > 1e-6
    assert moved.tolist() == [False] * 4 + [True] * 3 + [False] * 5


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_user_vector_is_the_state_of_the_newest_token(variant: str) -> None:
    model = model_of(config_of(**VARIANTS[variant]))
    batch = sequences([4, 9, 1])
    tokens = Tokens(batch)
    assert torch.allclose(model.last_states(batch), model(tokens)[tokens.last_S], atol=1e-5)


@pytest.mark.parametrize("variant", ["default", "corrected"])
def test_portions_without_gradients_give_what_the_whole_gives(variant: str) -> None:
    model = model_of(config_of(**VARIANTS[variant]))
    batch = sequences([9] * 130)
    with torch.no_grad():
        in_portions = model(Tokens(batch))
    assert len(in_portions) > 1024
    assert torch.allclose(in_portions, model(Tokens(batch)), atol=1e-5)


@pytest.mark.parametrize("adapter", ["linear", "two-linear", "mlp"])
def test_texts_adapted_by_portions_are_those_adapted_at_once(adapter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_of(config_of(adapter=adapter))
    at_once = model.item_matrix().detach()
    monkeypatch.setattr(semantic, "_CHUNK", 7)
    with torch.no_grad():
        assert torch.allclose(model.item_matrix(), at_once, atol=1e-6)


def test_one_collaborative_view_is_plain_sasrec() -> None:
    """Against torch's own transformer layer on one left-aligned sequence."""
    config = config_of(views=["collaborative"], blocks=1)
    model = model_of(config)
    items, offsets = histories([6])
    block = model.backbones[0].blocks[0]
    reference = torch.nn.TransformerEncoderLayer(
        8, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    ).eval()
    attention = block.attention
    with torch.no_grad():
        parts = (attention.query, attention.key, attention.value)
        reference.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts]))
        reference.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts]))
        reference.self_attn.out_proj.load_state_dict(attention.output.state_dict())
        reference.linear1.load_state_dict(block.expand.state_dict())
        reference.linear2.load_state_dict(block.contract.state_dict())
        reference.norm1.load_state_dict(block.attention_norm.state_dict())
        reference.norm2.load_state_dict(block.forward_norm.state_dict())
    ids = torch.from_numpy(items).long()
    x = model.views["collaborative"].table.weight[ids] * math.sqrt(8) + model.positions.weight[1:7]
    causal = torch.nn.Transformer.generate_square_subsequent_mask(6)
    expected = model.backbones[0].last_norm(reference(x[None], src_mask=causal))[0, -1]
    assert torch.allclose(model.encode(build_sequences(items, offsets, max_len=9))[0], expected, atol=1e-5)


def test_the_collapsed_adapter_equals_its_two_layers() -> None:
    model = model_of(config_of())
    view = model.views["semantic"]
    ids = torch.arange(1, N_ITEMS + 1)
    expected = view.second(view.first(view.table))
    assert torch.allclose(view(ids), expected, atol=1e-5)
    assert torch.allclose(view(ids[:2]), expected[:2], atol=1e-5)


def test_scores_are_dot_products_with_both_views_of_an_item() -> None:
    model = model_of(config_of())
    matrix = model.item_matrix()
    ids = torch.tensor([3, 40])
    expected = torch.cat([model.views["semantic"](ids), model.views["collaborative"](ids)], dim=1)
    assert matrix.shape == (N_ITEMS, 16)
    assert torch.allclose(matrix[ids - 1], expected, atol=1e-5)


def test_the_frozen_text_table_is_not_in_the_state_dict_and_a_trained_one_is() -> None:
    assert "views.semantic.table" not in model_of(config_of()).state_dict()
    assert "views.semantic.table" in model_of(config_of(train_semantic_table=True)).state_dict()


def test_a_wrong_number_of_vectors_is_an_error_that_counts_them() -> None:
    with pytest.raises(ValueError, match="one vector for each of 40 items, got 39 rows"):
        SequentialEncoder(config_of(), ModelData(N_ITEMS, torch.randn(39, TEXT_WIDTH)))


def test_dropout_is_on_in_training_and_off_in_evaluation() -> None:
    model = model_of(config_of(dropout=0.5))
    batch = sequences([5, 3])
    assert torch.equal(model.encode(batch), model.encode(batch))
    model.train()
    assert not torch.equal(model.encode(batch), model.encode(batch))


def test_the_presets_differ_where_their_comments_say() -> None:
    def flat(config: Config) -> dict[str, object]:
        dumped = config.model_dump()
        return {f"{s}.{k}": v for s, part in dumped.items() for k, v in part.items()}

    default, sasrec, dual_view, corrected = (
        flat(load_config(name)) for name in ("default", "sasrec", "dual-view", "corrected")
    )
    assert {k for k in default if default[k] != sasrec[k]} == {
        "model.views", "model.fusion", "model.borrow", "model.text_profile", "model.dropout",
        "blend.scorers",
    }  # fmt: skip
    assert {k for k in default if dual_view[k] != corrected[k]} == {
        "model.interaction", "model.block", "model.max_len", "model.heads", "model.feed_forward",
        "model.collaborative_init", "negatives.kind", "negatives.count",
        "smoothing.probability", "train.loss", "train.view_loss", "train.batch_size", "train.clip_norm",
        "train.averaging", "train.epochs", "train.patience",
    }  # fmt: skip


def test_paper_mode_differs_from_corrected_in_the_settings_that_the_guide_lists() -> None:
    def flat(name: str) -> dict[str, object]:
        dumped = load_config(name).model_dump()
        return {f"{s}.{k}": v for s, part in dumped.items() for k, v in part.items()}

    corrected, sasrec, bert4rec, gru4rec = (
        flat(name) for name in ("corrected", "paper-sasrec", "paper-bert4rec", "paper-gru4rec")
    )
    differing = {
        "model.views", "model.causal", "model.mask_padding_keys", "model.padding_row", "model.position_rows",
        "model.embedding_norm", "distill.student_pass", "distill.teacher_dropout", "train.sequence",
        "train.validation_candidates", "train.validation_ties", "train.validation_users", "evaluate.k",
        "evaluate.candidates", "evaluate.group_rule", "evaluate.ties", "evaluate.tail_item_skips_first",
    }  # fmt: skip
    assert {k for k in corrected if corrected[k] != sasrec[k]} == differing
    assert set(corrected["model.views"]) == set(sasrec["model.views"])
    assert {k for k in sasrec if sasrec[k] != bert4rec[k]} == {"model.backbone"}
    assert {k for k in sasrec if sasrec[k] != gru4rec[k]} == {
        "model.backbone", "model.padding", "train.targets", "train.layout",
    }  # fmt: skip


def test_the_baselines_differ_from_plain_sasrec_in_one_setting_each() -> None:
    def flat(name: str) -> dict[str, object]:
        dumped = load_config(name).model_dump()
        return {f"{s}.{k}": v for s, part in dumped.items() for k, v in part.items()}

    sasrec = flat("sasrec")
    for name, field in (("bert4rec", "backbone"), ("gru4rec", "backbone"), ("llm-init", "collaborative_init")):
        assert {k for k, v in flat(name).items() if sasrec[k] != v} == {f"model.{field}"}


def test_attention_of_the_paper_block_matches_the_formula() -> None:
    """q = LN(x), x = q + MHA(q, x, x), then FFN(LN(x)) with its own residual (PAPER, section 2)."""
    config = config_of(views=["collaborative"], block="paper", feed_forward=1, heads=1, blocks=1)
    model = model_of(config)
    block = model.backbones[0].blocks[0]
    items, offsets = histories([5])
    tokens = Tokens(build_sequences(items, offsets, max_len=9))
    x = torch.randn(5, 8)
    q = F.layer_norm(x, (8,), eps=1e-8)
    attention = block.attention
    scores = attention.query(q) @ attention.key(x).T / math.sqrt(8)
    weights = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -torch.inf).softmax(1)
    y = F.layer_norm(q + attention.output(weights @ attention.value(x)), (8,), eps=1e-8)
    expected = y + block.contract(torch.relu(block.expand(y)))
    assert torch.allclose(block(x[None], tokens)[0], expected, atol=1e-5)


def test_borrowed_rows_are_the_formula() -> None:
    model, mixture = model_of(config_of(views=["collaborative"], borrow=5.0)), borrowed_rows()
    view = model.views["collaborative"]
    table = view.table.weight.detach()
    mixed = model.item_vectors(torch.arange(N_ITEMS + 2))
    rng = np.random.default_rng(1)
    neighbours = rng.integers(1, N_ITEMS + 1, (N_ITEMS, 3))
    cosines, counts = rng.random((N_ITEMS, 3)).astype(np.float32), rng.integers(0, 9, N_ITEMS)
    for item in (1, 17, N_ITEMS):
        lent = 5.0 / (5.0 + counts[item - 1])
        met = torch.from_numpy(counts[neighbours[item - 1] - 1] > 0)  # the others lend nothing
        weights = torch.softmax((torch.from_numpy(cosines[item - 1]) / 0.1).masked_fill(~met, -torch.inf), 0)
        expected = (1 - lent) * table[item] + lent * (weights @ table[torch.from_numpy(neighbours[item - 1])])
        torch.testing.assert_close(mixed[item], expected)
    torch.testing.assert_close(mixed[5], table[5])  # no lenders
    torch.testing.assert_close(mixture.shares.sum(dim=1), torch.ones(N_ITEMS + 2))


def test_a_text_profile_is_the_decayed_sum_of_the_texts_read_so_far() -> None:
    model = model_of(config_of(text_profile=2.0, text_profile_decay=0.6, max_len=9))
    assert model.profile is not None and model.profile.metric is not None
    with torch.no_grad():
        model.profile.metric.copy_(0.1 * torch.randn(TEXT_WIDTH, TEXT_WIDTH))
    items, offsets = histories([9, 1, 4])
    tokens = Tokens(build_sequences(items, offsets, max_len=9, layout="packed"))
    texts = model.profile.texts
    expected = []
    for start, stop in zip(tokens.offsets, tokens.offsets[1:], strict=False):
        total = torch.zeros(TEXT_WIDTH)
        for item in tokens.items[start:stop]:
            total = 0.6 * (total + texts[int(item)])
            expected.append(2.0 * (total + total @ model.profile.metric))
    torch.testing.assert_close(model.profile(tokens), torch.stack(expected))


def test_scores_with_a_profile_are_one_dot_product() -> None:
    model = model_of(config_of(fusion="sum", text_profile=2.0))
    own = sequences([3, 5])
    users, items = model.encode(own), model.item_matrix()
    assert users.shape[1] == items.shape[1] == 8 + TEXT_WIDTH
    assert model.profile is not None
    tokens = Tokens(own)
    apart = model.last_states(own) @ items[:, :8].T + model.profile(tokens, tokens.last_S) @ items[:, 8:].T
    torch.testing.assert_close(users @ items.T, apart)


def test_wide_texts_keep_their_first_components() -> None:
    torch.manual_seed(0)
    texts = centred_texts(torch.randn(500, 400))
    assert texts.shape == (500, 384)
    torch.testing.assert_close(texts.norm(dim=1), torch.ones(500))
