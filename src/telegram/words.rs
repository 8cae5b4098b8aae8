//! What the bot answers: plain text for a phone, pure.

use std::time::Duration;

use ha::InstanceInfo;

use super::command::{self, Command, Said, VERBS, Verb};
use crate::domain::money::Rupees;
use crate::domain::position::Position;
use crate::engine::command::NotClosed;
use crate::health::operational::Operational;
use crate::ledger::errors::ErrorRow;
use crate::ledger::exits::{ExitView, Outcome};
use crate::ledger::switching::{Switch, SwitchView};
use crate::ledger::telegram::Left;
use crate::notify::compose::{moment, span};

/// Rows of a list that are shown.
const SHOWN: usize = 15;
/// The longest text of one row.
const ROW_CHARS: usize = 160;

/// To a code that confirms nothing.
pub const WRONG_CODE: &str = "Nothing was done: no command of yours in this chat waits for that code. A code holds once and for a short time; \
     send the command again.";

/// What `/status` tells.
pub struct Status<'a> {
    pub cluster: &'a str,
    pub mode: &'a str,
    pub operational: &'a Operational,
    pub me: &'a str,
    pub epoch: i64,
    pub degraded: bool,
    pub instances: &'a [InstanceInfo],
    pub switches: &'a [SwitchView],
    pub positions: usize,
    pub equity: Option<Rupees>,
    pub orders: usize,
    pub doubted: usize,
    pub errors: i64,
}

pub fn help() -> String {
    let rows: Vec<String> = VERBS.iter().map(|(name, _, says)| format!("/{name}: {says}")).collect();
    format!("{}\nWhat follows a command is its reason: /halt exchange trouble", rows.join("\n"))
}

pub fn unknown(name: &str) -> String {
    format!("There is no /{name}. /help lists the commands.")
}

pub fn full(per_minute: u32) -> String {
    format!(
        "Nothing was done: more than {per_minute} commands came from this chat within a minute. Until that is over they \
         are passed over, but for /halt."
    )
}

pub fn too_old(command: &Command, age: Duration) -> String {
    format!(
        "Nothing was done: /{} is {} old. Send it again if it still holds.",
        command.verb.name(),
        old(age)
    )
}

pub fn late(age: Duration) -> String {
    format!(" It was sent {} ago.", old(age))
}

fn old(age: Duration) -> String {
    span(chrono::TimeDelta::from_std(age).unwrap_or(chrono::TimeDelta::MAX))
}

pub fn asked(command: &Command, preview: &str, code: &str, holds: Duration) -> String {
    let (name, what) = (command.verb.name(), consequence(command.verb));
    let preview = if preview.is_empty() { String::new() } else { format!("\n{preview}") };
    format!("/{name} {what}.{preview}\nTo do it, send within {} s:\n/confirm {code}", holds.as_secs())
}

fn consequence(verb: Verb) -> &'static str {
    match verb {
        Verb::Flatten => "closes every position by market orders, whatever switch is on",
        Verb::Set(Switch::Halted, false) => {
            "ends the halt: entries and the exits of signals act again, but of instruments with a halt of their own"
        }
        Verb::Set(Switch::Paused, true) => {
            "ends automatic failover: nobody takes over from a leader that dies"
        }
        _ => "acts at once",
    }
}

pub fn set(switch: Switch, on: bool, who: &str) -> String {
    let what = match (switch, on) {
        (Switch::Halted, true) => "Halted: no entries, no exits of signals; stops go on. /unhalt ends it.",
        (Switch::Halted, false) => {
            "The halt is over: entries and the exits of signals act again, but of instruments with a halt of their own."
        }
        (Switch::Paused, true) => "Paused: no automatic failover. /resume ends it.",
        (Switch::Paused, false) => "Automatic failover works again.",
        (_, true) => "It is on.",
        (_, false) => "It is off.",
    };
    format!("{what} Set by {who}.")
}

pub fn not_done(command: &Command) -> String {
    format!("/{} was NOT done: leadership moved meanwhile. Send it again.", command.verb.name())
}

pub fn failed(command: &Command, why: &str) -> String {
    format!("/{} was NOT done: {why}", command.verb.name())
}

/// Of a close that was asked for and not answered: undone only if that is known.
pub fn not_closed(command: &Command, why: &NotClosed) -> String {
    match why {
        NotClosed::Unknown => {
            format!("Whether /{} was taken is NOT known: {why}. Look with /positions.", command.verb.name())
        }
        NotClosed::Busy | NotClosed::NotTaken | NotClosed::Unverified(_) => failed(command, &why.to_string()),
    }
}

/// Of a command whose leader ended first.
pub fn left(left: &Left, bot: &str) -> String {
    let verb = match command::read(&left.command, bot) {
        Said::Command(command) => command.verb,
        _ => Verb::Help,
    };
    match verb {
        Verb::Flatten if left.confirmed => format!(
            "The leader ended after it took the confirmed {}: whether closing began is NOT known. Look with /positions; \
             sending it again makes no second exit.",
            left.command
        ),
        verb if verb.changes() => {
            format!("{} was NOT done and will not be: the leader ended first. Send it again.", left.command)
        }
        _ => format!("{} was not answered: the leader ended first. Send it again.", left.command),
    }
}

pub fn under_way(orders: usize) -> String {
    match orders {
        0 => "No order is on its way.".to_owned(),
        1 => "1 order is on its way.".to_owned(),
        n => format!("{n} orders are on their way."),
    }
}

fn on(switch: &SwitchView) -> String {
    let (who, why) = (switch.who.as_deref().unwrap_or("-"), switch.why.as_deref().unwrap_or("-"));
    let until = switch.until.map(|until| format!(" until {}", moment(until))).unwrap_or_default();
    let of = switch.instrument.as_ref().map(|instrument| format!(" of {instrument}")).unwrap_or_default();
    format!("ON: {}{of}{until}, by {who}: {why}", switch.switch)
}

/// What the end of the cluster's halt would end.
pub fn halts(switches: &[SwitchView]) -> String {
    let halts = switches.iter().filter(|view| {
        view.on && view.instrument.is_none() && matches!(view.switch, Switch::Halted | Switch::HaltAll)
    });
    let halts: Vec<String> = halts.map(|halt| clipped(&on(halt))).collect();
    if halts.is_empty() { "No halt is on.".to_owned() } else { halts.join("\n") }
}

pub fn positions(positions: &[Position]) -> String {
    if positions.is_empty() {
        return "No position is held.".to_owned();
    }
    let row = |p: &Position| {
        format!(
            "{} {} {} at {}, stop {}, {}",
            p.symbol, p.label, p.quantity, p.entry_price, p.current_stop, p.status
        )
    };
    listed(&format!("{} held:", counted(positions.len(), "position")), positions.iter().map(row))
}

pub fn errors(errors: &[ErrorRow]) -> String {
    if errors.is_empty() {
        return "Nothing is wrong.".to_owned();
    }
    let row = |e: &ErrorRow| {
        let scope = if e.scope.is_empty() { String::new() } else { format!(" {}", e.scope) };
        format!(
            "{}{scope} ×{} since {}: {}",
            e.error_type,
            e.open_count,
            moment(e.open_since),
            e.error_message
        )
    };
    listed(&format!("{} not over:", counted(errors.len(), "error")), errors.iter().map(row))
}

pub fn flattened(exits: &[ExitView], entries: usize) -> String {
    let late = match entries {
        0 => String::new(),
        n => format!("\n{} on the way: what fills is closed at once.", counted(n, "entry order")),
    };
    if exits.iter().all(|exit| exit.outcome == Outcome::Filled) {
        return match exits.len() {
            0 => format!("Nothing was held.{late}"),
            n => format!("{} closed.{late}", counted(n, "position")),
        };
    }
    let row = |exit: &ExitView| {
        let outcome = match exit.outcome {
            Outcome::Filled => "closed",
            Outcome::Submitted => "the order is at the broker",
            Outcome::Pending => "no order was sent yet",
            Outcome::Refused => "REFUSED by the broker, tried again",
            Outcome::InDoubt => "IN DOUBT, nothing more is sent before it is known",
        };
        format!("{} {}: {outcome}, {} still held", exit.symbol, exit.label, exit.held)
    };
    listed("Closing goes on until flat:", exits.iter().map(row)) + &late
}

pub fn flattening(positions: usize, why: &str) -> String {
    format!(
        "Closing {} began; how far it is cannot be read now ({why}). Look with /positions.",
        counted(positions, "position")
    )
}

pub fn status(s: &Status<'_>) -> String {
    let code = s.operational.code.map(|code| format!(" ({code})")).unwrap_or_default();
    let mut lines = vec![
        format!("{} ({}): {}{code}", s.cluster, s.mode, s.operational.state.as_str()),
        s.operational.reason.clone(),
        format!("{} leads under epoch {}{}", s.me, s.epoch, if s.degraded { ", Redis is away" } else { "" }),
    ];
    let alive: Vec<String> =
        s.instances.iter().filter(|info| info.alive).map(|info| info.instance.member.to_string()).collect();
    lines
        .push(format!("Alive: {}", if alive.is_empty() { "not known".to_owned() } else { alive.join(", ") }));
    lines.extend(s.switches.iter().map(on));
    if s.switches.is_empty() {
        lines.push("No switch is on".to_owned());
    }
    let equity = s.equity.map(|equity| format!(", closed equity {equity}")).unwrap_or_default();
    lines.push(format!("{} open{equity}", counted(s.positions, "position")));
    lines.push(format!("{} on the way, {} in doubt", counted(s.orders, "order"), s.doubted));
    lines.push(format!("{} not over", counted(usize::try_from(s.errors).unwrap_or(0), "error")));
    lines.into_iter().map(|line| clipped(&line)).collect::<Vec<_>>().join("\n")
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn clipped(text: &str) -> String {
    match text.char_indices().nth(ROW_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn listed(head: &str, rows: impl ExactSizeIterator<Item = String>) -> String {
    let more = rows.len().saturating_sub(SHOWN);
    let mut text = head.to_owned();
    for row in rows.take(SHOWN) {
        text += &format!("\n- {}", clipped(&row));
    }
    if more > 0 {
        text += &format!("\n- and {more} more");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command: &str, confirmed: bool) -> String {
        let (command, actor) = (command.to_owned(), "telegram:asha".to_owned());
        left(&Left { bot: 1, update: 2, actor, command, confirmed, outcome: None }, "b")
    }

    #[test]
    fn of_what_was_left_only_a_confirmed_flatten_is_not_known() {
        assert!(of("/flatten news", true).contains("NOT known"), "{}", of("/flatten news", true));
        for (command, confirmed) in
            [("/flatten", false), ("/unhalt", true), ("/halt", false), ("/confirm", false)]
        {
            assert!(of(command, confirmed).contains("was NOT done and will not be"), "{command}");
        }
        assert!(of("/status", false).contains("was not answered"));
    }

    #[test]
    fn a_flatten_that_was_taken_up_is_never_called_undone() {
        let Said::Command(flatten) = command::read("/flatten news", "b") else { panic!("a command") };
        let unknown = not_closed(&flatten, &NotClosed::Unknown);
        assert!(unknown.contains("NOT known") && !unknown.contains("NOT done"), "{unknown}");
        for undone in [NotClosed::Busy, NotClosed::NotTaken, NotClosed::Unverified("502".to_owned())] {
            assert!(not_closed(&flatten, &undone).contains("was NOT done"), "{undone}");
        }
    }

    #[test]
    fn a_long_list_stays_within_a_message() {
        let text = listed("head:", (0..500).map(|n| format!("{n} {}", "x".repeat(1000))));
        assert!(text.ends_with("- and 485 more") && text.chars().count() < 3000, "{text}");
    }
}
