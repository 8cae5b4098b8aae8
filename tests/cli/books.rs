//! `baton trades`, `equity` and `orders list`: as a table, as JSON, as CSV.

use serde_json::{Value, json};

use crate::support::{answer_once, baton, stderr, stdout};

fn ask(arguments: &[&str], page: &Value) -> (std::process::Output, String) {
    let (url, server) = answer_once("200 OK", &page.to_string());
    let output = baton(&[arguments, &["--address", &url]].concat(), &[]);
    (output, server.join().unwrap())
}

fn trades() -> Value {
    json!({ "trades": [{
        "id": "t1", "instrument": "GOLD_MINI", "label": "Long_1", "strategy": "a, \"b\"", "symbol": "GOLDM", "exchange": "MCX",
        "quantity": 100, "lot_size": 100, "point_value": "10", "entry_price": "140000.00000000",
        "exit_price": null, "realised": "-1234.56000000", "charges": "287.88000000", "net": "-1522.44000000", "exit_cause": "stop_loss",
        "opened_at": "2026-08-10T04:00:00Z", "closed_at": "2026-08-10T05:00:00Z",
    }], "next": "abc-0" })
}

#[test]
fn trades_are_a_table_json_and_csv() {
    let asked = ["trades", "--from", "2026-08-10T09:15:00+05:30", "--limit", "7"];
    let (output, request) = ask(&asked, &trades());
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(request.starts_with("GET /api/v1/trades?limit=7&from=2026-08-10T09:15:00%2B05:30 "), "{request}");
    let text = stdout(&output);
    assert!(
        text.contains("140000.00  -     -1234.56  287.88   -1522.44  stop_loss")
            && text.contains("--cursor abc-0"),
        "{text}"
    );

    let (output, _) = ask(&["trades", "-o", "json"], &trades());
    assert_eq!(crate::support::json(&output), trades());

    let (output, _) = ask(&["trades", "-o", "csv"], &trades());
    let text = stdout(&output);
    let lines: Vec<&str> = text.split("\r\n").collect();
    assert!(lines[0].starts_with("closed_at,opened_at,instrument,label,strategy,"), "{text}");
    assert!(
        lines[1].contains(",\"a, \"\"b\"\"\",")
            && lines[1].contains(",,-1234.56000000,287.88000000,-1522.44000000,"),
        "{text}"
    );
    assert!(stderr(&output).contains("--cursor abc-0"));
}

#[test]
fn the_equity_curve_says_what_it_is_made_of() {
    let page = json!({
        "points": [{ "at": "2026-08-10T05:00:00Z", "position": "p", "instrument": "COPPER", "strategy": "a",
            "realised": "10.5", "cumulative": "30", "equity": "1030" }],
        "now": { "capital": "1000", "closed": "30", "held": "5", "closed_equity": "1035", "charges": "7.25" }, "next": null,
    });
    let (output, _) = ask(&["equity", "--instrument", "A B"], &page);
    let text = stdout(&output);
    assert!(
        text.starts_with(
            "now 1035.00: capital 1000.00, closed trades 30.00, partial exits 5.00; before charges of 7.25\n"
        ),
        "{text}"
    );
    assert!(text.contains("10.50     30.00       1030.00"), "{text}");
}

#[test]
fn orders_are_listed_as_csv_and_other_verbs_refuse_it() {
    let page = json!({ "orders": [{ "id": "o1", "state": "filled", "quantity": 3 }], "next": null });
    let (output, request) = ask(&["orders", "list", "--in-doubt", "-o", "csv"], &page);
    assert!(request.starts_with("GET /api/v1/orders?limit=100&state=in_doubt "), "{request}");
    assert!(stdout(&output).ends_with(",o1\r\n"));
    let refused = baton(&["status", "-o", "csv"], &[]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("trades, orders list, signals list and equity"));
}

#[test]
fn what_a_position_is_worth_is_not_guessed() {
    let row = json!({ "symbol": "GOLDM", "label": "Long_1", "strategy": "a", "status": "open", "quantity": 100,
        "entry_price": "140000", "current_stop": "139000", "realised": "0", "charges": "0", "opened_at": "2026-08-10T04:00:00Z" });
    let unknown = json!({ "positions": [row], "prices": "unknown here" });
    let (output, _) = ask(&["positions", "list"], &unknown);
    let text = stdout(&output);
    assert!(text.contains("STOP       PRICE  AGE  UNREALISED  REALISED  CHARGES"), "{text}");
    assert!(text.contains("139000.00  -      -    -           0.00"), "{text}");
    assert!(
        text.ends_with("prices are not known there: the leader watches them, and it did not answer\n"),
        "{text}"
    );
    let (output, request) = ask(&["positions", "list", "--closed"], &unknown);
    assert!(request.starts_with("GET /api/v1/positions?status=closed&limit=100 "), "{request}");
    let text = stdout(&output);
    assert!(!text.contains("PRICE") && !text.contains("prices are not known"), "{text}");
}
