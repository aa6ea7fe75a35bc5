//! Bindings of flat sequences.

use std::sync::Arc;

use llm_esr_core::choice::Choice;
use llm_esr_core::pool::Pooled;
use llm_esr_core::sequences::Sequences;
use llm_esr_core::window::{Layout, Window};
use numpy::{PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::Keeper;
use crate::conversion::{to_py, without_gil};

/// Sequences as flat tokens, oldest first: T tokens in S sequences, R rows of width W.
#[pyclass(name = "Sequences", module = "llm_esr._native", frozen)]
pub struct PySequences(Owner);

/// Where the buffers lie.
enum Owner {
    Alone(Sequences),
    Students(Arc<Pooled>),
    Teachers(Arc<Pooled>),
}

impl PySequences {
    pub fn students(batch: Arc<Pooled>) -> Self {
        Self(Owner::Students(batch))
    }

    pub fn teachers(batch: Arc<Pooled>) -> Self {
        Self(Owner::Teachers(batch))
    }

    fn sequences(&self) -> &Sequences {
        match &self.0 {
            Owner::Alone(sequences) => sequences,
            Owner::Students(batch) => &batch.students,
            Owner::Teachers(batch) => &batch.teachers,
        }
    }
}

#[pymethods]
impl PySequences {
    /// Item ids, int32 [T].
    #[getter]
    fn items<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        Self::vector(this, &this.get().sequences().items)
    }

    /// 1 for the oldest item of the window, 0 for padding, int32 [T].
    #[getter]
    fn positions<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        Self::vector(this, &this.get().sequences().positions)
    }

    /// The item to predict at each token, 0 for none, int32 [T].
    #[getter]
    fn targets<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        Self::vector(this, &this.get().sequences().targets)
    }

    /// Where each sequence starts among the tokens, int64 [S + 1].
    #[getter]
    fn offsets<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        Self::vector(this, &this.get().sequences().offsets)
    }

    /// The token in each slot of the rows, -1 for none, int32 [R, W].
    #[getter]
    fn slots<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray2<i32>> {
        let sequences = this.get().sequences();
        Self::matrix(this, &sequences.slots, sequences.rows, sequences.width)
    }

    fn __len__(&self) -> usize {
        self.sequences().len()
    }

    fn __repr__(&self) -> String {
        let sequences = self.sequences();
        format!(
            "Sequences({} sequences, {} tokens, {} rows of {})",
            sequences.len(),
            sequences.items.len(),
            sequences.rows,
            sequences.width
        )
    }
}

/// The layout of a name.
/// Cuts flat histories to their last `max_len` items, and puts mask and padding tokens around them.
#[pyfunction]
#[pyo3(signature = (items, offsets, max_len, layout, mask_token, padding_tokens))]
fn build_sequences<'py>(
    py: Python<'py>,
    items: PyReadonlyArray1<'py, i32>,
    offsets: PyReadonlyArray1<'py, i64>,
    max_len: usize,
    layout: &str,
    mask_token: Option<i32>,
    padding_tokens: bool,
) -> PyResult<PySequences> {
    let layout = Layout::named(layout).map_err(to_py)?;
    let window = Window {
        max_len,
        mask_token,
        padding_tokens,
    };
    let (items, offsets) = (items.as_slice()?, offsets.as_slice()?);
    let built = without_gil(py, || Sequences::build(items, offsets, window, layout))?;
    Ok(PySequences(Owner::Alone(built)))
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PySequences>()?;
    module.add_function(wrap_pyfunction!(build_sequences, module)?)
}
