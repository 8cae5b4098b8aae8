use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

fn plugin(name: &str) -> Plugin {
    *PLUGINS.iter().find(|plugin| plugin.name == name).unwrap()
}

fn is_an_end(status: &OrderStatus) -> bool {
    matches!(status, OrderStatus::Complete | OrderStatus::Rejected | OrderStatus::Cancelled)
}

#[test]
fn every_plugin_knows_the_bridges_own_words_in_every_spelling() {
    let names: HashSet<&str> = PLUGINS.iter().map(|plugin| plugin.name).collect();
    assert_eq!(names.len(), PLUGINS.len(), "a name stands twice");
    assert!(PLUGINS.iter().all(|plugin| !plugin.name.is_empty() && !plugin.last_price.is_empty()));
    for plugin in PLUGINS {
        for (word, expected) in [
            ("open", OrderStatus::Open),
            ("OPEN", OrderStatus::Open),
            ("trigger pending", OrderStatus::TriggerPending),
            ("TRIGGER_PENDING", OrderStatus::TriggerPending),
            ("Trigger-Pending", OrderStatus::TriggerPending),
            (" trigger  pending ", OrderStatus::TriggerPending),
            ("complete", OrderStatus::Complete),
            ("COMPLETE", OrderStatus::Complete),
            ("rejected", OrderStatus::Rejected),
            ("Rejected", OrderStatus::Rejected),
            ("cancelled", OrderStatus::Cancelled),
            ("CANCELED", OrderStatus::Cancelled),
        ] {
            assert_eq!(plugin.status(word), expected, "{}: {word}", plugin.name);
        }
        for product in [Product::Mis, Product::Nrml, Product::Cnc] {
            assert_eq!(plugin.product(product.as_str()), Some(product));
        }
        for kind in [PriceType::Market, PriceType::Limit, PriceType::StopLimit, PriceType::StopMarket] {
            assert_eq!(plugin.price_type(kind.as_str()), Some(kind), "{}", plugin.name);
        }
        assert_eq!((plugin.side("BUY"), plugin.side("sell")), (Some(Side::Buy), Some(Side::Sell)));
    }
}

// The states in which the bridge's plugins show orders in transit, and what looks like an end and is none.
#[test]
fn nothing_in_transit_is_an_end() {
    for plugin in PLUGINS {
        for word in [
            "MODIFY PENDING",
            "PUT ORDER REQ RECEIVED",
            "VALIDATION PENDING",
            "MODIFY VALIDATION PENDING",
            "AMO REQ RECEIVED",
            "OPEN PENDING",
            "CANCEL PENDING",
            "CANCELLATION_REQUESTED",
            "MODIFICATION_REQUESTED",
            "not cancelled",
            "not modified",
            "cancel rejected",
            "rejected by nobody",
            "incomplete",
            "TRANSIT",
            "triggered",
            "",
            "1",
            "canceled?",
            "стоп",
        ] {
            let status = plugin.status(word);
            assert!(!is_an_end(&status), "{}: {word:?} is {status:?}", plugin.name);
        }
    }
}

#[test]
fn words_of_one_broker_mean_something_at_that_broker() {
    let rows = [
        ("any", "expired", OrderStatus::Cancelled),
        ("any", "Cancelled AMO", OrderStatus::Cancelled),
        ("any", "PART_TRADED", OrderStatus::Open),
        ("any", "TRADED", OrderStatus::Complete),
        ("any", "failed", OrderStatus::Other("failed".to_owned())),
        ("dhan", "EXPIRED", OrderStatus::Cancelled),
        ("dhan", "PENDING", OrderStatus::Open),
        ("groww", "FAILED", OrderStatus::Rejected),
        ("groww", "DELIVERY_AWAITED", OrderStatus::Complete),
        ("groww", "expired", OrderStatus::Other("expired".to_owned())),
        ("zerodha", "CANCELLED AMO", OrderStatus::Cancelled),
        ("zerodha", "EXECUTED", OrderStatus::Other("EXECUTED".to_owned())),
    ];
    for (name, word, expected) in rows {
        assert_eq!(plugin(name).status(word), expected, "{name}: {word}");
    }
    let products = [
        ("any", "INTRADAY", Some(Product::Mis)),
        ("any", "CARRYFORWARD", Some(Product::Nrml)),
        ("any", "DELIVERY", Some(Product::Cnc)),
        // At one broker a future carried forward, at another equity on margin; a letter is another product each time.
        ("any", "MARGIN", None),
        ("any", "M", None),
        ("any", "D", None),
        ("any", "MTF", None),
        ("any", "CO", None),
        ("dhan", "MARGIN", Some(Product::Nrml)),
        ("angel", "MARGIN", None),
        ("shoonya", "M", Some(Product::Nrml)),
        ("flattrade", "i", Some(Product::Mis)),
        ("firstock", "C", Some(Product::Cnc)),
        ("zerodha", "INTRADAY", None),
    ];
    for (name, word, expected) in products {
        assert_eq!(plugin(name).product(word), expected, "{name}: {word}");
    }
    let types = [
        ("any", "SL-MKT", Some(PriceType::StopMarket)),
        ("any", "SL_M", Some(PriceType::StopMarket)),
        ("any", "STOPLOSS_LIMIT", Some(PriceType::StopLimit)),
        // A limit at one broker, a market order at another.
        ("any", "STOP_LOSS", None),
        ("any", "BO", None),
        ("dhan", "STOP_LOSS", Some(PriceType::StopLimit)),
        ("shoonya", "SL-LMT", Some(PriceType::StopLimit)),
        ("kotak", "MKT", None),
    ];
    for (name, word, expected) in types {
        assert_eq!(plugin(name).price_type(word), expected, "{name}: {word}");
    }
    assert_eq!((Plugin::ANY.side("B"), Plugin::ANY.side("X")), (Some(Side::Buy), None));
    assert_eq!(plugin("zerodha").side("B"), None);
}

#[test]
fn a_word_of_the_tolerant_plugin_means_the_same_at_every_broker_that_has_it() {
    for named in PLUGINS {
        for (word, _) in Plugin::ANY.states {
            let (any, own) = (Plugin::ANY.status(word), named.status(word));
            assert!(matches!(own, OrderStatus::Other(_)) || any == own, "{}: {word}", named.name);
        }
        for (word, meaning) in Plugin::ANY.products {
            assert!(named.product(word).is_none_or(|own| own == *meaning), "{}: {word}", named.name);
        }
        for (word, meaning) in Plugin::ANY.types {
            assert!(named.price_type(word).is_none_or(|own| own == *meaning), "{}: {word}", named.name);
        }
    }
}

#[test]
fn orders_of_one_strategy_have_references_of_their_own() {
    let tags =
        ["default:0198c5de-7a01-7b3c-8f21-0123456789ab", "default:0198c5de-7a01-7b3c-8f21-0123456789ac"];
    for (name, chars) in [("groww", 8), ("arrow", 16), ("hdfcsky", 32), ("iiflcapital", 50)] {
        let sent = tags.map(|tag| plugin(name).strategy(tag, 100));
        let references = sent.each_ref().map(|sent| sent.chars().take(chars).collect::<String>());
        assert_ne!(references[0], references[1], "{name}");
        assert!(sent.iter().zip(tags).all(|(sent, tag)| sent.ends_with(tag)), "{sent:?}");
    }
    let reference: String = plugin("groww").strategy(tags[0], 100).chars().take(8).collect();
    assert!(reference.chars().all(|c| c.is_ascii_alphanumeric()), "{reference}: letters and digits alone");
    assert_eq!(plugin("groww").strategy(&"x".repeat(100), 100).chars().count(), 100);
    for name in ["any", "zerodha"] {
        assert_eq!(plugin(name).strategy(tags[0], 100), tags[0]);
    }
}

proptest! {
    /// Whatever a plugin may say: only a word of the table ends an order.
    #[test]
    fn an_unknown_word_ends_nothing(word in "\\PC{0,24}", which in 0..PLUGINS.len()) {
        let plugin = PLUGINS[which];
        let known = look_up(&word, STATES, plugin.states).is_some();
        prop_assert!(known || plugin.status(&word) == OrderStatus::Other(word.clone()));
    }
}
