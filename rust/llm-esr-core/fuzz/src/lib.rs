//! One function for each reader of the core: it reads any bytes, and what it accepts is checked against an oracle.
//!
//! The fuzz targets call these with inputs without end; `tests/corpus.rs` of the core with those that are kept.

use std::path::Path;

use llm_esr_core::contents::Contents;
use llm_esr_core::mapped::Number;
use llm_esr_core::neighbour_tables::{Kind, Table, Training};
use llm_esr_core::npy::numbers;
use llm_esr_core::smoothing::limits;
use llm_esr_core::tables::{Layout, Malformed, TableReader};
use llm_esr_core::workers::Alone;

/// Reads an input, says whether it was accepted, and panics where it was read wrongly.
pub type Reader = fn(&[u8]) -> bool;

/// The names of the readers, which are those of the targets and of the corpus folders.
pub const READERS: [(&str, Reader); 5] = [
    ("npy", npy),
    ("contents", contents),
    ("smoothing", smoothing),
    ("training", training),
    ("tables", tables),
];

/// A `.npy` file of any type and number of axes.
pub fn npy(data: &[u8]) -> bool {
    (0..4).any(|axes| {
        let accepted = [npy_of::<i32>, npy_of::<i64>, npy_of::<f32>].map(|read| read(data, axes));
        accepted.contains(&true)
    })
}

fn npy_of<T: Number>(data: &[u8], axes: usize) -> bool {
    let Ok(found) = numbers::<T>(data, axes) else {
        return false;
    };
    let bytes: u128 = found.shape.iter().map(|&axis| axis as u128).product();
    assert_eq!(bytes, found.len as u128);
    assert_eq!(
        found.start as u128 + bytes * size_of::<T>() as u128,
        data.len() as u128
    );
    assert_eq!(found.start % align_of::<T>(), 0);
    assert_eq!(found.shape.len(), axes);
    // The header, written anew from what was read in the order that it names, is what was read.
    let from = if data[6] == 1 { 10 } else { 12 };
    let header = std::str::from_utf8(&data[from..found.start]).unwrap();
    let solid: String = header.chars().filter(|c| !c.is_whitespace()).collect();
    let entry = |name: &str| solid.find(name).expect("an entry that was read is there");
    let shape: Vec<String> = found.shape.iter().map(ToString::to_string).collect();
    let order = if solid.contains("True") {
        "True"
    } else {
        "False"
    };
    assert!(order == "False" || axes < 2);
    let comma = if axes == 1 { "," } else { "" };
    let mut entries = [
        ("'descr':", format!("'descr':'{}'", T::DESCR)),
        ("'fortran_order':", format!("'fortran_order':{order}")),
        ("'shape':", format!("'shape':({}{comma})", shape.join(","))),
    ];
    entries.sort_by_key(|(name, _)| entry(name));
    let written = entries.map(|(_, text)| text).join(",");
    let read = solid
        .replace(",)", ")")
        .replace(",}", "}")
        .replace(['{', '}'], "");
    assert_eq!(read, written.replace(",)", ")"));
    true
}

/// Numbers taken from the front of an input; zeros behind its end.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let mut taken = [0; N];
        let count = N.min(self.0.len());
        taken[..count].copy_from_slice(&self.0[..count]);
        self.0 = &self.0[count..];
        taken
    }

    fn byte(&mut self) -> usize {
        usize::from(self.take::<1>()[0])
    }

    /// Small numbers, as arrays that fit each other have, or any.
    fn wide(&mut self, wide: bool) -> i64 {
        if wide {
            i64::from_le_bytes(self.take())
        } else {
            i64::from(i8::from_le_bytes(self.take()))
        }
    }

    /// Numbers of eight bytes or of one.
    fn wides(&mut self, count: usize, wide: bool) -> Vec<i64> {
        (0..count).map(|_| self.wide(wide)).collect()
    }

    /// The same as item ids, cut to their width.
    fn items(&mut self, count: usize, wide: bool) -> Vec<i32> {
        (0..count).map(|_| self.wide(wide) as i32).collect()
    }
}

/// The three arrays of a data folder.
pub fn contents(data: &[u8]) -> bool {
    let mut bytes = Bytes(data);
    let (n_items, flags) = (bytes.byte(), bytes.byte());
    let (users, count) = (bytes.byte() % 16, bytes.byte() % 64);
    let offsets = bytes.wides(users, flags & 1 != 0);
    let splits = 2 * users.saturating_sub(1) + (flags >> 4) % 3;
    let splits = bytes.wides(splits, flags & 2 != 0);
    let items = bytes.items(count, flags & 4 != 0);
    let whole = Contents {
        offsets: &offsets,
        items: &items,
        splits: &splits,
        n_items,
    };
    // Every user's parts are there, one after another, and together they are the items.
    let mut rest = &items[..];
    let mut fits = splits.len() == 2 * users.saturating_sub(1) && offsets.first() == Some(&0);
    for user in 1..users {
        let length = i128::from(offsets[user]) - i128::from(offsets[user - 1]);
        let [train, validation] = [2 * user - 2, 2 * user - 1].map(|at| splits.get(at).copied());
        let part = usize::try_from(length).ok().filter(|&n| n <= rest.len());
        fits &= part.is_some()
            && train.is_some_and(|end| end >= 0)
            && train <= validation
            && validation.is_some_and(|end| i128::from(end) <= length);
        rest = &rest[part.unwrap_or(0)..];
    }
    fits &= rest.is_empty() && items.iter().all(|&id| id > 0 && id as usize <= n_items);
    assert_eq!(whole.check().is_ok(), fits, "{whole:?}");
    fits
}

/// Nearest items and their scores.
pub fn smoothing(data: &[u8]) -> bool {
    let mut bytes = Bytes(data);
    let columns = bytes.byte() % 12 + 1;
    let rows = bytes.byte() % 6;
    let temperature = f64::from_le_bytes(bytes.take());
    if temperature.is_nan() || temperature <= 0.0 {
        return false;
    }
    let ids: Vec<i32> = (0..rows * columns)
        .map(|_| bytes.wide(false) as i32)
        .collect();
    let scores: Vec<f32> = ids
        .iter()
        .map(|_| f32::from_le_bytes(bytes.take()))
        .collect();
    let finite = ids
        .iter()
        .zip(&scores)
        .all(|(&id, score)| id <= 0 || score.is_finite());
    let found = limits(&ids, &scores, columns, temperature);
    assert_eq!(found.is_ok(), finite);
    let Ok(found) = found else { return false };
    assert_eq!(found.len(), ids.len());
    for (row, ids) in found.chunks_exact(columns).zip(ids.chunks_exact(columns)) {
        for &word in row.iter().flat_map(|limit| [limit, &0, &u32::MAX]) {
            for word in [word, word.saturating_add(1)] {
                let chosen = row.iter().filter(|&&limit| word > limit).count();
                let last = ids.iter().rposition(|&id| id > 0).unwrap_or(0);
                assert!(chosen <= last, "{row:?} {ids:?}");
            }
        }
        assert!(
            row.windows(2).all(|pair| pair[0] <= pair[1]),
            "{row:?} {ids:?}"
        );
    }
    true
}

/// Training sequences that tables are counted from.
pub fn training(data: &[u8]) -> bool {
    let mut bytes = Bytes(data);
    let (n_items, width, flags) = (bytes.byte() % 40, bytes.byte() % 48, bytes.byte());
    let (users, count) = (bytes.byte() % 12, bytes.byte() % 64);
    let offsets = bytes.wides(users, flags & 1 != 0);
    let lengths = users.saturating_sub(1) + (flags >> 4) % 2;
    let lengths = bytes.wides(lengths, flags & 2 != 0);
    let items = bytes.items(count, flags & 4 != 0);
    let training = Training {
        items: &items,
        offsets: &offsets,
        lengths: &lengths,
        n_items,
    };
    let mut accepted = false;
    for kind in [Kind::Transitions, Kind::CoOccurrence] {
        if let Ok(table) = training.table(kind, width, &Alone) {
            check_table(&table, n_items, width);
            accepted = true;
        }
    }
    accepted
}

fn check_table(table: &Table, n_items: usize, width: usize) {
    assert_eq!(table.ids.len(), n_items * width);
    assert_eq!(table.values.len(), n_items * width);
    let rows = table
        .ids
        .chunks_exact(width)
        .zip(table.values.chunks_exact(width));
    for (item, (ids, values)) in rows.enumerate() {
        let filled = ids.iter().take_while(|&&id| id != 0).count();
        assert!(ids[filled..].iter().all(|&id| id == 0));
        assert!(values[filled..].iter().all(|&value| value == 0.0));
        let mut seen = ids[..filled].to_vec();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), filled);
        assert!(seen.iter().all(|&id| id > 0 && id as usize <= n_items));
        assert!(!seen.contains(&(item as i32 + 1)));
        assert!(
            values[..filled]
                .iter()
                .all(|&value| value > 0.0 && value.is_finite())
        );
        assert!(values.windows(2).all(|pair| pair[0] >= pair[1]));
    }
}

type Rows = (Vec<i64>, Vec<Vec<String>>, Vec<Malformed>, Option<String>);

fn rows(bytes: &[u8], layout: Layout, chunk: usize) -> Option<Rows> {
    let mut reader = TableReader::from_bytes(bytes.to_vec(), Path::new("fuzz"), layout).ok()?;
    let places: Vec<usize> = (0..reader.columns().len()).collect();
    let mut found = (Vec::new(), vec![Vec::new(); places.len()], Vec::new(), None);
    loop {
        match reader.read(chunk, &places) {
            Ok(Some(part)) => {
                assert!(part.lines.len() + part.malformed.len() <= chunk);
                found.0.extend(part.lines);
                found.2.extend(part.malformed);
                for (all, column) in found.1.iter_mut().zip(&part.columns) {
                    all.extend(column.iter().map(str::to_owned));
                }
            }
            Ok(None) => return Some(found),
            Err(error) => {
                found.3 = Some(error.to_string());
                return Some(found);
            }
        }
    }
}

/// A text table, plain or gzip.
pub fn tables(data: &[u8]) -> bool {
    let Some((&first, text)) = data.split_first() else {
        return false;
    };
    let layout = match first % 6 {
        0 => Layout::Pairs,
        1 => Layout::Delimited(Some(b',')),
        2 => Layout::Delimited(Some(b'\t')),
        3 => Layout::Delimited(Some(b'|')),
        _ => Layout::Delimited(None),
    };
    let Some(whole) = rows(text, layout, 1 << 20) else {
        assert!(rows(text, layout, 1).is_none());
        return false;
    };
    let (lines, columns, malformed, failed) = &whole;
    assert!(columns.iter().all(|column| column.len() == lines.len()));
    assert!(lines.windows(2).all(|pair| pair[0] < pair[1]), "{lines:?}");
    assert!(
        malformed.windows(2).all(|pair| pair[0].line < pair[1].line),
        "{malformed:?}"
    );
    assert!(
        malformed
            .iter()
            .all(|one| one.line >= 1 && one.line <= one.last_line),
        "{malformed:?}"
    );
    if failed.is_none() {
        // However the rows are cut into chunks, they are the same rows.
        assert_eq!(rows(text, layout, 1).as_ref(), Some(&whole));
    }
    failed.is_none()
}
