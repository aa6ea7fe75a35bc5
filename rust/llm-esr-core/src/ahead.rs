//! Asking for what the next steps read, a little at a time.
//!
//! Users lie anywhere in large files. A line of memory that was asked for early is there when it is read, if not too
//! many are asked for at once: so the loops that copy a step's sequences ask for one thing with each sequence.

use crate::recipe::Recipe;

/// What a thread's next three steps read, as far as what comes before it is there to be read.
#[derive(Debug)]
pub(crate) struct Ahead<'a> {
    recipe: &'a Recipe,
    /// The entries of the next step: where the sequences of their users and similar users lie.
    next: &'a [u32],
    /// Of the step after it: their users' similar users.
    second: &'a [u32],
    /// Of the one after that: their users.
    third: &'a [u32],
    entry: usize,
    part: usize,
}

impl<'a> Ahead<'a> {
    pub(crate) fn new(recipe: &'a Recipe, [next, second, third]: [&'a [u32]; 3]) -> Self {
        Self {
            recipe,
            next,
            second,
            third,
            entry: 0,
            part: 0,
        }
    }

    /// Asks for the next thing.
    #[inline]
    pub(crate) fn ask(&mut self) {
        let recipe = self.recipe;
        let of = |entries: &[u32]| {
            entries
                .get(self.entry)
                .map(|&place| recipe.student_at(place))
        };
        let next = of(self.next);
        let mut parts = 1;
        if let Some(similar) = &recipe.similar {
            parts += similar.k();
            if let (Some(user), Some(k)) = (next, self.part.checked_sub(1)) {
                // Fills are -1: no user's number.
                recipe.store.prefetch_range(similar.of(user)[k] as usize);
            } else if let Some(user) = of(self.second) {
                similar.prefetch(user);
            }
        }
        if self.part == 0 {
            if let Some(user) = next {
                recipe.store.prefetch_range(user);
            }
            if let Some(&place) = self.third.get(self.entry) {
                recipe.prefetch_student(place);
            }
        }
        self.part += 1;
        if self.part == parts {
            (self.part, self.entry) = (0, self.entry + 1);
        }
    }

    /// Asks for all that is left.
    pub(crate) fn ask_for_the_rest(&mut self) {
        while self.entry < self.next.len().max(self.second.len()).max(self.third.len()) {
            self.ask();
        }
    }
}
