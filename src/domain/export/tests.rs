use super::*;
use crate::domain::instrument::Catalog;
use crate::domain::policy::SignalPolicy;
use crate::domain::signal::{SignalType, parse};

const HEADER: &str = "\u{feff}Trade #,Type,Date/Time,Signal,Price INR,Position size (qty),Net P&L INR\n";

fn file(rows: &str) -> String {
    format!("{HEADER}{rows}")
}

fn line_of_events(trades: &[ExportTrade]) -> Vec<String> {
    timeline(trades).unwrap().iter().map(|event| format!("{} {}", event.id(), event.label)).collect()
}

#[test]
fn rows_become_a_time_line_with_labels() {
    let text = file(
        "1,Exit long,2020-04-15 12:00,Stop,46189,37,1\n1,Entry long,2020-04-03 09:00,ENTRY-37L,43667,37,1\n\
         2,Exit long,2020-04-15 12:00,Stop,46189,18,1\n2,Entry long,2020-04-07 09:00,PYR1-18L,45075,18,1\n\
         3,Exit long,2020-04-15 12:00,Stop,46189,5,1\n3,Entry long,2020-04-15 12:00,ENTRY-5L,46189.5,5,1\n\
         4,Exit long,,Open,,,\n4,Entry long,2020-04-16 12:00,ENTRY-5L,46189,5.5,1\n",
    );
    let trades = read(text.as_bytes()).unwrap();
    assert_eq!(trades[0].entry.time.to_rfc3339(), "2020-04-03T03:30:00+00:00");
    assert_eq!(trades[3].exit, None);
    assert_eq!(
        line_of_events(&trades),
        [
            "tv-1-entry Long_1",
            "tv-2-entry Long_2",
            "tv-1-exit Long_1",
            "tv-2-exit Long_2",
            "tv-3-entry Long_1",
            "tv-3-exit Long_1",
            "tv-4-entry Long_1",
        ]
    );
}

#[test]
fn every_faulty_line_is_named() {
    let text = file(
        "1,Exit long,2020-04-15,Stop,46189,37,1\n1,Entry long,2020-04-03 09:00,E,-5,x,1\n\
         2,Entry short,2020-04-03 09:00,E,5,1,1\nx,Entry long,2020-04-03 09:00,E,5,1,1\n\
         5,Exit long,2020-04-03 09:00,E,5,1,1\n6,Entry long,2020-04-03 09:00,E,5,1,1\n\
         6,Entry long,2020-04-03 09:00,E,5,1,1\n7,Entry long,2020-04-03 09:00,E,5,1,1\n\
         7,Exit long,2020-04-02 09:00,E,5,1,1\n",
    );
    let Err(ExportError::Faults(faults)) = read(text.as_bytes()) else { panic!("accepted") };
    let mut lines: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["line 10", "line 2", "line 3", "line 3", "line 4", "line 5", "line 6", "line 8"],
        "{faults:?}"
    );
    let headers = read("Trade #,Kind,When\n".as_bytes()).unwrap_err().to_string();
    assert!(headers.contains("\"type\"") && headers.contains("\"price\""), "{headers}");
}

#[test]
fn a_seventh_trade_at_a_time_is_refused() {
    let rows: String = (1..=7).map(|n| format!("{n},Entry long,2020-04-0{n} 09:00,E,100,1,1\n")).collect();
    let trades = read(file(&rows).as_bytes()).unwrap();
    let error = timeline(&trades).unwrap_err().to_string();
    assert!(error.contains("line 8") && error.contains("trade 7"), "{error}");
}

/// Reads the real export when `BATON_REPLAY_EXPORT` names it: it is not part of the project.
#[test]
fn the_real_export_replays_as_acceptable_signals() {
    let Some(path) = std::env::var_os("BATON_REPLAY_EXPORT") else {
        eprintln!("skipped: BATON_REPLAY_EXPORT names no file");
        return;
    };
    let trades = read(std::fs::File::open(path).unwrap()).unwrap();
    assert_eq!(trades.len(), 371);
    let events = timeline(&trades).unwrap();
    assert_eq!(events.len(), 742);
    let now = DateTime::from_timestamp(1_764_000_000, 0).unwrap();
    let mut kinds = std::collections::BTreeMap::<String, usize>::new();
    let mut keys = std::collections::BTreeSet::new();
    for event in &events {
        let body = event.payload("GOLD_MINI", &ReplayDefaults::default(), now).to_string();
        let signal = parse(body.as_bytes(), &Catalog::default(), &SignalPolicy::default(), now).unwrap();
        assert_eq!(signal.bar_time, event.leg.time);
        assert!(keys.insert(signal.key.0.clone()), "{} repeats", signal.key);
        *kinds.entry(signal.kind().to_string()).or_default() += 1;
    }
    assert!(events.windows(2).all(|pair| pair[0].leg.time <= pair[1].leg.time));
    assert_eq!(kinds[SignalType::BaseEntry.as_str()], 368);
    assert_eq!(kinds[SignalType::Pyramid.as_str()], 3);
    assert_eq!(kinds[SignalType::Exit.as_str()], 371);
}
