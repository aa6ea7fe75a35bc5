//! Memory-mapped `.npy` files, memory in large pages and prefetching; the crate's only `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use memmap2::{Mmap, MmapMut};

use crate::npy::{Numbers, numbers};
use crate::{Error, Result};

#[cfg(target_endian = "big")]
compile_error!("the .npy files of a data folder are little-endian and are mapped as they are");

/// What memory in pages may hold: any bit pattern is a value.
pub trait Plain: Copy + Send + Sync + 'static + private::Sealed {}

impl<T: Copy + Send + Sync + 'static + private::Sealed> Plain for T {}

/// A number that a `.npy` file may hold: any bit pattern is a value.
pub trait Number: Plain {
    /// The type as `.npy` headers write it.
    const DESCR: &'static str;
    /// The type's usual name.
    const NAME: &'static str;
}

mod private {
    pub trait Sealed {}
    impl Sealed for i32 {}
    impl Sealed for i64 {}
    impl Sealed for crate::packed_range::PackedRange {}
    impl Sealed for f32 {}
}

impl Number for i32 {
    const DESCR: &'static str = "<i4";
    const NAME: &'static str = "int32";
}
impl Number for i64 {
    const DESCR: &'static str = "<i8";
    const NAME: &'static str = "int64";
}
impl Number for f32 {
    const DESCR: &'static str = "<f4";
    const NAME: &'static str = "float32";
}

/// Numbers in large pages, where the system has them: read in any order they do not wait for page tables.
#[derive(Debug)]
pub struct Paged<T> {
    map: MmapMut,
    len: usize,
    number: PhantomData<T>,
}

impl<T: Plain> Paged<T> {
    /// `len` zeros.
    ///
    /// # Errors
    /// No memory.
    pub fn zeros(len: usize) -> std::io::Result<Self> {
        let map = MmapMut::map_anon((len * size_of::<T>()).max(1))?;
        // A system without large pages gives ordinary ones.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self {
            map,
            len,
            number: PhantomData,
        })
    }

    /// All numbers.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: the map starts at a page, holds `len` numbers, and lives as long as `self`; any bits are a number.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.len) }
    }

    /// All numbers, to be written.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.len) }
    }
}

/// Asks for a number's cache line ahead of its use, and does not wait; a place outside is nothing.
#[inline]
pub fn prefetch<T>(numbers: &[T], at: usize) {
    #[cfg(target_arch = "x86_64")]
    if let Some(number) = numbers.get(at) {
        use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, and it never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(number).cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (numbers, at);
}

/// The numbers of a `.npy` file, in C order; read from disk as they are touched.
#[derive(Debug)]
pub struct Mapped<T> {
    map: Mmap,
    start: usize,
    len: usize,
    shape: Vec<usize>,
    path: PathBuf,
    number: PhantomData<T>,
}

impl<T: Number> Mapped<T> {
    /// Maps `path`, which must hold an array of `axes` axes and exactly this type.
    ///
    /// # Errors
    /// A missing file, another type or number of axes, Fortran order, or a file that is cut short.
    pub fn open(path: &Path, axes: usize) -> Result<Self> {
        let file = File::open(path).map_err(|e| Error::io(path, e))?;
        // SAFETY: data folders are written under a temporary name and renamed, never changed in place, so the bytes
        // under the map stay what they are. Every bit pattern of T is a value, so even a file changed behind our
        // back gives wrong numbers, not wrong types.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| Error::io(path, e))?;
        // Where the system keeps files in large pieces it may map them so; read in any order they wait less.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        let Numbers { start, len, shape } =
            numbers::<T>(&map, axes).map_err(|message| Error::format(path, message))?;
        Ok(Self {
            map,
            start,
            len,
            shape,
            path: path.to_path_buf(),
            number: PhantomData,
        })
    }

    /// All numbers.
    #[must_use]
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: `numbers` checked that `len` numbers lie behind `start` and that they are aligned (a map begins on a
        // page); T has no invalid bit patterns; the map lives as long as the borrow.
        unsafe {
            std::slice::from_raw_parts(self.map.as_ptr().add(self.start).cast::<T>(), self.len)
        }
    }

    /// Length of each axis.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn npy(descr: &str, shape: &str, body: &[u8]) -> Vec<u8> {
        let mut header =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}");
        while (10 + header.len() + 1) % 64 != 0 {
            header.push(' ');
        }
        header.push('\n');
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(body);
        bytes
    }

    fn open(bytes: &[u8], axes: usize) -> Result<Mapped<i32>> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npy");
        fs::write(&path, bytes).unwrap();
        Mapped::open(&path, axes)
    }

    #[test]
    fn numbers_come_back_with_their_shape() {
        let body: Vec<u8> = [1_i32, -2, 3, 4, 5, 6]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect();
        let mapped = open(&npy("<i4", "(2, 3)", &body), 2).unwrap();
        assert_eq!(mapped.shape(), [2, 3]);
        assert_eq!(mapped.as_slice(), [1, -2, 3, 4, 5, 6]);
        let empty = open(&npy("<i4", "(0,)", &[]), 1).unwrap();
        assert!(empty.as_slice().is_empty());
    }

    #[test]
    fn a_wrong_type_shape_or_length_is_named() {
        for (bytes, axes, word) in [
            (npy("<i8", "(1,)", &[0; 8]), 1, "<i8"),
            (npy("<i4", "(1, 1)", &[0; 4]), 1, "axes"),
            (npy("<i4", "(3,)", &[0; 4]), 1, "12"),
            (b"PK\x03\x04 not numpy".to_vec(), 1, "NUMPY"),
        ] {
            let message = open(&bytes, axes).unwrap_err().to_string();
            assert!(message.contains(word), "{message}");
        }
        let missing = Mapped::<i32>::open(Path::new("/nowhere/a.npy"), 1).unwrap_err();
        assert!(matches!(missing, Error::FileMissing { .. }));
    }
}
