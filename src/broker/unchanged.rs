//! What was made of an answer is not made again while the answer stays the same.
//!
//! A bridge hands out the whole day's books, and asked every few seconds by a leader for whom nothing is under way, it says the
//! same each time. Taking thousands of rows apart is most of what such a leader would do, and of the memory that it would need.
//! Equal are answers only byte by byte: nothing is left to guess.

use std::sync::{Mutex, PoisonError};

/// An answer, and what was made of it; of the last one only.
#[derive(Debug)]
pub(super) struct Unchanged<T>(Mutex<Option<(Vec<u8>, T)>>);

impl<T> Default for Unchanged<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Unchanged<T> {
    /// What was made of this answer, if it is the last one.
    pub fn made_of(&self, body: &[u8]) -> Option<T> {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.as_ref().filter(|(before, _)| before == body).map(|(_, made)| made.clone())
    }

    /// Notes what was made of an answer.
    pub fn note(&self, body: Vec<u8>, made: T) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((body, made));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_answer_is_known_and_only_byte_by_byte() {
        let unchanged = Unchanged::default();
        assert_eq!(unchanged.made_of(b"{}"), None);
        unchanged.note(b"{}".to_vec(), 1);
        assert_eq!(unchanged.made_of(b"{}"), Some(1));
        assert_eq!(unchanged.made_of(b"{} "), None);
        unchanged.note(b"[]".to_vec(), 2);
        assert_eq!((unchanged.made_of(b"{}"), unchanged.made_of(b"[]")), (None, Some(2)));
    }
}
