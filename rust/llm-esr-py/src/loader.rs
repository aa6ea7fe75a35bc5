//! Bindings of the batch loader.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use llm_esr_core::batch_builder::BatchBuilder;
use llm_esr_core::loader::{Batches, Loader, Shares, Waited};
use llm_esr_core::pool::Pooled;
use numpy::{PyArray1, PyArray2};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::arrays::Keeper;
use crate::conversion::without_gil;
use crate::options::LoaderOptions;
use crate::sequences::PySequences;
use crate::store::PyStore;

/// Between two looks for Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(100);

/// Makes epochs of batches.
#[pyclass(name = "Loader", module = "llm_esr._native", frozen)]
pub struct PyLoader(Loader);

#[pymethods]
impl PyLoader {
    #[new]
    #[pyo3(signature = (store, folder, options, *, threads, rank, world_size))]
    fn new(
        py: Python<'_>,
        store: &PyStore,
        folder: PathBuf,
        options: LoaderOptions,
        threads: usize,
        rank: usize,
        world_size: usize,
    ) -> PyResult<Self> {
        let store = Arc::clone(&store.0);
        let loader = without_gil(py, || {
            let options = options.read()?;
            let shares = Shares {
                batch_size: options.batch_size,
                rank,
                world_size,
                shuffle: options.shuffle,
            };
            let builder = BatchBuilder::open(store, &folder, &options)?;
            Loader::new(builder, shares, threads)
        })?;
        Ok(Self(loader))
    }

    /// Steps an epoch.
    #[getter]
    fn steps(&self) -> u64 {
        self.0.steps()
    }

    /// Users that train.
    #[getter]
    fn n_students(&self) -> u32 {
        self.0.builder().students().len()
    }

    /// The logarithm of each item's chance as a negative, float32 [I + 1]; None without negatives.
    fn log_q<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let logs = without_gil(py, || Ok(self.0.builder().log_q()))?;
        Ok(logs.map(|logs| PyArray1::from_vec(py, logs)))
    }

    /// An epoch's batches from a step on.
    fn batches(&self, py: Python<'_>, epoch: u64, first_step: u64) -> PyResult<PyBatches> {
        let batches = without_gil(py, || Ok(self.0.batches(epoch, first_step)))?;
        Ok(PyBatches(Mutex::new(batches)))
    }
}

/// An epoch's batches, in order.
#[pyclass(name = "Batches", module = "llm_esr._native", frozen)]
pub struct PyBatches(Mutex<Batches>);

#[pymethods]
impl PyBatches {
    fn __iter__(this: Bound<'_, Self>) -> Bound<'_, Self> {
        this
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<PyBatch>> {
        loop {
            // One consumer: a second thread that asks at the same time is told so rather than kept waiting.
            let waited = without_gil(py, || {
                Ok(match self.0.try_lock() {
                    Ok(mut batches) => Some(batches.wait(PATIENCE)),
                    Err(TryLockError::Poisoned(poisoned)) => {
                        Some(poisoned.into_inner().wait(PATIENCE))
                    }
                    Err(TryLockError::WouldBlock) => None,
                })
            })?;
            match waited {
                Some(Waited::Ready(batch)) => return Ok(Some(PyBatch(Arc::new(batch)))),
                Some(Waited::End) => return Ok(None),
                Some(Waited::Pending) => {}
                None => {
                    return Err(PyRuntimeError::new_err(
                        "two threads ask one iterator for batches at once; give each its own loader or take turns",
                    ));
                }
            }
        }
    }
}

/// One training step's inputs; its arrays keep it alive.
#[pyclass(name = "Batch", module = "llm_esr._native", frozen)]
pub struct PyBatch(Arc<Pooled>);

#[pymethods]
impl PyBatch {
    /// The epoch it belongs to.
    #[getter]
    fn epoch(&self) -> u64 {
        self.0.epoch
    }

    /// The step within the epoch.
    #[getter]
    fn step(&self) -> u64 {
        self.0.step
    }

    /// The students' user numbers, int64 [B].
    #[getter]
    fn users<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        Self::vector(this, &this.get().0.users)
    }

    /// Which masking pass of the user this is, int8 [B].
    #[getter]
    fn masking_passes<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i8>> {
        Self::vector(this, &this.get().0.masking_passes)
    }

    /// The students' sequences, in the order of `users`.
    #[getter]
    fn students(&self) -> PySequences {
        PySequences::students(Arc::clone(&self.0))
    }

    /// The unique similar users' sequences; None without similar users.
    #[getter]
    fn teachers(&self) -> Option<PySequences> {
        (self.0.similar_users > 0).then(|| PySequences::teachers(Arc::clone(&self.0)))
    }

    /// Places in `teachers`, -1 for none, int64 [B, K].
    #[getter]
    fn teacher_index<'py>(this: &Bound<'py, Self>) -> Option<Bound<'py, PyArray2<i64>>> {
        let batch = &this.get().0;
        let k = batch.similar_users;
        (k > 0).then(|| Self::matrix(this, &batch.teacher_index, batch.users.len(), k))
    }

    /// Own negatives int32 [M, N], or the step's int32 [N].
    #[getter]
    fn negatives<'py>(this: &Bound<'py, Self>) -> Option<Bound<'py, PyAny>> {
        let batch = &this.get().0;
        let n = batch.negatives_width;
        if batch.shared {
            Some(Self::vector(this, &batch.negatives).into_any())
        } else {
            let rows = batch.negatives.len().checked_div(n)?;
            Some(Self::matrix(this, &batch.negatives, rows, n).into_any())
        }
    }

    /// Which shared negative each user met, bool [B, N]; None for own ones.
    #[getter]
    fn collision<'py>(this: &Bound<'py, Self>) -> Option<Bound<'py, PyArray2<bool>>> {
        let batch = &this.get().0;
        let shape = (batch.users.len(), batch.negatives_width);
        batch
            .shared
            .then(|| Self::matrix(this, &batch.collision, shape.0, shape.1))
    }

    fn __len__(&self) -> usize {
        self.0.users.len()
    }

    fn __repr__(&self) -> String {
        format!(
            "Batch(epoch {}, step {}, {} users, {} tokens)",
            self.0.epoch,
            self.0.step,
            self.0.users.len(),
            self.0.students.items.len()
        )
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyLoader>()?;
    module.add_class::<PyBatches>()?;
    module.add_class::<PyBatch>()
}
