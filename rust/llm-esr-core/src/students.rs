//! What students show and what they predict.

use std::ops::Range;

use crate::augmentation::{Augmentation, Operator};
use crate::batch_builder::BatchBuilder;
use crate::batches::{Batch, Scratch};
use crate::histories::Histories;
use crate::masking::Masking;
use crate::options::Targets;
use crate::rng::{Draws, Stream, Words};
use crate::sequences::Sequences;

impl BatchBuilder {
    pub(crate) fn fill_students(
        &self,
        histories: Histories<'_>,
        batch: &mut Batch,
        scratch: &mut Scratch,
    ) {
        if let Some(masking) = &self.masking {
            self.mask_students(histories, masking, batch);
        } else if let Some(augmentation) = &self.augmentation {
            self.augment_students(histories, augmentation, batch, &mut scratch.window);
        } else if self.reading.window.is_bare() {
            return self.gather_students(histories, batch, scratch);
        } else {
            self.push_students(histories, batch);
        }
        let packer = &mut scratch.workspace.packer;
        batch
            .students
            .lay_out(self.reading.layout, self.reading.window.max_len, packer);
    }

    /// The newest items of each student.
    fn gather_students(&self, histories: Histories<'_>, batch: &mut Batch, scratch: &mut Scratch) {
        let Scratch {
            spans, workspace, ..
        } = scratch;
        spans.clear();
        spans.extend(
            batch
                .users
                .iter()
                .map(|&user| self.span(histories, user as usize)),
        );
        let (students, items) = (&mut batch.students, histories.items());
        students.gather(
            items,
            spans,
            self.reading.layout,
            self.reading.window.max_len,
            workspace,
        );
        // A student has a training item, and so one behind what is read without the last.
        let behind = self.behind();
        for (row, (&user, span)) in batch.users.iter().zip(&*spans).enumerate() {
            let draws = self.draws(batch.epoch, Stream::Smoothing, 0, user);
            let next = &items[span.start + 1..span.start + span.length + behind];
            let tokens = students.tokens(row);
            self.aim(&draws, next, &mut students.targets[tokens]);
        }
    }

    /// The newest items of each student, filled up with padding tokens.
    fn push_students(&self, histories: Histories<'_>, batch: &mut Batch) {
        let students = &mut batch.students;
        students.clear();
        for &user in &batch.users {
            let whole = histories.of(user as usize);
            let read = &whole[..whole.len().saturating_sub(self.behind())];
            let draws = self.draws(batch.epoch, Stream::Smoothing, 0, user);
            let tokens = students.push(read, self.reading.window);
            let window = &whole[read.len() - tokens.len()..];
            self.aim_pushed(&draws, window, tokens, students);
        }
    }

    /// As `push_students`, of windows that are changed before; the target behind the newest item belongs to a window.
    fn augment_students(
        &self,
        histories: Histories<'_>,
        augmentation: &Augmentation,
        batch: &mut Batch,
        window: &mut Vec<i32>,
    ) {
        let students = &mut batch.students;
        students.clear();
        let behind = self.behind();
        for &user in &batch.users {
            let (draws, span) = (
                self.draws(batch.epoch, Stream::Smoothing, 0, user),
                self.span(histories, user as usize),
            );
            let changes = self.draws(batch.epoch, Stream::Augmentation, 0, user);
            window.clear();
            window.extend_from_slice(
                &histories.items()[span.start..span.start + span.length + behind],
            );
            let operator = augmentation.choose(&changes);
            if let Some(operator) = operator {
                Augmentation::change(operator, &changes, window);
            }
            let tokens = students.push(&window[..window.len() - behind], self.reading.window);
            if let Some(Operator::Mask(ratio)) = operator {
                augmentation.mask(ratio, &changes, &mut students.items[tokens.clone()]);
            }
            self.aim_pushed(&draws, window, tokens, students);
        }
    }

    /// Sets what the tokens that show `window`, all of it or all but its last item, predict.
    fn aim_pushed(
        &self,
        draws: &Draws,
        window: &[i32],
        tokens: Range<usize>,
        students: &mut Sequences,
    ) {
        if !tokens.is_empty() {
            self.aim(draws, &window[1..], &mut students.targets[tokens]);
        } else if self.reading.targets == Targets::Last
            && let Some(&only) = window.last()
            && let Some(newest) = students.targets.last_mut()
            && self.reading.window.padding_tokens
        {
            // The one item that such a student has is predicted from its padding.
            *newest = self.target(draws, 0, only);
        }
    }

    /// Masking pass 0: the whole training sequence with items masked at random; masking pass 1: with its last item masked.
    fn mask_students(&self, histories: Histories<'_>, masking: &Masking, batch: &mut Batch) {
        let students = &mut batch.students;
        students.clear();
        for (&user, &masking_pass) in batch.users.iter().zip(&batch.masking_passes) {
            let smoothing = self.draws(batch.epoch, Stream::Smoothing, masking_pass, user);
            let mut window = self.reading.window;
            if masking_pass != 0 {
                window.mask_token = None;
            }
            let tokens = students.push(histories.of(user as usize), window);
            if masking_pass == 0 {
                let draws = self.draws(batch.epoch, Stream::Masking, masking_pass, user);
                let mut words = Words::new(draws);
                for token in tokens {
                    let (item, place) = (students.items[token], students.place(token));
                    if let Some(shown) = masking.show(&draws, &mut words, place, item) {
                        students.items[token] = shown;
                        students.targets[token] = self.target(&smoothing, place, item);
                    }
                }
            } else if let Some(last) = tokens.last() {
                let (item, place) = (students.items[last], students.place(last));
                students.items[last] = masking.token();
                students.targets[last] = self.target(&smoothing, place, item);
            }
        }
    }

    /// Sets what the tokens predict of the items that follow them.
    fn aim(&self, draws: &Draws, next: &[i32], targets: &mut [i32]) {
        match (self.reading.targets, &self.smoothing) {
            (Targets::Every, None) => targets[..next.len()].copy_from_slice(next),
            (Targets::Every, Some(smoothing)) => smoothing.smooth(draws, next, targets),
            (Targets::Last, _) => {
                if let Some((&last, before)) = next.split_last() {
                    targets[before.len()] = self.target(draws, before.len() as u64, last);
                }
            }
        }
    }

    fn target(&self, draws: &Draws, place: u64, item: i32) -> i32 {
        match &self.smoothing {
            None => item,
            Some(smoothing) => smoothing.smooth_one(draws, place, item),
        }
    }
}
