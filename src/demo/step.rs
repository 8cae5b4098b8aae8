//! What the story tells: one promise a step, whether it held, and the figures.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value};

/// One step of the story.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Stable name, for scripts.
    pub name: &'static str,
    /// What is promised, for people.
    pub promise: String,
    /// Whether it held.
    pub held: bool,
    /// The time that the step is about, in milliseconds, if it is about one.
    pub took_ms: Option<f64>,
    /// What was seen, one sentence each.
    pub seen: Vec<String>,
    /// What was seen, for scripts.
    pub figures: Map<String, Value>,
}

impl Step {
    /// A step whose promise holds until something says otherwise.
    pub(super) fn new(name: &'static str, promise: impl Into<String>) -> Self {
        let (promise, figures) = (promise.into(), Map::new());
        Self { name, promise, held: true, took_ms: None, seen: Vec::new(), figures }
    }

    /// The time that it is about.
    pub(super) fn took(mut self, took: Duration) -> Self {
        self.took_ms = Some(ms(took));
        self
    }

    /// Adds a sentence about what was seen.
    pub(super) fn saw(mut self, sentence: impl Into<String>) -> Self {
        self.seen.push(sentence.into());
        self
    }

    /// Adds a figure.
    pub(super) fn figure(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.figures.insert(name.to_owned(), value.into());
        self
    }

    /// Checks a part of the promise; what is broken is told.
    pub(super) fn check(mut self, holds: bool, broken: impl FnOnce() -> String) -> Self {
        if !holds {
            self.held = false;
            self.seen.push(format!("BROKEN: {}", broken()));
        }
        self
    }
}

/// A duration in milliseconds, to the tenth.
pub(super) fn ms(time: Duration) -> f64 {
    (time.as_secs_f64() * 10_000.0).round() / 10.0
}

/// The whole story.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Story {
    /// Whether every promise held and the story was told to its end.
    pub held: bool,
    /// Its steps.
    pub steps: Vec<Step>,
    /// Why it could not go on, if so.
    pub error: Option<String>,
    /// Wall time, in milliseconds.
    pub elapsed_ms: u64,
}

/// Hears the story while it is told.
pub trait Narrator {
    /// The step was made.
    fn step(&mut self, step: &Step);
}
