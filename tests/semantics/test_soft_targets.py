"""The losses of pairs, beside the golden vectors of LLMEmb's code and plain NumPy.

Another folder of vectors: `LLM_ESR_METHOD_VECTORS=/path/to/folder pytest tests/semantics`.
"""

import numpy as np
import pytest
import torch

from llm_esr.semantics.soft_targets import masked_infonce, soft_target_loss, soft_targets

CASES = ["unit_tau3", "unit_tau1", "raw_tau3", "raw_tau1", "repeated_rows"]


def near(value, golden, tolerance):
    np.testing.assert_allclose(value, golden, rtol=0, atol=tolerance * max(np.abs(golden).max(), 1e-30))


@pytest.mark.parametrize("case", CASES)
def test_the_soft_target_loss_and_its_gradients_are_those_of_the_authors(scft, case):
    x, y, tau = (
        torch.from_numpy(np.array(scft[f"{case}/{name}"], dtype=np.float64)).requires_grad_()
        for name in ("X", "Y", "tau")
    )
    near(soft_targets(x, y, tau).detach().numpy(), scft[f"{case}/targets"], 1e-5)
    loss = soft_target_loss(x, y, tau)
    near(loss.item(), scft[f"{case}/loss"], 1e-5)
    loss.backward()
    near(x.grad.numpy(), scft[f"{case}/grad_X"], 3e-5)
    near(y.grad.numpy(), scft[f"{case}/grad_Y"], 3e-5)
    if f"{case}/grad_tau" in scft:
        near(tau.grad.numpy(), scft[f"{case}/grad_tau"].reshape(()), 1e-4)


def plain_infonce(x, y, tau, false):
    x, y = (a / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    total = 0.0
    for a, b, left_out in ((x, y, false), (y, x, false.T)):
        for i in range(len(a)):
            logits = [a[i] @ b[j] / tau for j in range(len(b)) if j == i or not left_out[i, j]]
            total += np.log(np.exp(logits).sum()) - a[i] @ b[i] / tau
    return total / (2 * len(x))


def test_infonce_leaves_out_what_is_no_negative():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 6, 5))
    false = rng.random((6, 6)) < 0.3
    false[2, 2] = True  # a pair is never left out
    assert false.sum() > 4
    tensors = torch.from_numpy(x), torch.from_numpy(y)
    for mask in (false, np.zeros_like(false)):
        value = masked_infonce(*tensors, 0.1, torch.from_numpy(mask)).item()
        assert value == pytest.approx(plain_infonce(x, y, 0.1, mask), rel=1e-9)
    assert plain_infonce(x, y, 0.1, false) < plain_infonce(x, y, 0.1, np.zeros_like(false)) - 1e-3
