"""What settings are called elsewhere, so that a name from another package finds ours."""

from __future__ import annotations

# Ours -> names of RecBole, RecTools, RePlay, Transformers, Lightning, the authors' code and habit, written as `plain`
# writes them.
_ELSEWHERE = {
    "data.min_item_count": ("item_min_count", "item_inter_num_interval", "min_item_interactions"),
    "data.min_user_count": ("user_min_count", "user_inter_num_interval", "min_user_interactions"),
    "distill.similar_users": ("sim_user_num", "n_teachers", "num_teachers"),
    "distill.weight": ("alpha", "distill_weight", "kd_weight"),
    "evaluate.k": ("topk", "top_k", "ks", "cutoffs", "eval_topk"),
    "evaluate.resamples": ("bootstrap", "n_bootstrap", "n_resamples"),
    "index.similar_users": ("n_neighbours", "n_neighbors", "num_neighbors"),
    "model.backbone": ("encoder_type", "architecture", "seq_model"),
    "model.blocks": ("n_layers", "num_layers", "n_layer", "layers", "num_blocks", "n_blocks", "trm_num",
                     "num_hidden_layers"),
    "model.dropout": ("dropout_rate", "dropout_prob", "drop_rate", "hidden_dropout_prob", "attn_dropout_prob",
                      "hidden_dropout", "attention_dropout"),
    "model.feed_forward": ("inner_size", "intermediate_size", "ffn_size", "dim_feedforward"),
    "model.heads": ("n_heads", "num_heads", "n_head", "nhead", "num_attention_heads"),
    "model.max_len": ("max_length", "maxlen", "max_seq_len", "max_seq_length", "max_sequence_length", "seq_len",
                      "session_max_len", "max_item_list_length", "block_size", "window"),
    "model.width": ("hidden_size", "hidden_dim", "hidden_units", "embedding_size", "embedding_dim", "emb_size", "dim",
                    "d_model", "n_embd", "n_factors", "factors", "latent_dim", "embed_dim"),
    "negatives.count": ("n_negatives", "num_negatives", "neg_num", "num_neg", "train_neg_sample_num",
                        "negative_samples"),
    "runtime.device": ("gpu", "gpu_id", "use_gpu", "cuda", "accelerator"),
    "runtime.loader_threads": ("num_workers", "n_workers", "workers", "dataloader_num_workers"),
    "runtime.threads": ("n_jobs", "num_threads", "n_threads", "nproc"),
    "train.averaging": ("ema", "ema_decay", "swa"),
    "train.batch_size": ("bs", "train_batch_size", "per_device_train_batch_size"),
    "train.clip_norm": ("grad_clip", "clip_grad_norm", "max_grad_norm", "gradient_clip_val", "clip"),
    "train.epochs": ("n_epochs", "num_epochs", "max_epochs", "num_train_epochs", "iterations", "n_iter"),
    "train.evaluate_every": ("eval_step", "eval_every", "eval_steps", "check_val_every_n_epoch"),
    "train.learning_rate": ("lr", "eta", "learn_rate", "step_size"),
    "train.loss": ("loss_type", "loss_function", "criterion"),
    "train.mask_probability": ("mask_ratio", "mask_prob", "mlm_probability"),
    "train.patience": ("stopping_step", "early_stopping", "early_stop", "early_stopping_patience"),
    "train.precision": ("amp", "fp16", "bf16", "mixed_precision", "enable_amp"),
    "train.seed": ("random_state", "random_seed", "rng_seed", "manual_seed"),
    "train.weight_decay": ("l2", "wd", "l2_reg", "regularization", "reg_weight"),
}  # fmt: skip
SYNONYMS = {name: ours for ours, names in _ELSEWHERE.items() for name in names}


def meant_by(name: str) -> str | None:
    """Our setting, `section.key`, for a name of elsewhere, with or without a section; None: it is not known."""
    return SYNONYMS.get(plain(name.rpartition(".")[2]))


def plain(name: str) -> str:
    """A name in small letters, with underscores."""
    return name.strip().lower().replace("-", "_")
