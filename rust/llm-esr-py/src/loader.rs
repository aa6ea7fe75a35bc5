//! Bindings of the batch loader.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;

use llm_esr_core::Error;
use llm_esr_core::augmentation::Ratios;
use llm_esr_core::loader::{Batches, Loader, Shares, Waited};
use llm_esr_core::pool::Pooled;
use llm_esr_core::recipe::{Kind, Options, Recipe, Shown, Targets};
use llm_esr_core::smoothing::Smoothing;
use llm_esr_core::store::SimilarUsers;
use numpy::{PyArray1, PyArray2};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::arrays::Keeper;
use crate::conversion::{to_py, without_gil};
use crate::sequences::{PySequences, layout_of};
use crate::store::PyStore;

/// Between two looks for Ctrl-C.
const PATIENCE: Duration = Duration::from_millis(100);

/// Makes epochs of batches.
#[pyclass(name = "Loader", module = "llm_esr._native", frozen)]
pub struct PyLoader(Loader);

#[pymethods]
impl PyLoader {
    // Python names them all; one struct of options would be taken apart again right here.
    #[allow(clippy::too_many_arguments, clippy::fn_params_excessive_bools)]
    #[new]
    #[pyo3(signature = (store, folder, *, seed, batch_size, max_len, layout, sequence, targets, padding_tokens,
                        mask_probability, append_mask, augmentation, similar_users, negatives, n_negatives, exponent, only_met,
                        smoothing, smoothing_temperature, threads, rank, world_size, shuffle))]
    fn new(
        py: Python<'_>,
        store: &PyStore,
        folder: PathBuf,
        seed: u64,
        batch_size: usize,
        max_len: usize,
        layout: &str,
        sequence: &str,
        targets: &str,
        padding_tokens: bool,
        mask_probability: Option<f64>,
        append_mask: bool,
        augmentation: (f64, f64, f64, f64),
        similar_users: usize,
        negatives: Option<&str>,
        n_negatives: usize,
        exponent: Option<f64>,
        only_met: bool,
        smoothing: f64,
        smoothing_temperature: f64,
        threads: usize,
        rank: usize,
        world_size: usize,
        shuffle: bool,
    ) -> PyResult<Self> {
        let (probability, crop, mask, reorder) = augmentation;
        let options = Options {
            seed,
            max_len,
            layout: layout_of(layout)?,
            sequence: shown_of(sequence)?,
            targets: targets_of(targets)?,
            padding_tokens,
            mask_probability,
            append_mask,
            augmentation: Ratios {
                probability,
                crop,
                mask,
                reorder,
            },
            kind: kind_of(negatives, n_negatives)?,
            exponent,
            only_met,
        };
        let shares = Shares {
            batch_size,
            rank,
            world_size,
            shuffle,
        };
        let store = Arc::clone(&store.0);
        let loader = without_gil(py, || {
            let similar = (similar_users > 0)
                .then(|| SimilarUsers::open(&folder, store.n_users(), similar_users))
                .transpose()?;
            // Not `> 0.0`: an argument that is no probability must reach its check.
            let smoothing = (smoothing != 0.0)
                .then(|| {
                    Smoothing::open(&folder, store.n_items(), smoothing, smoothing_temperature)
                })
                .transpose()?;
            let recipe = Recipe::new(store, options, similar, smoothing)?;
            Loader::new(recipe, shares, threads)
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
        self.0.recipe().students().len()
    }

    /// The logarithm of each item's chance as a negative, float32 [I + 1]; None without negatives.
    fn log_q<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyArray1<f32>>>> {
        let logs = without_gil(py, || Ok(self.0.recipe().log_q()))?;
        Ok(logs.map(|logs| PyArray1::from_vec(py, logs)))
    }

    /// An epoch's batches from a step on.
    fn batches(&self, py: Python<'_>, epoch: u64, first_step: u64) -> PyResult<PyBatches> {
        let batches = without_gil(py, || Ok(self.0.batches(epoch, first_step)))?;
        Ok(PyBatches(Mutex::new(batches)))
    }
}

fn shown_of(name: &str) -> PyResult<Shown> {
    match name {
        "whole" => Ok(Shown::Whole),
        "without-last" => Ok(Shown::WithoutLast),
        _ => Err(to_py(Error::argument(
            "sequence",
            format!("'{name}'; expected 'whole' or 'without-last'"),
        ))),
    }
}

fn targets_of(name: &str) -> PyResult<Targets> {
    match name {
        "every" => Ok(Targets::Every),
        "last" => Ok(Targets::Last),
        _ => Err(to_py(Error::argument(
            "targets",
            format!("'{name}'; expected 'every' or 'last'"),
        ))),
    }
}

fn kind_of(name: Option<&str>, n: usize) -> PyResult<Kind> {
    match name {
        None => Ok(Kind::None),
        Some("in-batch") => Ok(Kind::InBatch),
        Some(_) if n == 0 => Err(to_py(Error::argument(
            "n_negatives",
            "0; expected at least 1, or negatives=None",
        ))),
        Some("shared") => Ok(Kind::Shared(n)),
        Some("own") => Ok(Kind::Own(n)),
        Some(other) => Err(to_py(Error::argument(
            "negatives",
            format!("'{other}'; expected 'shared', 'own', 'in-batch' or None"),
        ))),
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
            let waited = py.detach(|| match self.0.try_lock() {
                Ok(mut batches) => Some(batches.wait(PATIENCE)),
                Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner().wait(PATIENCE)),
                Err(TryLockError::WouldBlock) => None,
            });
            match waited {
                Some(Waited::Ready(batch)) => return Ok(Some(PyBatch(Arc::new(batch)))),
                Some(Waited::End) => return Ok(None),
                Some(Waited::Pending) => py.check_signals()?,
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

    /// Which showing of the user this is, int8 [B].
    #[getter]
    fn showings<'py>(this: &Bound<'py, Self>) -> Bound<'py, PyArray1<i8>> {
        Self::vector(this, &this.get().0.showings)
    }

    /// The students' sequences, in the order of `users`.
    #[getter]
    fn students(&self) -> PySequences {
        PySequences::students(Arc::clone(&self.0))
    }

    /// The distinct similar users' sequences; None without similar users.
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
