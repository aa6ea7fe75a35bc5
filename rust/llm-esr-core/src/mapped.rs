//! Memory-mapped `.npy` files; the crate's only `unsafe`.
#![allow(unsafe_code)]

use std::fs::File;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use memmap2::Mmap;

use crate::errors::{Error, Result};

/// A number type that a `.npy` file may hold.
pub trait Element: Copy + Send + Sync + 'static {
    /// NumPy's name of the little-endian type.
    const DESCRIPTION: &'static str;
}

macro_rules! element {
    ($kind:ty, $name:literal) => {
        impl Element for $kind {
            const DESCRIPTION: &'static str = $name;
        }
    };
}
element!(i32, "<i4");
element!(i64, "<i8");
element!(f32, "<f4");

/// A C-ordered `.npy` file of one element type, mapped into memory and read-only.
#[derive(Debug)]
pub struct MappedArray<T: Element> {
    path: PathBuf,
    map: Mmap,
    start: usize,
    shape: Vec<usize>,
    kind: PhantomData<T>,
}

impl<T: Element> MappedArray<T> {
    /// Opens a file and checks its header and length.
    ///
    /// # Errors
    /// A missing or unreadable file; another element type, order or number of axes; a file cut short.
    pub fn open(path: &Path, axes: usize) -> Result<Self> {
        let file = File::open(path).map_err(|error| Error::io(path, error))?;
        // SAFETY: the package writes these files once under a temporary name and renames them; nobody writes to them
        // afterwards. Truncating a mapped file from outside is the one misuse that no check can prevent.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| Error::io(path, error))?;
        let (start, shape) = parse_header(&map, T::DESCRIPTION, path)?;
        if shape.len() != axes {
            return Err(Error::format(
                path,
                format!("has {} axes, expected {axes}", shape.len()),
            ));
        }
        let length = shape
            .iter()
            .try_fold(1usize, |product, n| product.checked_mul(*n));
        let bytes = length
            .and_then(|n| n.checked_mul(size_of::<T>()))
            .and_then(|n| n.checked_add(start));
        if bytes != Some(map.len()) {
            let came = map.len();
            return Err(Error::format(
                path,
                format!(
                    "is {came} bytes long, its header says {bytes:?}; it was cut short, make it again"
                ),
            ));
        }
        if !(map.as_ptr() as usize + start).is_multiple_of(align_of::<T>()) {
            return Err(Error::format(
                path,
                "its data are not aligned; write it with numpy.save",
            ));
        }
        Ok(Self {
            path: path.to_path_buf(),
            map,
            start,
            shape,
            kind: PhantomData,
        })
    }

    /// All elements in C order.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        let length = self.shape.iter().product();
        // SAFETY: `open` checked that `length` elements of T lie behind `start` and that they are aligned; every bit
        // pattern is a valid T; the map lives as long as `self`.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(self.start).cast::<T>(), length) }
    }

    /// The shape.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Row `index` of an array with two axes.
    #[must_use]
    pub fn row(&self, index: usize) -> &[T] {
        let width = self.shape[1];
        &self.as_slice()[index * width..(index + 1) * width]
    }
}

fn parse_header(bytes: &[u8], description: &str, path: &Path) -> Result<(usize, Vec<usize>)> {
    let damaged =
        |what: &str| Error::format(path, format!("is not a .npy file ({what}); make it again"));
    if bytes.len() < 10 || &bytes[..6] != b"\x93NUMPY" {
        return Err(damaged("no NumPy magic"));
    }
    let (length, first) = match bytes[6] {
        1 => (usize::from(u16::from_le_bytes([bytes[8], bytes[9]])), 10),
        2 | 3 if bytes.len() >= 12 => (
            u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]) as usize,
            12,
        ),
        _ => return Err(damaged("unknown version")),
    };
    let header = bytes
        .get(first..first + length)
        .ok_or_else(|| damaged("header cut short"))?;
    let text = std::str::from_utf8(header).map_err(|_| damaged("header is not text"))?;
    let value = |key: &str| {
        let rest = &text[text.find(key)? + key.len()..];
        Some(rest[rest.find(':')? + 1..].trim_start())
    };
    let came = value("'descr'")
        .and_then(|v| v.split('\'').nth(1))
        .ok_or_else(|| damaged("no descr"))?;
    if came != description {
        return Err(Error::format(
            path,
            format!("holds elements of type {came}, expected {description}"),
        ));
    }
    if !value("'fortran_order'").is_some_and(|v| v.starts_with("False")) {
        return Err(Error::format(path, "is in Fortran order, expected C order"));
    }
    let shape = value("'shape'")
        .and_then(|v| Some(&v[v.find('(')? + 1..v.find(')')?]))
        .ok_or_else(|| damaged("no shape"))?;
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
        .map(str::parse)
        .collect::<std::result::Result<Vec<usize>, _>>()
        .map_err(|_| damaged("shape is not numbers"))?;
    Ok((first + length, shape))
}
