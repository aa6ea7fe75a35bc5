//! Lists beside the exact search.

use super::*;
use crate::retrieval::coded::Certainty;
use crate::retrieval::exact::ExactIndex;
use crate::retrieval::vectors::{Measure, Values};

fn vectors(values: &[f32], width: usize) -> Vectors<'_> {
    Vectors::new(
        "vectors",
        Values::Single(values),
        values.len() / width,
        width,
    )
    .unwrap()
}

fn options(measure: Measure, threads: usize) -> Options {
    Options {
        measure,
        certainty: Certainty::Certified,
        threads,
        kernel: None,
    }
}

/// Rows about many centres.
fn clustered(rows: usize, width: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut number = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / 8_388_608.0 - 1.0
    };
    let centres: Vec<f32> = (0..60 * width).map(|_| number()).collect();
    (0..rows * width)
        .map(|at| centres[(at / width * 7919) % 60 * width + at % width] + 0.4 * number())
        .collect()
}

fn all_rows(index: &ListIndex, table: Vectors<'_>, k: usize, probes: usize) -> Neighbours {
    let (mut ids, mut scores) = (vec![0; table.rows * k], vec![0.0; table.rows * k]);
    for piece in 0..index.pieces() {
        let (rows, found) = index
            .search_pieces(table, piece..piece + 1, k, probes)
            .unwrap();
        for (at, row) in rows.into_iter().enumerate() {
            let to = row as usize * k;
            ids[to..to + k].copy_from_slice(&found.ids[at * k..][..k]);
            scores[to..to + k].copy_from_slice(&found.scores[at * k..][..k]);
        }
    }
    Neighbours { ids, scores }
}

#[test]
fn all_lists_give_the_exact_neighbours_and_few_give_the_recall_that_was_told() {
    let (width, k) = (24, 10);
    let values = clustered(3000, width, 1);
    let table = vectors(&values, width);
    let exact = ExactIndex::new(table, options(Measure::Cosine, 2))
        .unwrap()
        .search_rows(table, 0..3000, k)
        .unwrap();
    let index = ListIndex::new(table, options(Measure::Cosine, 2), 0, 7).unwrap();
    assert_eq!(index.lists(), 219);
    assert!(exact == all_rows(&index, table, k, index.lists()));
    let recalls = index.recalls(table, Sample::Own(3000, 0), k).unwrap();
    for probes in [1, 5, 20] {
        let found = all_rows(&index, table, k, probes);
        let mut same = 0;
        for (found, exact) in found.ids.chunks(k).zip(exact.ids.chunks(k)) {
            same += found.iter().filter(|id| exact.contains(id)).count();
        }
        let measured = same as f64 / exact.ids.len() as f64;
        assert!(
            (measured - recalls.mean[probes - 1]).abs() < 0.02,
            "{probes} {measured}"
        );
    }
    assert!(recalls.mean[19] > 0.9 && recalls.mean[0] < recalls.mean[4]);
    assert!((recalls.mean[218] - 1.0).abs() < 1e-12);
}

#[test]
fn threads_change_nothing_and_seeds_do() {
    let values = clustered(2500, 16, 2);
    let table = vectors(&values, 16);
    let made =
        |threads, seed| ListIndex::new(table, options(Measure::Cosine, threads), 40, seed).unwrap();
    let (one, three, other) = (made(1, 3), made(3, 3), made(1, 4));
    assert_eq!(one.centres(), three.centres());
    assert_eq!(
        (one.offsets(), one.members()),
        (three.offsets(), three.members())
    );
    assert_ne!(one.members(), other.members());
    assert!(all_rows(&one, table, 8, 3) == all_rows(&three, table, 8, 3));
}

#[test]
fn inner_products_of_queries_find_the_largest() {
    let (width, k) = (20, 7);
    let values: Vec<f32> = clustered(2000, width, 3).iter().map(|x| x * 50.0).collect();
    let asked = clustered(100, width, 3);
    let (table, queries) = (vectors(&values, width), vectors(&asked, width));
    let inner = options(Measure::InnerProduct, 1);
    let exact = ExactIndex::new(table, inner)
        .unwrap()
        .search(table, queries, k)
        .unwrap();
    let index = ListIndex::new(table, inner, 50, 1).unwrap();
    assert!(exact == index.search(table, queries, k, 50).unwrap());
    let recalls = index.recalls(table, Sample::Queries(queries), k).unwrap();
    let enough = recalls
        .mean
        .iter()
        .position(|&recall| recall > 0.95)
        .unwrap()
        + 1;
    assert!(enough < 25, "{enough}");
    assert!(index.search_pieces(table, 0..1, 3, 1).is_err());
}

#[test]
fn parts_make_the_same_index_again_and_new_rows_join_it() {
    let values = clustered(2000, 16, 4);
    let (table, fewer) = (vectors(&values, 16), vectors(&values[..1900 * 16], 16));
    let cosine = options(Measure::Cosine, 1);
    let made = ListIndex::new(fewer, cosine, 30, 1).unwrap();
    let (offsets, members) = (made.offsets(), made.members());
    let parts = Parts {
        centres: made.centres(),
        offsets: &offsets,
        members: &members,
    };
    let again = ListIndex::open(fewer, cosine, parts).unwrap();
    assert!(all_rows(&made, fewer, 5, 4) == all_rows(&again, fewer, 5, 4));
    let grown = ListIndex::open(table, cosine, parts).unwrap();
    assert_eq!(grown.rows(), 2000);
    let exact = ExactIndex::new(table, cosine)
        .unwrap()
        .search_rows(table, 0..2000, 5)
        .unwrap();
    assert!(exact == all_rows(&grown, table, 5, 30));
    let old: Vec<i32> = grown
        .members()
        .into_iter()
        .filter(|&row| row < 1900)
        .collect();
    assert_eq!(old, members);
}

#[test]
fn parts_that_do_not_fit_are_refused() {
    let values = clustered(100, 4, 5);
    let table = vectors(&values, 4);
    let cosine = options(Measure::Cosine, 1);
    let made = ListIndex::new(table, cosine, 5, 1).unwrap();
    let (centres, offsets, members) = (made.centres().to_vec(), made.offsets(), made.members());
    let refused = |centres: &[f32], offsets: &[i64], members: &[i32]| {
        let parts = Parts {
            centres,
            offsets,
            members,
        };
        ListIndex::open(table, cosine, parts)
            .unwrap_err()
            .to_string()
    };
    let mut falling = offsets.clone();
    falling[2] = falling[1] - 1;
    let mut beyond = offsets.clone();
    beyond[5] = i64::MAX;
    let mut negative = offsets.clone();
    negative[0] = -1;
    let mut twice = members.clone();
    twice[3] = twice[4];
    let mut outside = members.clone();
    outside[0] = 100;
    let mut infinite = centres.clone();
    infinite[7] = f32::INFINITY;
    for (message, word) in [
        (refused(&centres, &falling, &members), "do not rise"),
        (refused(&centres, &beyond, &members), "do not rise"),
        (refused(&centres, &negative, &members), "do not rise"),
        (refused(&centres, &[], &[]), "centres of 0 lists"),
        (
            refused(&centres[4..], &offsets, &members),
            "centres of 5 lists",
        ),
        (refused(&centres, &offsets, &twice), "twice"),
        (refused(&centres, &offsets, &outside), "beyond 100 rows"),
        (refused(&infinite, &offsets, &members), "NaN or infinity"),
        (
            refused(&centres, &offsets, &[0; 101]),
            "101 rows are in its lists",
        ),
    ] {
        assert!(message.contains(word), "{message}");
    }
    for (probes, pieces, word) in [(0, 0..1, "probes"), (1, 0..2, "pieces")] {
        let error = made.search_pieces(table, pieces, 3, probes).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
    }
}

#[test]
fn tables_of_nothing_one_row_and_zeros_have_what_they_have() {
    let cosine = options(Measure::Cosine, 1);
    let empty = Vectors::new("vectors", Values::Single(&[]), 0, 3).unwrap();
    let index = ListIndex::new(empty, cosine, 0, 0).unwrap();
    assert_eq!((index.lists(), index.pieces()), (1, 0));
    let zeros = vec![0.0; 40 * 3];
    let table = vectors(&zeros, 3);
    let index = ListIndex::new(table, cosine, 0, 0).unwrap();
    let (_, found) = index.search_pieces(table, 0..1, 2, 1).unwrap();
    assert!(found.ids.iter().all(|&id| id == -1));
    assert!(index.recalls(table, Sample::Own(10, 0), 2).is_err());
}
