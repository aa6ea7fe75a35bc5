//! Multi-head attention among the tokens of each sequence, over flat tokens: nothing is padded, masked or kept.
//!
//! A sequence of ten items needs a hundred scores a head, which stay in the processor's first cache. Its weights are
//! made again for the gradient, as they cost less than keeping them would; so do the random numbers of dropout.

mod backward;
mod forward;
mod head;

use std::ops::Range;
use std::sync::Mutex;

use ndarray::{ArrayBase, ArrayView2, ArrayViewMut2, Axis, Ix2, RawData};
use pulp::Arch;

use crate::dropout::Dropout;
use crate::pool::lock;
use crate::workers::Workers;
use crate::{Error, Result};

/// Scores that a task computes, about; a sequence of n tokens counts as n (n + `ALONE`).
const TASK: usize = 1 << 13;
/// What a token costs without any other, in scores.
const ALONE: usize = 32;

/// One key and value that stand for all the padding that a window would hold (docs/paper-mode.md).
#[derive(Debug, Clone, Copy)]
pub struct PseudoKey<'a> {
    /// `[D]`.
    pub key: &'a [f32],
    /// `[D]`.
    pub value: &'a [f32],
    /// A sequence of n tokens has `max_len - n` of them.
    pub max_len: usize,
}

/// Who attends to whom: V views of the same S sequences with T tokens in all.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// Where each sequence starts among the tokens, `[S + 1]`.
    pub offsets: &'a [i64],
    /// V; a view's tokens follow the view's before it.
    pub views: usize,
    /// H, a divisor of the width.
    pub heads: usize,
    /// Whether later tokens are out of sight.
    pub causal: bool,
    /// Only the newest token of each sequence asks.
    pub newest_only: bool,
    /// Padding that takes attention.
    pub pseudo: Option<PseudoKey<'a>>,
    /// Dropped weights.
    pub dropout: Dropout,
}

/// What is made from tokens: queries `[V x T, D]`, or `[V x S, D]` of the newest alone; keys and values `[V x T, D]`.
#[derive(Debug, Clone, Copy)]
pub struct Projected<'a> {
    /// What asks.
    pub queries: ArrayView2<'a, f32>,
    /// What is asked.
    pub keys: ArrayView2<'a, f32>,
    /// What answers.
    pub values: ArrayView2<'a, f32>,
}

/// Gradients of [`Projected`], all of which are overwritten.
#[derive(Debug)]
pub struct Gradients<'a> {
    /// As the queries.
    pub queries: ArrayViewMut2<'a, f32>,
    /// As the keys.
    pub keys: ArrayViewMut2<'a, f32>,
    /// As the values.
    pub values: ArrayViewMut2<'a, f32>,
}

/// Gradients of a [`PseudoKey`], `[D]` each.
#[derive(Debug, Clone, PartialEq)]
pub struct PseudoGradients {
    /// Of its key.
    pub key: Vec<f32>,
    /// Of its value.
    pub value: Vec<f32>,
}

/// Some sequences of a view: their numbers and where their rows lie.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    view: usize,
    sequences: Range<usize>,
    queries: Range<usize>,
    memory: Range<usize>,
}

impl Attention<'_> {
    /// Each query's mixture of its sequence's values, `out`, as the queries. An empty sequence's newest token gets zeros.
    ///
    /// # Errors
    /// Arrays of other shapes, offsets that do not cut the tokens, heads that do not divide the width.
    pub fn forward(
        &self,
        projected: &Projected<'_>,
        out: ArrayViewMut2<'_, f32>,
        workers: &dyn Workers,
    ) -> Result<()> {
        self.check(projected)?;
        let (asking, width) = projected.queries.dim();
        expect("out", &out, asking, width)?;
        let arch = Arch::new();
        let parts = self.parts();
        let outs = split(out, parts.iter().map(|part| part.queries.len()));
        let tasks: Vec<_> = parts.into_iter().zip(outs).map(Mutex::new).collect();
        workers.run(tasks.len(), &|number| {
            let mut task = lock(&tasks[number]);
            let (part, out) = &mut *task;
            arch.dispatch(forward::Forward {
                attention: self,
                projected,
                part,
                out: out.view_mut(),
            });
        });
        Ok(())
    }

    /// Gradients of what was projected, given that of the output; and of the pseudo-key, if there is one.
    ///
    /// # Errors
    /// As `forward`.
    pub fn backward<'a>(
        &self,
        projected: &Projected<'a>,
        out: &ArrayView2<'a, f32>,
        gradients: Gradients<'_>,
        workers: &dyn Workers,
    ) -> Result<Option<PseudoGradients>> {
        self.check(projected)?;
        let (asking, width) = projected.queries.dim();
        expect("out", out, asking, width)?;
        expect("queries", &gradients.queries, asking, width)?;
        let tokens = projected.keys.nrows();
        expect("keys", &gradients.keys, tokens, width)?;
        expect("values", &gradients.values, tokens, width)?;
        let arch = Arch::new();
        let parts = self.parts();
        let queries = split(gradients.queries, parts.iter().map(|p| p.queries.len()));
        let keys = split(gradients.keys, parts.iter().map(|p| p.memory.len()));
        let values = split(gradients.values, parts.iter().map(|p| p.memory.len()));
        let own = if self.pseudo.is_some() { width } else { 0 };
        let tasks: Vec<_> = parts
            .into_iter()
            .zip(queries)
            .zip(keys.into_iter().zip(values))
            .map(|((part, queries), (keys, values))| {
                let gradients = Gradients {
                    queries,
                    keys,
                    values,
                };
                let pseudo = PseudoGradients {
                    key: vec![0.0; own],
                    value: vec![0.0; own],
                };
                Mutex::new((part, gradients, pseudo))
            })
            .collect();
        workers.run(tasks.len(), &|number| {
            let mut task = lock(&tasks[number]);
            let (part, gradients, pseudo) = &mut *task;
            arch.dispatch(backward::Backward {
                attention: self,
                projected,
                part,
                out,
                gradients,
                pseudo,
            });
        });
        // Parts depend on the data alone, and their sums are added in order: the same bits on any number of threads.
        Ok(self.pseudo.map(|_| {
            let mut total = PseudoGradients {
                key: vec![0.0; width],
                value: vec![0.0; width],
            };
            for task in &tasks {
                let (_, _, part) = &*lock(task);
                for (sums, more) in [(&mut total.key, &part.key), (&mut total.value, &part.value)] {
                    sums.iter_mut()
                        .zip(more)
                        .for_each(|(sum, more)| *sum += more);
                }
            }
            total
        }))
    }

    /// S.
    fn sequences(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    fn tokens(&self, sequence: usize) -> Range<usize> {
        self.offsets[sequence] as usize..self.offsets[sequence + 1] as usize
    }

    fn check(&self, projected: &Projected<'_>) -> Result<()> {
        let rising = self.offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if self.offsets.first() != Some(&0) || !rising {
            return Err(Error::argument(
                "offsets",
                "expected rising numbers from 0 to the number of tokens",
            ));
        }
        let tokens = self.offsets[self.sequences()] as usize;
        let asking = if self.newest_only {
            self.sequences()
        } else {
            tokens
        };
        let width = projected.queries.ncols();
        expect("queries", &projected.queries, self.views * asking, width)?;
        expect("keys", &projected.keys, self.views * tokens, width)?;
        expect("values", &projected.values, self.views * tokens, width)?;
        if self.heads == 0 || !width.is_multiple_of(self.heads) {
            return Err(Error::argument(
                "heads",
                format!("{}; expected a divisor of the width, {width}", self.heads),
            ));
        }
        if let Some(pseudo) = &self.pseudo {
            for part in [pseudo.key, pseudo.value] {
                if part.len() != width {
                    let message = format!("{} numbers; expected {width}", part.len());
                    return Err(Error::argument("pseudo", message));
                }
            }
        }
        Ok(())
    }

    /// Runs of sequences of about `TASK` scores; they cover all rows, in order.
    fn parts(&self) -> Vec<Part> {
        let (sequences, tokens) = (self.sequences(), self.offsets[self.sequences()] as usize);
        let mut parts = Vec::new();
        for view in 0..self.views {
            let (mut start, mut scores) = (0, 0);
            for sequence in 0..sequences {
                let length = self.tokens(sequence).len();
                scores += length * (length + ALONE);
                if scores < TASK && sequence + 1 < sequences {
                    continue;
                }
                let rows = |at: usize| view * tokens + self.offsets[at] as usize;
                let memory = rows(start)..rows(sequence + 1);
                parts.push(Part {
                    view,
                    sequences: start..sequence + 1,
                    queries: if self.newest_only {
                        view * sequences + start..view * sequences + sequence + 1
                    } else {
                        memory.clone()
                    },
                    memory,
                });
                (start, scores) = (sequence + 1, 0);
            }
        }
        parts
    }
}

fn expect<S: RawData>(
    name: &'static str,
    found: &ArrayBase<S, Ix2>,
    rows: usize,
    width: usize,
) -> Result<()> {
    if found.dim() != (rows, width) {
        let (here, wide) = found.dim();
        let message = format!("of shape [{here}, {wide}]; expected [{rows}, {width}]");
        return Err(Error::argument(name, message));
    }
    if width > 1 && found.strides()[1] != 1 {
        return Err(Error::argument(
            name,
            "the numbers of a row do not lie together",
        ));
    }
    Ok(())
}

fn split(
    rows: ArrayViewMut2<'_, f32>,
    lengths: impl Iterator<Item = usize>,
) -> Vec<ArrayViewMut2<'_, f32>> {
    let (mut rest, mut parts) = (rows, Vec::new());
    for length in lengths {
        let (part, after) = rest.split_at(Axis(0), length);
        parts.push(part);
        rest = after;
    }
    parts
}
