//! An error with what caused it, in one line.

use std::error::Error;

/// The error's own text and those of its causes, from the outermost inwards; what the line says already is not said again.
///
/// Client libraries put their own words into the cause: "error sending request" alone helps nobody.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line = format!("{line}: {text}");
        }
        cause = error.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Layer>>,
    }

    fn layers(texts: &[&'static str]) -> Layer {
        let (text, rest) = texts.split_first().expect("at least one");
        Layer { text, source: (!rest.is_empty()).then(|| Box::new(layers(rest))) }
    }

    #[test]
    fn each_cause_is_said_once() {
        assert_eq!(with_causes(&layers(&["no answer"])), "no answer");
        assert_eq!(with_causes(&layers(&["no answer", "connect", "refused"])), "no answer: connect: refused");
        assert_eq!(
            with_causes(&layers(&["no answer: refused", "refused", "os error 111"])),
            "no answer: refused: os error 111"
        );
    }
}
