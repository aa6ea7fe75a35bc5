//! Bindings of sequence cutting and packing.

use llm_esr_core::Error;
use llm_esr_core::sequences::{Layout, Sequences};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::{view_1, view_2};
use crate::conversion::{to_py, without_gil};

/// (items, positions, targets, offsets, slots)
pub type SequenceArrays<'py> = (
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i32>>,
    Bound<'py, PyArray1<i64>>,
    Bound<'py, PyArray2<i32>>,
);

/// Views of a `Sequences` that `owner` holds.
pub fn arrays<'py>(owner: &Bound<'py, PyAny>, s: &Sequences) -> SequenceArrays<'py> {
    let rows = s.slots.len() / s.row_width.max(1);
    (
        view_1(owner, &s.items),
        view_1(owner, &s.positions),
        view_1(owner, &s.targets),
        view_1(owner, &s.offsets),
        view_2(owner, &s.slots, rows, s.row_width),
    )
}

/// The layout of a name.
pub fn layout_of(name: &str) -> PyResult<Layout> {
    match name {
        "packed" => Ok(Layout::Packed),
        "padded" => Ok(Layout::Padded),
        _ => Err(to_py(Error::argument(
            "layout",
            format!("is '{name}', expected 'packed' or 'padded'"),
        ))),
    }
}

#[pyclass(frozen)]
struct SequenceBuffers {
    sequences: Sequences,
}

/// Cuts each history to its last `max_len` items and lays them out.
#[pyfunction]
fn build_sequences<'py>(
    py: Python<'py>,
    items: PyReadonlyArray1<'py, i32>,
    offsets: PyReadonlyArray1<'py, i64>,
    max_len: usize,
    layout: &str,
) -> PyResult<SequenceArrays<'py>> {
    let layout = layout_of(layout)?;
    let (items, offsets) = (items.as_slice()?, offsets.as_slice()?);
    let sequences = without_gil(py, || cut(items, offsets, max_len, layout))?;
    let owner = Bound::new(py, SequenceBuffers { sequences })?;
    Ok(arrays(owner.as_any(), &owner.get().sequences))
}

fn cut(
    items: &[i32],
    offsets: &[i64],
    max_len: usize,
    layout: Layout,
) -> llm_esr_core::Result<Sequences> {
    if max_len == 0 {
        return Err(Error::argument("max_len", "is 0, expected at least 1"));
    }
    if offsets.first() != Some(&0)
        || offsets.last() != Some(&(items.len() as i64))
        || offsets.windows(2).any(|pair| pair[0] > pair[1])
    {
        let message = format!("must rise from 0 to the number of items ({})", items.len());
        return Err(Error::argument("offsets", message));
    }
    if let Some(&id) = items.iter().find(|&&id| id < 1) {
        return Err(Error::IdOutOfRange {
            argument: "items",
            id: i64::from(id),
            low: 1,
            high: i64::from(i32::MAX),
        });
    }
    let mut sequences = Sequences::default();
    sequences.clear();
    for pair in offsets.windows(2) {
        sequences.push(&items[pair[0] as usize..pair[1] as usize], max_len);
    }
    sequences.lay_out(layout, max_len);
    Ok(sequences)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_function(wrap_pyfunction!(build_sequences, module)?)
}
