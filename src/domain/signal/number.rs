//! Numbers from their JSON text, exactly, without `f64`.

use rust_decimal::{Decimal, dec};

use crate::domain::money::STORED_DECIMALS;

/// Largest magnitude taken: it leaves room for every product the domain makes in Decimal's 28 digits.
const MOST: Decimal = dec!(10_000_000_000);
/// Longest text that is looked at.
const MAX_TEXT: usize = 64;
/// Largest exponent, either way, that is looked at: beyond it nothing fits or everything rounds to zero.
const MAX_EXPONENT: i32 = 28;

/// Reads a decimal number: digits, an optional sign, point and exponent. Rounds to the ledger's decimals.
///
/// # Errors
/// A message for the sender: not a number, or too large.
pub(super) fn decimal(text: &str) -> Result<Decimal, String> {
    let text = text.trim();
    let not_a_number = || format!("must be a finite decimal number, got {:?}", shortened(text));
    if text.len() > MAX_TEXT || !well_formed(text) {
        return Err(not_a_number());
    }
    let number = match text.find(['e', 'E']) {
        None => text.parse().ok(),
        Some(at) => {
            let exponent: i32 = text[at + 1..].parse().map_err(|_| not_a_number())?;
            if exponent.abs() > MAX_EXPONENT {
                return Err(format!("has an exponent beyond ±{MAX_EXPONENT}; write the number out"));
            }
            Decimal::from_scientific(text).ok()
        }
    };
    match number {
        Some(number) if number.abs() <= MOST => Ok(number.round_dp(STORED_DECIMALS).normalize()),
        Some(_) | None => Err(format!("is out of range: at most {MOST} either way")),
    }
}

/// `-?digits[.digits][e[+-]digits]`: JSON's grammar, save that leading zeros are allowed in text.
fn well_formed(text: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let mantissa = mantissa.strip_prefix('-').unwrap_or(mantissa);
    let mantissa_ok = match mantissa.split_once('.') {
        Some((whole, fraction)) => digits(whole) && digits(fraction),
        None => digits(mantissa),
    };
    mantissa_ok && exponent.is_none_or(|part| digits(part.strip_prefix(['+', '-']).unwrap_or(part)))
}

/// The first characters of what was sent, for a message.
pub(super) fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_exactly() {
        assert_eq!(decimal("52000.1"), Ok(dec!(52000.1)));
        assert_eq!(decimal("0.1234567850"), Ok(dec!(0.12345678)));
        assert_eq!(decimal("9999999999.12345678"), Ok(dec!(9999999999.12345678)));
        assert_eq!(decimal("5.2e4"), Ok(dec!(52000)));
        assert_eq!(decimal("1E-3"), Ok(dec!(0.001)));
        assert_eq!(decimal("-0"), Ok(dec!(0)));
        assert_eq!(decimal(" 007 "), Ok(dec!(7)));
    }

    #[test]
    fn everything_else_is_refused() {
        for text in [
            "",
            "NaN",
            "inf",
            "1_000",
            "1,000",
            "+1",
            ".5",
            "1.",
            "0x10",
            "1e",
            "1e999",
            "--1",
            "1e4000000000",
        ] {
            assert!(decimal(text).is_err(), "{text}");
        }
        assert!(decimal("10000000000.1").is_err());
        assert!(decimal(&"9".repeat(64)).is_err());
        assert!(decimal(&"9".repeat(10_000)).unwrap_err().len() < 200);
    }
}
