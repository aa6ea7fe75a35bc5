//! Bindings of the batch loader.

use std::sync::{Arc, Mutex, PoisonError};

use llm_esr_core::Error;
use llm_esr_core::batches::{Batch, Batcher, Negatives, Settings};
use llm_esr_core::loader::{Epoch, Pool};
use llm_esr_core::negatives::Distribution;
use numpy::PyArray1;
use pyo3::prelude::*;

use crate::arrays::{view_1, view_2};
use crate::conversion::{to_py, without_gil};
use crate::sequences::{SequenceArrays, arrays, layout_of};
use crate::store::SequenceStore;

/// Makes the batches of any epoch.
#[pyclass(frozen, name = "Batcher", module = "llm_esr._native")]
struct PyBatcher {
    batcher: Arc<Batcher>,
    pool: Arc<Pool>,
}

#[pymethods]
impl PyBatcher {
    #[new]
    #[pyo3(signature = (store, *, seed, batch_size, max_len, layout, similar_users, negatives, n_negatives,
                        exponent, whole_catalogue, smoothing, smoothing_temperature, rank, world_size, shuffle))]
    #[allow(clippy::too_many_arguments)] // one keyword for each setting, as the Python side names them
    fn new(
        py: Python<'_>,
        store: &SequenceStore,
        seed: u64,
        batch_size: usize,
        max_len: usize,
        layout: &str,
        similar_users: usize,
        negatives: Option<&str>,
        n_negatives: usize,
        exponent: Option<f64>,
        whole_catalogue: bool,
        smoothing: f32,
        smoothing_temperature: f32,
        rank: usize,
        world_size: usize,
        shuffle: bool,
    ) -> PyResult<Self> {
        let settings = Settings {
            seed,
            batch_size,
            max_len,
            layout: layout_of(layout)?,
            similar_users,
            negatives: negatives_of(negatives)?,
            n_negatives,
            distribution: exponent.map_or(Distribution::Uniform, |exponent| {
                Distribution::Popularity { exponent }
            }),
            whole_catalogue,
            smoothing: (smoothing != 0.0).then_some((smoothing, smoothing_temperature)),
            rank,
            world_size,
            shuffle,
        };
        let batcher = without_gil(py, || {
            Batcher::new(Arc::clone(&store.store), &store.folder, settings)
        })?;
        Ok(Self {
            batcher: Arc::new(batcher),
            pool: Arc::default(),
        })
    }

    /// Users that are trained on, over all ranks.
    #[getter]
    fn n_students(&self) -> usize {
        self.batcher.n_students()
    }

    /// Steps an epoch.
    #[getter]
    fn n_steps(&self) -> u64 {
        self.batcher.n_steps()
    }

    /// The batches of `epoch` from `step` on, prepared by `threads` threads.
    fn start(
        &self,
        py: Python<'_>,
        epoch: u64,
        step: u64,
        threads: usize,
        ahead: u64,
    ) -> PyResult<BatchStream> {
        let epoch = without_gil(py, || {
            Ok(Epoch::start(
                &self.batcher,
                &self.pool,
                epoch,
                step,
                threads,
                ahead,
            ))
        })?;
        Ok(BatchStream {
            epoch: Mutex::new(Some(epoch)),
            pool: Arc::clone(&self.pool),
        })
    }
}

fn negatives_of(name: Option<&str>) -> PyResult<Negatives> {
    match name {
        None => Ok(Negatives::None),
        Some("own") => Ok(Negatives::Own),
        Some("shared") => Ok(Negatives::Shared),
        Some(other) => {
            let message = format!("is '{other}', expected 'own', 'shared' or None");
            Err(to_py(Error::argument("negatives", message)))
        }
    }
}

/// An epoch under way.
#[pyclass(frozen, module = "llm_esr._native")]
struct BatchStream {
    epoch: Mutex<Option<Epoch>>,
    pool: Arc<Pool>,
}

#[pymethods]
impl BatchStream {
    /// The next batch, None at the end.
    fn next(&self, py: Python<'_>) -> PyResult<Option<RawBatch>> {
        let batch = without_gil(py, || {
            let epoch = self.epoch.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(epoch.as_ref().and_then(Epoch::next_batch))
        })?;
        Ok(batch.map(|batch| RawBatch {
            batch: Some(batch),
            pool: Arc::clone(&self.pool),
        }))
    }

    /// Ends the threads.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        without_gil(py, || {
            drop(
                self.epoch
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .take(),
            );
            Ok(())
        })
    }
}

/// One batch's buffers; when the last array made from them is gone they return to the loader's pool.
#[pyclass(frozen, module = "llm_esr._native")]
struct RawBatch {
    batch: Option<Batch>,
    pool: Arc<Pool>,
}

impl RawBatch {
    fn get(&self) -> &Batch {
        self.batch.as_ref().expect("taken only by drop")
    }
}

impl Drop for RawBatch {
    fn drop(&mut self) {
        if let Some(batch) = self.batch.take() {
            self.pool.give_back(batch);
        }
    }
}

#[pymethods]
impl RawBatch {
    #[getter]
    fn epoch(&self) -> u64 {
        self.get().epoch
    }

    #[getter]
    fn step(&self) -> u64 {
        self.get().step
    }

    /// int64 [B].
    #[getter]
    fn users<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i64>> {
        view_1(slf.as_any(), &slf.get().get().users)
    }

    /// int8 [B].
    #[getter]
    fn showings<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i8>> {
        view_1(slf.as_any(), &slf.get().get().showings)
    }

    /// (items, positions, targets, offsets, slots).
    #[getter]
    fn students<'py>(slf: &Bound<'py, Self>) -> SequenceArrays<'py> {
        arrays(slf.as_any(), &slf.get().get().students)
    }

    /// (items, positions, targets, offsets, slots).
    #[getter]
    fn teachers<'py>(slf: &Bound<'py, Self>) -> SequenceArrays<'py> {
        arrays(slf.as_any(), &slf.get().get().teachers)
    }

    /// int64 [B, K].
    #[getter]
    fn teacher_index<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyAny> {
        let batch = slf.get().get();
        let rows = batch.users.len();
        view_2(
            slf.as_any(),
            &batch.teacher_index,
            rows,
            batch.teacher_index.len() / rows.max(1),
        )
        .into_any()
    }

    /// int32, flat.
    #[getter]
    fn negatives<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<i32>> {
        view_1(slf.as_any(), &slf.get().get().negatives)
    }

    /// bool, flat.
    #[getter]
    fn collision<'py>(slf: &Bound<'py, Self>) -> Bound<'py, PyArray1<bool>> {
        view_1(slf.as_any(), &slf.get().get().collision)
    }
}

pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add_class::<PyBatcher>()?;
    module.add_class::<BatchStream>()?;
    module.add_class::<RawBatch>()
}
