//! The search beside plain loops.

use proptest::prelude::*;

use super::*;
use crate::retrieval::coded::Certainty;
use crate::retrieval::graph::{Graph, SQUARE};
use crate::retrieval::tiles::Kernel;
use crate::retrieval::vectors::{Measure, Values, sum_of_products};

fn vectors(values: &[f32], width: usize) -> Vectors<'_> {
    Vectors::new(
        "vectors",
        Values::Single(values),
        values.len() / width,
        width,
    )
    .unwrap()
}

fn options() -> Options {
    Options {
        measure: Measure::Cosine,
        certainty: Certainty::Certified,
        threads: 1,
        kernel: None,
    }
}

fn index(values: &[f32], width: usize, options: Options) -> ExactIndex {
    ExactIndex::new(vectors(values, width), options).unwrap()
}

fn graph(values: &[f32], width: usize, k: usize, options: Options) -> Neighbours {
    let index = index(values, width, options);
    let mut graph = Graph::new(&index, k).unwrap();
    while graph.progress().0 < graph.progress().1 {
        graph.advance(&index, 2).unwrap();
    }
    graph
        .rank(&index, vectors(values, width), 0..index.rows())
        .unwrap()
}

/// Numbers without a pattern that a block size could hide behind.
fn scattered(count: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / 8_388_608.0 - 1.0
        })
        .collect()
}

/// Rows about a few centres, all far from the origin.
fn clustered(rows: usize, width: usize) -> Vec<f32> {
    let centres = scattered(5 * width, 2);
    let mut values = scattered(rows * width, 3);
    for (at, value) in values.iter_mut().enumerate() {
        let (row, column) = (at / width, at % width);
        *value = *value * 0.05 + centres[(row * row + 3) % 5 * width + column] + 2.0;
    }
    values
}

/// All scores in double precision, sorted.
fn plainly(
    table: Vectors<'_>,
    queries: Vectors<'_>,
    own: bool,
    k: usize,
    measure: Measure,
) -> Neighbours {
    let (mut ids, mut scores) = (vec![-1; queries.rows * k], vec![0.0; queries.rows * k]);
    let (mut room, mut other) = (vec![0.0; table.width], vec![0.0; table.width]);
    for query in 0..queries.rows {
        let q = queries.row(query, &mut room).to_vec();
        let mut found: Vec<(f32, usize)> = (0..table.rows)
            .filter(|&row| !own || row != query)
            .filter_map(|row| {
                let x = table.row(row, &mut other);
                let (sum, lengths) = (
                    sum_of_products(&q, x),
                    (sum_of_products(&q, &q).sqrt(), sum_of_products(x, x).sqrt()),
                );
                match measure {
                    Measure::InnerProduct => Some((sum as f32, row)),
                    Measure::Cosine if lengths.0 == 0.0 || lengths.1 == 0.0 => None,
                    Measure::Cosine => {
                        let cosine = sum * ((1.0 / lengths.0) * (1.0 / lengths.1));
                        Some(((cosine as f32).clamp(-1.0, 1.0), row))
                    }
                }
            })
            .collect();
        found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (place, (score, row)) in found.into_iter().take(k).enumerate() {
            ids[query * k + place] = row as i32;
            scores[query * k + place] = score;
        }
    }
    Neighbours { ids, scores }
}

#[test]
fn the_graph_is_that_of_plain_loops_with_every_kernel_and_any_threads() {
    let (rows, width, k) = (2 * SQUARE + 77, 19, 10);
    for values in [scattered(rows * width, 1), clustered(rows, width)] {
        let table = vectors(&values, width);
        let expected = plainly(table, table, true, k, Measure::Cosine);
        for kernel in Kernel::available() {
            for threads in [1, 3] {
                let options = Options {
                    threads,
                    kernel: Some(kernel),
                    ..options()
                };
                assert!(
                    expected == graph(&values, width, k, options),
                    "{kernel:?} {threads}"
                );
            }
        }
        let likely = Options {
            certainty: Certainty::Likely,
            ..options()
        };
        assert!(expected == graph(&values, width, k, likely));
        let some = index(&values, width, options())
            .search_rows(table, 600..901, k)
            .unwrap();
        assert_eq!(expected.ids[6000..9010], some.ids);
        assert_eq!(expected.scores[6000..9010], some.scores);
    }
}

#[test]
fn rows_of_which_too_many_survive_are_answered_all_the_same() {
    // Three rows a thousand times: nearly everything ties.
    let values = scattered(3 * 8, 5).repeat(2000);
    let table = vectors(&values, 8);
    let index = index(&values, 8, options());
    let k = 5;
    let found = index.search_rows(table, 100..140, k).unwrap();
    let expected = plainly(table, table, true, k, Measure::Cosine);
    assert_eq!(expected.ids[100 * k..140 * k], found.ids);
    assert_eq!(expected.scores[100 * k..140 * k], found.scores);
    let mut graph = Graph::new(&index, k).unwrap();
    graph.advance(&index, usize::MAX).unwrap();
    assert!(expected == graph.rank(&index, table, 0..6000).unwrap());
}

#[test]
fn a_broken_bound_is_seen_and_the_row_answered_by_exact_scores() {
    let values = scattered(900 * 16, 7);
    let table = vectors(&values, 16);
    let mut broken = index(&values, 16, options());
    // Codes that stand for something else, under bounds that promise to be close.
    for code in &mut broken.coded.codes.coarse[..16 * 400] {
        *code = code.saturating_add(90);
    }
    let found = broken.search_rows(table, 0..900, 8).unwrap();
    assert!(broken.again() > 300, "{}", broken.again());
    let expected = plainly(table, table, true, 8, Measure::Cosine);
    let same = found
        .ids
        .iter()
        .zip(&expected.ids)
        .filter(|(a, b)| a == b)
        .count();
    // A row of which no score was looked at closely is not caught; here they are few.
    assert!(same * 10 > found.ids.len() * 9, "{same}");
}

#[test]
fn a_row_is_left_out_by_its_number_and_its_twin_stays() {
    let found = graph(&[1.0, 0.0, 2.0, 0.0, 0.0, 1.0], 2, 1, options());
    assert_eq!(found.ids, [1, 0, 0]);
    assert!((found.scores[0] - 1.0).abs() < 1e-6);
}

#[test]
fn ties_go_to_the_smaller_row_in_every_block() {
    let rows = SQUARE + 7;
    let found = graph(&[0.3, 0.4, 0.5].repeat(rows), 3, 3, options());
    assert_eq!(found.ids[..6], [1, 2, 3, 0, 2, 3]);
    assert_eq!(found.ids[(rows - 1) * 3..], [0, 1, 2]);
}

#[test]
fn a_zero_vector_has_no_neighbours_and_is_none() {
    let found = graph(&[0.0, 0.0, 1.0, 0.0, -1.0, 0.0], 2, 2, options());
    assert_eq!(found.ids, [-1, -1, 2, -1, 1, -1]);
}

#[test]
fn nan_and_what_does_not_fit_is_refused() {
    let error = ExactIndex::new(vectors(&[1.0, 2.0, f32::NAN, 0.0], 2), options())
        .err()
        .unwrap();
    assert!(error.to_string().contains("row 1 holds NaN"), "{error}");
    let values = scattered(40, 1);
    let made = index(&values, 4, options());
    let table = vectors(&values, 4);
    let other = vectors(&values[..20], 4);
    for (message, error) in [
        (
            "5 numbers a row",
            made.search(table, vectors(&values, 5), 3).err(),
        ),
        ("10 rows of 4", made.search(other, table, 3).err()),
        ("at least 1", made.search(table, other, 0).err()),
        ("8..11", made.search_rows(table, 8..11, 3).err()),
        (
            "0 of 1 pieces",
            Graph::new(&made, 3).unwrap().rank(&made, table, 0..3).err(),
        ),
    ] {
        let text = error.unwrap().to_string();
        assert!(text.contains(message), "{text}");
    }
    let inner = Options {
        measure: Measure::InnerProduct,
        ..options()
    };
    assert!(Graph::new(&index(&values, 4, inner), 3).is_err());
}

#[test]
fn more_neighbours_than_rows_leave_empty_slots() {
    let values = [1.0, 0.0, 1.0, 1.0];
    let found = index(&values, 2, options())
        .search(vectors(&values, 2), vectors(&[0.0, 1.0], 2), 4)
        .unwrap();
    assert_eq!(found.ids, [1, 0, -1, -1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn queries_find_what_plain_loops_find(
        seed in 0_u64..1000, width in 1_usize..40, rows in 1_usize..700, k in 1_usize..40,
        inner in any::<bool>(), size in -30_i32..30, half in any::<bool>(),
    ) {
        let measure = if inner { Measure::InnerProduct } else { Measure::Cosine };
        let scale = if half { 1.0 } else { 2_f32.powi(size) };
        let mut values = scattered(rows * width, seed);
        for value in &mut values {
            *value *= scale;
        }
        // Some rows twice, some of zeros.
        if rows > 20 {
            values.copy_within(0..3 * width, 9 * width);
            values[15 * width..16 * width].fill(0.0);
        }
        let asked = scattered(33 * width, seed + 1);
        let halves: Vec<u16> = values.iter().map(|x| (x.to_bits() >> 16) as u16 & 0xbbff).collect();
        let table = if half {
            Vectors::new("vectors", Values::Half(&halves), rows, width).unwrap()
        } else {
            vectors(&values, width)
        };
        let queries = vectors(&asked, width);
        for certainty in [Certainty::Certified, Certainty::Likely] {
            for kernel in Kernel::available() {
                let options = Options { measure, certainty, kernel: Some(kernel), threads: 2 };
                let index = ExactIndex::new(table, options).unwrap();
                let found = index.search(table, queries, k).unwrap();
                let expected = plainly(table, queries, false, k, measure);
                prop_assert_eq!(&found, &expected);
            }
        }
    }
}
