//! NumPy arrays over memory that a Python object owns; `unsafe`, as are the calls of torch's threads in `threads.rs`.
#![allow(unsafe_code)]

use numpy::ndarray::{ArrayView1, ArrayView2};
use numpy::{Element, PyArray1, PyArray2, PyArrayMethods};
use pyo3::PyClass;
use pyo3::prelude::*;

/// An array over `numbers`, which `owner` keeps alive and never moves; it is the array's base.
///
/// # Safety
/// `numbers` belongs to `owner`, which neither frees, moves nor writes it while it lives.
unsafe fn vector<'py, T: Element>(
    owner: &Bound<'py, PyAny>,
    numbers: &[T],
) -> Bound<'py, PyArray1<T>> {
    // SAFETY: what the caller promised is what NumPy needs.
    unsafe { PyArray1::borrow_from_array(&ArrayView1::from(numbers), owner.clone()) }
}

/// As `vector`, with rows.
///
/// # Safety
/// See `vector`.
unsafe fn matrix<'py, T: Element>(
    owner: &Bound<'py, PyAny>,
    numbers: &[T],
    rows: usize,
    columns: usize,
) -> Bound<'py, PyArray2<T>> {
    let view = ArrayView2::from_shape((rows, columns), numbers)
        .expect("a buffer holds rows x columns numbers");
    // SAFETY: what the caller promised is what NumPy needs.
    unsafe { PyArray2::borrow_from_array(&view, owner.clone()) }
}

/// A Python object whose buffers stay where they are, unread and unwritten by Rust, as long as it lives: a frozen
/// class that hands out views of them.
///
/// # Safety
/// Every slice that is passed with `Self` to the methods below lies in memory that `Self` (or an `Arc` in it) owns,
/// and that is neither freed, moved nor written by Rust before `Self` is dropped. Rust does not read it either, so that
/// Python may write.
pub unsafe trait Keeper: PyClass {
    /// A view of a list of numbers, writable: the buffers are Python's until the object goes.
    fn vector<'py, T: Element>(this: &Bound<'py, Self>, numbers: &[T]) -> Bound<'py, PyArray1<T>> {
        // SAFETY: the trait's promise.
        unsafe { vector(this.as_any(), numbers) }
    }

    /// A view of a matrix, row after row, writable.
    fn matrix<'py, T: Element>(
        this: &Bound<'py, Self>,
        numbers: &[T],
        rows: usize,
        columns: usize,
    ) -> Bound<'py, PyArray2<T>> {
        // SAFETY: the trait's promise.
        unsafe { matrix(this.as_any(), numbers, rows, columns) }
    }

    /// A view that cannot be written, for memory that Rust reads on: a mapped file.
    fn frozen_vector<'py, T: Element>(
        this: &Bound<'py, Self>,
        numbers: &[T],
    ) -> Bound<'py, PyArray1<T>> {
        let array = Self::vector(this, numbers);
        let _ = array.readwrite().make_nonwriteable();
        array
    }

    /// As `frozen_vector`, with rows.
    fn frozen_matrix<'py, T: Element>(
        this: &Bound<'py, Self>,
        numbers: &[T],
        rows: usize,
        columns: usize,
    ) -> Bound<'py, PyArray2<T>> {
        let array = Self::matrix(this, numbers, rows, columns);
        let _ = array.readwrite().make_nonwriteable();
        array
    }
}

// SAFETY: `PyStore` is frozen over an `Arc<Store>`, whose maps are made once and never written.
unsafe impl Keeper for crate::store::PyStore {}
// SAFETY: `PySequences` is frozen; its buffers lie in itself or in the `Arc` of a batch that only Python reads.
unsafe impl Keeper for crate::sequences::PySequences {}
// SAFETY: `PyBatch` is frozen over an `Arc<Pooled>`; the pool gets the buffers back when the last `Arc` is dropped.
unsafe impl Keeper for crate::loader::PyBatch {}
