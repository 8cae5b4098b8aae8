use super::*;

#[test]
fn a_counted_rule_is_used_up() {
    let mut faults = Faults::new(1);
    faults.add(vec![Rule { count: Some(2), ..Rule::every(Fault::LostAckAfter) }]).unwrap();
    let hits = (0..5).filter(|_| faults.draw(Verb::PlaceOrder, None).end.is_some()).count();
    assert_eq!(hits, 2);
    assert!(faults.active().is_empty());
}

#[test]
fn the_oldest_end_wins_and_only_it_is_used_up() {
    let mut faults = Faults::new(1);
    faults.add(vec![Rule::once(Fault::LostAckBefore, Verb::PlaceOrder)]).unwrap();
    faults.add(vec![Rule::once(Fault::RateLimited, Verb::PlaceOrder)]).unwrap();
    faults.add(vec![Rule::once(Fault::HangAfter { ms: 5 }, Verb::PlaceOrder)]).unwrap();
    let first = faults.draw(Verb::PlaceOrder, None);
    assert_eq!(first.end, Some(Fault::LostAckBefore));
    assert_eq!(first.shapes, [Fault::HangAfter { ms: 5 }]);
    assert_eq!(faults.draw(Verb::PlaceOrder, None).end, Some(Fault::RateLimited));
}

#[test]
fn rules_keep_to_their_aim() {
    let mut faults = Faults::new(1);
    faults.add(vec![Rule { symbol: Some("GOLD".into()), ..Rule::every(Fault::RateLimited) }]).unwrap();
    faults.add(vec![Rule::every(Fault::Hidden { ms: 1 })]).unwrap();
    assert_eq!(faults.draw(Verb::OrderBook, Some("GOLD")), Plan::default());
    assert_eq!(faults.draw(Verb::CancelOrder, Some("SILVER")), Plan::default());
    assert_eq!(faults.draw(Verb::CancelOrder, Some("GOLD")).end, Some(Fault::RateLimited));
    assert_eq!(faults.draw(Verb::PlaceOrder, None).shapes, [Fault::Hidden { ms: 1 }]);
}

#[test]
fn state_faults_hold_until_taken_away() {
    let mut faults = Faults::new(1);
    let silent = Rule { symbol: Some("GOLD".into()), ..Rule::every(Fault::TickSilence) };
    let id = faults.add(vec![silent]).unwrap()[0];
    assert_eq!(faults.draw(Verb::PlaceOrder, Some("GOLD")), Plan::default());
    assert!(faults.holds(&Fault::TickSilence, Some("GOLD")));
    assert!(!faults.holds(&Fault::TickSilence, Some("SILVER")));
    assert!(faults.remove(id));
    assert!(!faults.holds(&Fault::TickSilence, Some("GOLD")));
}

#[test]
fn rules_are_written_in_json() {
    let rule: Rule = serde_json::from_str(
        r#"{"fault":{"kind":"broker_error","status":504},"verb":"placeorder","count":1}"#,
    )
    .unwrap();
    assert_eq!(rule.verb, Some(Target::Verb(Verb::PlaceOrder)));
    assert_eq!(rule.fault, Fault::BrokerError { status: 504, message: None, placed: false });
    let any: Rule = serde_json::from_str(r#"{"fault":{"kind":"lost_ack_before"},"verb":"any"}"#).unwrap();
    assert_eq!(any.verb, Some(Target::Any));
    assert!(serde_json::from_str::<Rule>(r#"{"fault":{"kind":"lost_ack"}}"#).is_err());
    assert!(serde_json::from_str::<Rule>(r#"{"fault":{"kind":"hidden","ms":1},"symbl":"X"}"#).is_err());
}
