"""The projection is PCA, the same every time, and survives its file."""

import numpy as np
import pytest
from sklearn.decomposition import PCA

from llm_esr.semantics import projection as module
from llm_esr.semantics.projection import Projection, fit_projection


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 37)


def vectors(rows=300, width=20, seed=0):
    rng = np.random.default_rng(seed)
    return (rng.standard_normal((rows, width)) * np.linspace(1, 5, width) + 3).astype(np.float32)


def test_it_projects_as_scikit_learn_does_up_to_sign_and_scale():
    table = vectors()
    ours = fit_projection(table, 6, mean_norm=0.5).transform(table)
    theirs = PCA(6).fit_transform(table.astype(np.float64))
    theirs *= 0.5 / np.linalg.norm(theirs, axis=1).mean()
    theirs *= np.sign((ours * theirs).sum(axis=0))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_rows_get_their_mean_norm_whatever_the_scale_of_the_encoder():
    for scale in (1e-3, 1.0, 1e3):
        table = vectors() * np.float32(scale)
        projected = fit_projection(table, 8, mean_norm=0.16).transform(table)
        assert np.linalg.norm(projected, axis=1).mean() == pytest.approx(0.16, rel=1e-4)


def test_each_component_has_its_largest_entry_positive():
    components = fit_projection(vectors(), 10, 1.0).components
    largest = components[np.abs(components).argmax(axis=0), np.arange(10)]
    assert (largest > 0).all()


def test_missing_directions_are_zeros():
    table = vectors(width=5)
    wide = fit_projection(table, 9, 1.0)
    assert wide.components.shape == (5, 9)
    assert (wide.transform(table)[:, 5:] == 0).all()
    two_items = fit_projection(vectors(rows=2), 4, 1.0).transform(vectors(rows=2))
    assert (two_items[:, 1:] == 0).all()
    same = fit_projection(np.ones((4, 3), np.float32), 2, 1.0).transform(np.ones((4, 3), np.float32))
    assert (same == 0).all()


def test_half_precision_and_memory_maps_are_read(tmp_path):
    table = vectors().astype(np.float16)
    np.save(tmp_path / "v.npy", table)
    mapped = np.load(tmp_path / "v.npy", mmap_mode="r")
    a, b = fit_projection(mapped, 4, 1.0), fit_projection(table.astype(np.float32), 4, 1.0)
    np.testing.assert_array_equal(a.transform(mapped), b.transform(table))


def test_a_saved_projection_is_the_same_to_the_bit(tmp_path):
    table = vectors()
    made = fit_projection(table, 4, 0.3)
    made.save(tmp_path / "projection.safetensors")
    loaded = Projection.load(tmp_path / "projection.safetensors")
    assert loaded.scale == made.scale
    np.testing.assert_array_equal(loaded.transform(table), made.transform(table))


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"made for \[n, 20\]"):
        fit_projection(vectors(), 4, 1.0).transform(vectors(width=3))
    bad = vectors()
    bad[3, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        fit_projection(bad, 4, 1.0)
    with pytest.raises(ValueError, match="at least one item"):
        fit_projection(np.zeros((0, 4), np.float32), 2, 1.0)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        Projection.load(tmp_path / "none.safetensors")
    (tmp_path / "bad.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(ValueError, match="is not a projection"):
        Projection.load(tmp_path / "bad.safetensors")
