//! `[charges.NAME]`.

use rust_decimal::dec;

use super::*;
use crate::domain::charges::{Kind, Terms};
use crate::domain::money::Rupees;

#[test]
fn charges_are_read_by_name_from_file_and_environment_and_are_part_of_the_fingerprint() {
    let none = load(&with(&[])).unwrap();
    assert_eq!(none.charges, Schedule::default(), "nobody is charged unasked");
    let read = |percent: &str| {
        let file = file(&format!(
            "[charges.futures]\nexchange = \"NFO\"\nkind = \"future\"\nfrom = 2026-04-01\ntax_sell_percent = {percent}\n\
             brokerage_percent = \"0.03\"\nbrokerage_most = 20\n"
        ));
        let mut inputs = with(&[("BATON_CHARGES__FUTURES__GST_PERCENT", "18")]);
        inputs.file = Some(file.path().to_owned());
        load(&inputs).unwrap_or_else(|error| panic!("{error}"))
    };
    let config = read("0.05");
    let terms = Terms {
        exchange: "NFO".to_owned(),
        kind: Some(Kind::Future),
        from: Some("2026-04-01".parse().unwrap()),
        tax_sell_percent: dec!(0.05),
        brokerage_percent: dec!(0.03),
        brokerage_most: Some(Rupees(dec!(20))),
        gst_percent: dec!(18),
        ..Terms::default()
    };
    assert_eq!(config.charges, Schedule::of(vec![("futures".to_owned(), terms)]).unwrap());
    assert_eq!(source_of(&config, "charges.futures.gst_percent"), "BATON_CHARGES__FUTURES__GST_PERCENT");
    assert_eq!(config.fingerprint(), read("0.05").fingerprint());
    assert_ne!(config.fingerprint(), read("0.02").fingerprint());
    assert_ne!(config.fingerprint(), none.fingerprint());
}

#[test]
fn every_fault_of_charges_is_told() {
    let file = file(
        "[charges.a]\nkind = \"bond\"\nfrom = \"April\"\ntax_sell_percent = \"much\"\ngst_percent = 118\n\
         [charges.b]\nexchange = \"MCX\"\n[charges.c]\nexchange = \"MCX\"\nstamp_percent = 1\n",
    );
    let mut inputs = with(&[]);
    inputs.file = Some(file.path().to_owned());
    let text = load(&inputs).unwrap_err().to_string();
    insta::assert_snapshot!(text.replace(&file.path().display().to_string(), "baton.toml"), @r#"
    the configuration has 7 faults
      charges.a.exchange: give the exchange code as instruments have it, e.g. "MCX"
      charges.a.from (from baton.toml): found "April"; allowed: a day such as 2026-04-01
      charges.a.gst_percent (from baton.toml): is 118; set it at least 0 and at most 100
      charges.a.kind (from baton.toml): found "bond"; allowed: one of "share", "future", "option"
      charges.a.tax_sell_percent (from baton.toml): found "much"; allowed: a number such as 0.5, or the same as text
      charges.c: is for the same exchange, kind, product and day as b; change one of them, or remove it
      charges.c.stamp_percent (from baton.toml): unknown key; did you mean charges.c.gst_percent?
    "#);
}
