//! NUMERIC columns as money. `rust_decimal` reads them with a decimal division for each group of digits, which takes five
//! times as long, and a recovery reads ten of them for each position. What is stored here nearly always fits in one integer
//! with a scale, which is what a `Decimal` is; everything else goes the long way, and gives the same.

use std::error::Error;

use rust_decimal::Decimal;
use tokio_postgres::types::{FromSql, Type};

use crate::domain::money::{Price, Rupees};

/// The bit of the sign word that says "negative"; any other bit says that it is no number.
const NEGATIVE: u16 = 0x4000;
/// Each group holds four decimal digits; so many of them fit in the integer, whatever they are.
const MOST_GROUPS: i32 = 7;

/// Ten thousand to the power of this is more than a `Decimal` holds; `rust_decimal` panics at some of what is larger.
const TOO_LARGE: i16 = 8;

/// A stored number with the scale of its column.
fn decimal(ty: &Type, raw: &[u8]) -> Result<Decimal, Box<dyn Error + Sync + Send>> {
    let (head, groups) = raw.split_first_chunk::<8>().ok_or("it has no head")?;
    let [count, weight, sign, scale] = [0, 2, 4, 6].map(|at| u16::from_be_bytes([head[at], head[at + 1]]));
    let weight = weight.cast_signed();
    let is_number = sign & !NEGATIVE == 0 && groups.len() == 2 * usize::from(count);
    if is_number && weight >= TOO_LARGE {
        return Err(rust_decimal::Error::ExceedsMaximumPossibleValue.into());
    }
    let digits = if is_number { at_once(groups, weight, scale) } else { None };
    let digits = digits.map(|digits| if sign == NEGATIVE { -digits } else { digits });
    match digits.map(|digits| Decimal::try_from_i128_with_scale(digits, scale.into())) {
        Some(Ok(number)) => Ok(number),
        _ => Decimal::from_sql(ty, raw),
    }
}

/// All digits up to the last of the scale as one integer; none if there are more of them.
fn at_once(groups: &[u8], weight: i16, scale: u16) -> Option<i128> {
    let count = i32::try_from(groups.len() / 2).ok().filter(|count| *count <= MOST_GROUPS)?;
    let digits = groups
        .chunks_exact(2)
        .fold(0_i128, |digits, group| digits * 10_000 + i128::from(u16::from_be_bytes([group[0], group[1]])));
    // The first group counts ten thousand to the power of the weight, and the last so many groups less.
    let beyond = 4 * (i32::from(weight) + 1 - count) + i32::from(scale);
    let power = 10_i128.checked_pow(beyond.unsigned_abs())?;
    match beyond {
        0.. => digits.checked_mul(power),
        _ => (digits % power == 0).then(|| digits / power),
    }
}

macro_rules! read_as_decimal {
    ($($name:ident),+) => {
        $(impl<'a> FromSql<'a> for $name {
            fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
                decimal(ty, raw).map(Self)
            }

            fn accepts(ty: &Type) -> bool {
                <Decimal as FromSql>::accepts(ty)
            }
        })+
    };
}
read_as_decimal!(Price, Rupees);

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;
    use rust_decimal::dec;
    use tokio_postgres::types::ToSql;

    use super::*;

    /// As a column of this scale sends it.
    fn sent(number: Decimal, scale: u16) -> BytesMut {
        let mut raw = BytesMut::new();
        number.to_sql(&Type::NUMERIC, &mut raw).unwrap();
        raw[6..8].copy_from_slice(&scale.to_be_bytes());
        raw
    }

    fn same(raw: &[u8]) {
        let read = Price::from_sql(&Type::NUMERIC, raw).map(|price| (price.0, price.0.scale())).ok();
        let wanted = Decimal::from_sql(&Type::NUMERIC, raw).map(|number| (number, number.scale())).ok();
        assert_eq!(read, wanted, "{raw:?}");
    }

    /// As the database sends a number: nothing before the first digit.
    fn bytes(sign: u16, weight: i16, scale: u16, groups: &[u16]) -> Vec<u8> {
        let head = [u16::try_from(groups.len()).unwrap(), weight.cast_unsigned(), sign, scale];
        head.iter().chain(groups).copied().flat_map(u16::to_be_bytes).collect()
    }

    proptest! {
        #[test]
        fn a_number_is_what_it_was_and_has_its_columns_scale(digits in -999_999_999_999_999_999_i64.., scale in 0..=8_u32) {
            let number = Decimal::new(digits, scale);
            let raw = sent(number, 8);
            let read = Rupees::from_sql(&Type::NUMERIC, &raw).unwrap().0;
            prop_assert_eq!((read, read.scale()), (number, 8));
            same(&raw);
        }

        #[test]
        fn other_numbers_are_read_as_the_long_way_reads_them(
            weight in -9..TOO_LARGE,
            sign in prop::sample::select(vec![0, NEGATIVE, 0xC000, 0xD000, 0xF000]),
            scale in 0..40_u16,
            first in 1..10_000_u16,
            more in prop::collection::vec(0..10_000_u16, 0..9),
        ) {
            same(&bytes(sign, weight, scale, &[&[first][..], &more].concat()));
        }
    }

    #[test]
    fn what_is_too_large_is_an_error_and_no_panic() {
        for weight in [7, TOO_LARGE, 9, 11, i16::MAX] {
            assert!(Price::from_sql(&Type::NUMERIC, &bytes(0, weight, 8, &[9999])).is_err(), "{weight}");
        }
        same(&bytes(0, 0, 8, &[]));
    }

    #[test]
    fn what_is_no_number_is_an_error_that_says_so() {
        let mut raw = sent(dec!(1), 8);
        raw[4..6].copy_from_slice(&0xC000_u16.to_be_bytes());
        assert_eq!(
            Price::from_sql(&Type::NUMERIC, &raw).unwrap_err().to_string(),
            Decimal::from_sql(&Type::NUMERIC, &raw).unwrap_err().to_string()
        );
        assert!(Rupees::from_sql(&Type::NUMERIC, &raw[..5]).is_err());
    }
}
