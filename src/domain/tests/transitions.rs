use crate::domain::label::{Label, Target};
use crate::domain::order::IntentState;
use crate::domain::position::PositionStatus;
use crate::domain::signal::SignalType;

/// Every allowed step, spelled out a second time: the table in the code and this one must agree.
#[test]
fn intents_move_as_the_table_says_and_no_other_way() {
    use IntentState::*;
    let table = [
        (Journaled, vec![Acknowledged, PartiallyFilled, Filled, Cancelled, Rejected, NotSent, InDoubt]),
        (Acknowledged, vec![PartiallyFilled, Filled, Cancelled, Rejected]),
        (PartiallyFilled, vec![Filled, Cancelled, Rejected]),
        (InDoubt, vec![Acknowledged, PartiallyFilled, Filled, Cancelled, Rejected, NotSent, Abandoned]),
        (Abandoned, vec![Acknowledged, PartiallyFilled, Filled]),
        (Cancelled, vec![Filled]),
        (Filled, vec![]),
        (Rejected, vec![Filled]),
        (NotSent, vec![]),
    ];
    assert_eq!(table.len(), IntentState::ALL.len());
    for (from, allowed) in table {
        for &to in IntentState::ALL {
            assert_eq!(from.may_become(to), allowed.contains(&to), "{from} to {to}");
        }
        let kinds = [from.is_terminal(), from.is_live(), from.is_unresolved()];
        assert_eq!(kinds.iter().filter(|is| **is).count(), 1, "{from} is exactly one of the three");
    }
}

#[test]
fn nothing_becomes_journaled_and_doubt_comes_from_journaled_only() {
    for &from in IntentState::ALL {
        assert!(!from.may_become(IntentState::Journaled), "{from}");
        assert_eq!(from.may_become(IntentState::InDoubt), from == IntentState::Journaled, "{from}");
    }
}

#[test]
fn positions_move_as_the_table_says() {
    use PositionStatus::*;
    let allowed = [(Open, Closing), (Open, Closed), (Closing, Open), (Closing, Closed), (Closed, Open)];
    for &from in PositionStatus::ALL {
        for &to in PositionStatus::ALL {
            assert_eq!(from.may_become(to), allowed.contains(&(from, to)), "{from} to {to}");
        }
    }
}

#[test]
fn stored_names_are_read_back_and_others_refused() {
    for &state in IntentState::ALL {
        assert_eq!(state.as_str().parse(), Ok(state));
        assert_eq!(serde_json::to_string(&state).unwrap(), format!("\"{state}\""));
    }
    for &kind in SignalType::ALL {
        assert_eq!(kind.as_str().parse(), Ok(kind));
        assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
    }
    assert!("BANANA".parse::<IntentState>().is_err());
    for label in Label::all() {
        assert_eq!(label.to_string().parse(), Ok(label));
        assert_eq!(serde_json::from_str::<Target>(&format!("\"{label}\"")).unwrap(), Target::One(label));
    }
    assert!("Long_0".parse::<Label>().is_err() && "Long_07".parse::<Target>().is_err());
    assert_eq!("ALL".parse(), Ok(Target::All));
}
