//! Headers of `.npy` files, read from bytes alone: what `mapped.rs` maps is checked here first.
//!
//! Only what NumPy writes is read: one dictionary with `descr`, `fortran_order` and `shape`, each once. A header that
//! another reader could take for something else is refused.

use crate::mapped::Number;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Where the numbers of a `.npy` file lie, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbers {
    /// The first byte behind the header; aligned for the type where the file begins aligned.
    pub start: usize,
    /// How many numbers; they end where the file ends.
    pub len: usize,
    /// Length of each axis.
    pub shape: Vec<usize>,
}

/// Finds the numbers of a whole `.npy` file, which must be an array of `axes` axes, exactly this type, in C order.
///
/// # Errors
/// What is wrong, without the file's name.
pub fn numbers<T: Number>(bytes: &[u8], axes: usize) -> Result<Numbers, String> {
    let (header, start) = header_of(bytes).map_err(|what| format!("it is no .npy file: {what}"))?;
    let Header {
        descr,
        fortran_order,
        shape,
    } = Header::read(header).ok_or(
        "its .npy header is not the three entries 'descr' (a plain type), 'fortran_order' and 'shape'; make it again",
    )?;
    if descr != T::DESCR {
        return Err(format!(
            "its numbers are of type '{descr}', expected '{}' ({}); make it again",
            T::DESCR,
            T::NAME
        ));
    }
    if shape.len() != axes {
        return Err(format!(
            "its shape is {shape:?}, expected {axes} axes; make it again"
        ));
    }
    if fortran_order && axes > 1 {
        return Err("it is in Fortran order; save it with numpy.ascontiguousarray".into());
    }
    let there = bytes.len() - start;
    let (Some(len), Some(wanted)) = (product(&shape, 1), product(&shape, size_of::<T>())) else {
        return Err(format!(
            "its shape is {shape:?}; it is damaged, make it again"
        ));
    };
    if there != wanted {
        return Err(format!(
            "it holds {there} bytes of numbers, its shape {shape:?} needs {wanted}; it is damaged, make it again"
        ));
    }
    if !start.is_multiple_of(align_of::<T>()) {
        return Err("its numbers are not aligned; save it again with numpy.save".into());
    }
    Ok(Numbers { start, len, shape })
}

/// The product of the axes and `size`; none where it, or that of the axes that are not 0, is beyond what memory has.
fn product(shape: &[usize], size: usize) -> Option<usize> {
    let mut bytes = size;
    for &axis in shape {
        bytes = bytes.checked_mul(axis.max(1))?;
    }
    let empty = shape.contains(&0);
    isize::try_from(bytes).ok()?;
    Some(if empty { 0 } else { bytes })
}

/// The header's text and where the numbers start.
fn header_of(bytes: &[u8]) -> Result<(&str, usize), String> {
    if !bytes.starts_with(MAGIC) || bytes.len() < 12 {
        return Err("it does not begin with \\x93NUMPY".into());
    }
    let (length, from) = match (bytes[6], bytes[7]) {
        (1, 0) => (u32::from(u16::from_le_bytes([bytes[8], bytes[9]])), 10),
        (2 | 3, 0) => (
            u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
            12,
        ),
        (major, minor) => return Err(format!("format version {major}.{minor}")),
    };
    let header = usize::try_from(length)
        .ok()
        .and_then(|length| bytes[from..].get(..length))
        .ok_or("its header is cut short")?;
    let text = std::str::from_utf8(header).map_err(|_| "its header is no text")?;
    Ok((text, from + header.len()))
}

/// The three entries of a header.
struct Header<'a> {
    descr: &'a str,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl<'a> Header<'a> {
    /// None where the text is anything but a dictionary of the three.
    fn read(text: &'a str) -> Option<Self> {
        let mut rest = text.trim().strip_prefix('{')?.strip_suffix('}')?;
        let (mut descr, mut fortran_order, mut shape) = (None, None, None);
        loop {
            rest = rest.trim_start();
            if rest.is_empty() {
                break;
            }
            let (name, after) = quoted(rest)?;
            let value = after.trim_start().strip_prefix(':')?.trim_start();
            rest = match name {
                "descr" => entry(&mut descr, quoted(value)?)?,
                "fortran_order" => entry(&mut fortran_order, truth(value)?)?,
                "shape" => entry(&mut shape, axes(value)?)?,
                _ => return None,
            }
            .trim_start();
            if !rest.is_empty() {
                rest = rest.strip_prefix(',')?;
            }
        }
        Some(Self {
            descr: descr?,
            fortran_order: fortran_order?,
            shape: shape?,
        })
    }
}

/// Keeps an entry's value, and gives what follows it; none where the entry was there already.
fn entry<'a, V>(slot: &mut Option<V>, (value, rest): (V, &'a str)) -> Option<&'a str> {
    slot.replace(value).is_none().then_some(rest)
}

/// A text between single quotes without escapes, and what follows.
fn quoted(text: &str) -> Option<(&str, &str)> {
    let (inside, rest) = text.strip_prefix('\'')?.split_once('\'')?;
    (!inside.contains('\\')).then_some((inside, rest))
}

fn truth(text: &str) -> Option<(bool, &str)> {
    let named = |name, value| text.strip_prefix(name).map(|rest| (value, rest));
    named("True", true).or_else(|| named("False", false))
}

/// The lengths of a tuple, and what follows. `(3)` is a number in Python, so one axis is `(3,)`.
fn axes(text: &str) -> Option<(Vec<usize>, &str)> {
    let (inside, rest) = text.strip_prefix('(')?.split_once(')')?;
    let inside = inside.trim();
    if inside.is_empty() {
        return Some((Vec::new(), rest));
    }
    let (inside, closed) = match inside.strip_suffix(',') {
        Some(inside) => (inside, true),
        None => (inside, false),
    };
    let lengths: Vec<usize> = inside.split(',').map(length).collect::<Option<_>>()?;
    (closed || lengths.len() > 1).then_some((lengths, rest))
}

fn length(text: &str) -> Option<usize> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Python reads no number that begins in a 0.
    let plain = digits && (text == "0" || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npy(version: [u8; 2], header: &str, body: usize) -> Vec<u8> {
        let from = if version[0] == 1 { 10 } else { 12 };
        let width = (from + header.len() + 1).next_multiple_of(64) - from;
        let mut bytes = [MAGIC, &version].concat();
        bytes.extend(&(width as u32).to_le_bytes()[..from - 8]);
        bytes.extend(format!("{header:<0$}\n", width - 1).bytes());
        bytes.resize(bytes.len() + body, 7);
        bytes
    }

    fn header(shape: &str) -> String {
        format!("{{'descr': '<i4', 'fortran_order': False, 'shape': {shape}, }}")
    }

    #[test]
    fn what_numpy_writes_is_read_in_every_version() {
        for version in [[1, 0], [2, 0], [3, 0]] {
            let found = numbers::<i32>(&npy(version, &header("(2, 3)"), 24), 2).unwrap();
            assert_eq!((found.len, found.shape), (6, vec![2, 3]));
            assert_eq!(found.start % 64, 0);
        }
        let none = numbers::<i32>(&npy([1, 0], &header("(0,)"), 0), 1).unwrap();
        assert_eq!((none.len, none.shape), (0, vec![0]));
        assert_eq!(
            numbers::<i32>(&npy([1, 0], &header("()"), 4), 0)
                .unwrap()
                .len,
            1
        );
    }

    #[test]
    fn a_header_that_could_mean_something_else_is_refused() {
        for text in [
            "",
            "{}",
            "{'descr': '<i4', 'shape': (6,), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (6), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (+6,), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (06,), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (6,,), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (6L,), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (-6,), }",
            "{'descr': '<i4', 'fortran_order': None, 'shape': (6,), }",
            "{'descr': '<i4', 'fortran_order': False 'shape': (6,), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (6,), 'shape': (6,), }",
            "{'descr': '<i4', 'fortran_order': False, 'shape': (6,), 'more': 1, }",
            "{'descr': [('a', '<i4')], 'fortran_order': False, 'shape': (6,), }",
            "{'note': \"'descr': '<i4', 'shape': (6,)\", 'fortran_order': False, }",
        ] {
            let refused = numbers::<i32>(&npy([1, 0], text, 24), 1).unwrap_err();
            assert!(refused.contains("three entries"), "{text}: {refused}");
        }
    }

    #[test]
    fn a_shape_beyond_memory_is_refused_even_where_an_axis_is_0() {
        let most = usize::MAX;
        for shape in [
            format!("({most}, {most})"),
            format!("(0, {most})"),
            format!("({}, 4)", 1_u64 << 62),
            format!("(0, {})", 1_u64 << 61),
        ] {
            let refused = numbers::<i32>(&npy([1, 0], &header(&shape), 0), 2).unwrap_err();
            assert!(refused.contains("shape"), "{shape}: {refused}");
        }
        let refused = numbers::<i32>(&npy([1, 0], &header(&format!("({most}0,)")), 0), 1);
        assert!(refused.unwrap_err().contains("three entries"));
    }

    #[test]
    fn lengths_and_versions_that_lie_are_refused() {
        for version in [[0, 0], [1, 1], [4, 0], [255, 255]] {
            let refused = numbers::<i32>(&npy(version, &header("(2,)"), 8), 1).unwrap_err();
            assert!(refused.contains("format version"), "{refused}");
        }
        for version in [[1, 0], [2, 0], [3, 0]] {
            let mut bytes = npy(version, &header("(2,)"), 8);
            bytes[8..12].fill(0xff);
            let refused = numbers::<i32>(&bytes, 1).unwrap_err();
            assert!(refused.contains("cut short"), "{refused}");
        }
        let whole = npy([1, 0], &header("(2,)"), 8);
        for end in 0..whole.len() {
            assert!(numbers::<i32>(&whole[..end], 1).is_err(), "cut at {end}");
        }
    }
}
