//! Bindings of the sequence store.

use std::path::PathBuf;
use std::sync::Arc;

use llm_esr_core::Error;
use llm_esr_core::candidates::{Part, sample};
use llm_esr_core::rng::philox;
use llm_esr_core::store::Store;
use numpy::ndarray::Array2;
use numpy::{IntoPyArray, PyArray1, PyArray2, PyReadonlyArray1};
use pyo3::prelude::*;

use crate::arrays::Keeper;
use crate::conversion::{to_py, without_gil};

/// A data folder's interactions, mapped from its files.
#[pyclass(name = "Store", module = "llm_esr._native", frozen)]
pub struct PyStore(pub Arc<Store>);

#[pymethods]
impl PyStore {
    #[new]
    fn new(py: Python<'_>, folder: PathBuf, n_items: usize) -> PyResult<Self> {
        without_gil(py, || Store::open(&folder, n_items)).map(|store| Self(Arc::new(store)))
    }

    #[getter]
    fn n_users(&self) -> usize {
        self.0.n_users()
    }

    #[getter]
    fn n_items(&self) -> usize {
        self.0.n_items()
    }

    #[getter]
    fn offsets<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        Self::frozen_vector(this, this.get().0.offsets().as_slice())
    }

    #[getter]
    fn items<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        Self::frozen_vector(this, this.get().0.items().as_slice())
    }

    #[getter]
    fn splits<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray2<i64>> {
        let store = &this.get().0;
        Self::frozen_matrix(this, store.splits().as_slice(), store.n_users(), 2)
    }

    /// For each user n distinct items that the user never met; part is 'validation' or 'test'.
    fn sample_candidates<'py>(
        &self,
        py: Python<'py>,
        users: PyReadonlyArray1<'py, i64>,
        part: &str,
        n: usize,
        seed: u64,
    ) -> PyResult<Bound<'py, PyArray2<i32>>> {
        let part = match part {
            "validation" => Part::Validation,
            "test" => Part::Test,
            _ => {
                let message = format!("'{part}'; expected 'validation' or 'test'");
                return Err(to_py(Error::argument("part", message)));
            }
        };
        let users = users.as_slice()?;
        let drawn = without_gil(py, || sample(&self.0, users, part, n, seed))?;
        let matrix = Array2::from_shape_vec((users.len(), n), drawn)
            .expect("n candidates are drawn for each user");
        Ok(matrix.into_pyarray(py))
    }
}

/// One block of Philox4x64-10, for tests of the streams.
#[pyfunction(name = "philox")]
fn philox_block(py: Python<'_>, key: [u64; 2], counter: [u64; 4]) -> Bound<'_, PyArray1<u64>> {
    philox(key, counter).to_vec().into_pyarray(py)
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyStore>()?;
    module.add_function(wrap_pyfunction!(philox_block, module)?)
}
