//! NumPy arrays over memory that a Rust object owns; the bindings' only `unsafe`.
#![allow(unsafe_code)]

use numpy::ndarray::{ArrayView1, ArrayView2};
use numpy::{Element, PyArray1, PyArray2};
use pyo3::prelude::*;

/// A [n] array over `data`, which `owner` keeps alive and never changes.
pub fn view_1<'py, T: Element>(owner: &Bound<'py, PyAny>, data: &[T]) -> Bound<'py, PyArray1<T>> {
    // SAFETY: `data` lies in a frozen object's heap buffer. The array holds a reference to `owner`, so the buffer
    // outlives it; the buffer is neither moved nor touched by Rust before `owner` is dropped.
    unsafe { PyArray1::borrow_from_array(&ArrayView1::from(data), owner.clone()) }
}

/// A [rows, width] array over `data`, likewise.
pub fn view_2<'py, T: Element>(
    owner: &Bound<'py, PyAny>,
    data: &[T],
    rows: usize,
    width: usize,
) -> Bound<'py, PyArray2<T>> {
    let view =
        ArrayView2::from_shape((rows, width), data).expect("the caller's shape fits its data");
    // SAFETY: as above.
    unsafe { PyArray2::borrow_from_array(&view, owner.clone()) }
}
