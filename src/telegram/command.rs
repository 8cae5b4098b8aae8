//! What an operator may say to the bot: one table, pure.

use crate::ledger::switching::Switch;

/// The longest text of a command that is kept.
const KEPT_CHARS: usize = 200;
/// The longest reason.
const REASON_CHARS: usize = 160;

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// What can be said.
    Help,
    /// How the cluster is.
    Status,
    /// What is held.
    Positions,
    /// What is wrong.
    Errors,
    /// A switch, on or off.
    Set(Switch, bool),
    /// Close everything.
    Flatten,
    /// The code of a dangerous command.
    Confirm,
}

/// The verbs: name, what it is, what it does.
pub const VERBS: [(&str, Verb, &str); 10] = [
    ("status", Verb::Status, "how the cluster is"),
    ("positions", Verb::Positions, "what is held"),
    ("errors", Verb::Errors, "what is wrong"),
    ("halt", Verb::Set(Switch::Halted, true), "no entries, no exits of signals; stops go on. At once"),
    ("unhalt", Verb::Set(Switch::Halted, false), "ends the cluster's halt. Asks first"),
    ("pause", Verb::Set(Switch::Paused, true), "no automatic failover. Asks first"),
    ("resume", Verb::Set(Switch::Paused, false), "automatic failover again. At once"),
    ("flatten", Verb::Flatten, "closes every position. Asks first"),
    ("confirm", Verb::Confirm, "does what asked first: /confirm CODE"),
    ("help", Verb::Help, "this list"),
];

/// A command as said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// What is asked for.
    pub verb: Verb,
    /// What follows it: the reason, or the code.
    pub rest: String,
}

/// What a text is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// Nothing that is meant for this bot.
    Nothing,
    /// A command that there is not.
    Unknown(String),
    /// A command.
    Command(Command),
}

/// Reads a text; in a group a command may name the bot that it is for.
pub fn read(text: &str, bot: &str) -> Said {
    let Some(text) = text.trim().strip_prefix('/') else { return Said::Nothing };
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let (name, addressed) = word.split_once('@').unwrap_or((word, bot));
    if !addressed.eq_ignore_ascii_case(bot) || name.is_empty() {
        return Said::Nothing;
    }
    // Telegram's own first word to a bot.
    let name = if name == "start" { "help" } else { name };
    let rest = rest.trim().chars().filter(|c| !c.is_control()).take(REASON_CHARS).collect();
    match VERBS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name)) {
        Some((_, verb, _)) => Said::Command(Command { verb: *verb, rest }),
        None => Said::Unknown(name.chars().filter(|c| !c.is_control()).take(KEPT_CHARS).collect()),
    }
}

impl Verb {
    /// Its name.
    pub fn name(self) -> &'static str {
        VERBS.iter().find(|(_, verb, _)| *verb == self).map_or("help", |(name, ..)| name)
    }

    /// It wants a code first: it takes a guard away, or sends orders. A halt and a resume set a guard, and may not wait.
    pub fn is_dangerous(self) -> bool {
        matches!(self, Self::Flatten | Self::Set(Switch::Halted, false) | Self::Set(Switch::Paused, true))
    }

    /// It changes something.
    pub fn changes(self) -> bool {
        matches!(self, Self::Flatten | Self::Set(..) | Self::Confirm)
    }

    /// It acts however late it comes, and however many came before.
    pub fn is_urgent(self) -> bool {
        self == Self::Set(Switch::Halted, true)
    }
}

impl Command {
    /// The command as it is kept: read again, it is the same. A code is not part of it.
    pub fn kept(&self) -> String {
        match (self.verb, self.rest.as_str()) {
            (Verb::Confirm, _) | (_, "") => format!("/{}", self.verb.name()),
            (verb, rest) => format!("/{} {rest}", verb.name()),
        }
    }

    /// Why, for histories.
    pub fn reason(&self) -> String {
        if self.rest.is_empty() { "by Telegram".to_owned() } else { self.rest.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(verb: Verb, rest: &str) -> Said {
        Said::Command(Command { verb, rest: rest.to_owned() })
    }

    // R: N15
    #[test]
    fn a_text_is_a_command_for_this_bot_an_unknown_one_or_nothing() {
        for (text, said) in [
            ("/status", command(Verb::Status, "")),
            (
                "  /HALT@Baton_Bot  exchange\ttrouble \n",
                command(Verb::Set(Switch::Halted, true), "exchangetrouble"),
            ),
            ("/halt exchange trouble", command(Verb::Set(Switch::Halted, true), "exchange trouble")),
            ("/confirm 123456", command(Verb::Confirm, "123456")),
            ("/start", command(Verb::Help, "")),
            ("/sell everything", Said::Unknown("sell".to_owned())),
            ("/halt@other_bot", Said::Nothing),
            ("halt", Said::Nothing),
            ("please /halt", Said::Nothing),
            ("/", Said::Nothing),
            ("", Said::Nothing),
        ] {
            assert_eq!(read(text, "baton_bot"), said, "{text:?}");
        }
    }

    #[test]
    fn what_takes_a_guard_away_or_sends_orders_asks_first() {
        let asking: Vec<_> =
            VERBS.iter().filter(|(_, verb, _)| verb.is_dangerous()).map(|(name, ..)| *name).collect();
        assert_eq!(asking, ["unhalt", "pause", "flatten"]);
        let urgent: Vec<_> =
            VERBS.iter().filter(|(_, verb, _)| verb.is_urgent()).map(|(name, ..)| *name).collect();
        assert_eq!(urgent, ["halt"]);
        assert!(VERBS.iter().all(|(_, verb, says)| verb.is_dangerous() == says.ends_with("Asks first")));
    }

    #[test]
    fn a_kept_command_is_read_as_it_was_said_and_holds_no_code() {
        for text in ["/halt news", "/flatten", "/pause for the upgrade"] {
            let Said::Command(said) = read(text, "b") else { panic!("{text}") };
            assert_eq!((said.kept().as_str(), read(&said.kept(), "b")), (text, Said::Command(said.clone())));
        }
        let Said::Command(said) = read("/confirm 123456", "b") else { panic!() };
        assert_eq!(said.kept(), "/confirm");
    }
}
