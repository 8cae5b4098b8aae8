//! An entry's bids against the order that they are stored with: whoever leads next orders by them.

use crate::domain::execution::Bidding;
use crate::domain::ids::IntentId;
use crate::domain::money::Price;
use crate::domain::order::{OrderSpec, PriceType};
use crate::recovery::report::Finding;

/// V2, second part. They were computed with their order and are never written again: the order stands at the first of them,
/// and they are for what it asks for. Only of a last order, which nothing follows, they may be for more: others bought that.
pub(super) fn findings(id: IntentId, order: &OrderSpec, bidding: &Bidding) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wrong = |holds: bool, field: &str, stored: String, rule: String| {
        if !holds {
            findings.push(Finding::mismatch("order_intent", id, field, stored, rule));
        }
    };
    let limit = PriceType::Limit;
    wrong(
        order.price_type == limit,
        "price_type",
        order.price_type.to_string(),
        format!("{limit}, as it bids"),
    );
    let first = bidding.first().map(Price::rounded);
    wrong(
        first == Some(order.price.rounded()),
        "price",
        order.price.to_string(),
        first.map_or_else(
            || "its first bid, and there is none".to_owned(),
            |bid| format!("{bid}, its first bid"),
        ),
    );
    let rise = bidding.prices.is_sorted() && bidding.prices.iter().all(|bid| *bid > Price::ZERO);
    let capped = bidding.rest_at.is_none_or(|most| bidding.prices.last().is_none_or(|last| *last <= most));
    wrong(
        rise && capped,
        "plan",
        format!("bids {:?}, then {:?}", bidding.prices, bidding.rest_at),
        "above zero, none below the one before it".to_owned(),
    );
    wrong(bidding.step_ms > 0, "plan", "bids of 0 ms".to_owned(), "a bid stands for a while".to_owned());
    let fits = match bidding.rest_at {
        Some(_) => bidding.units == order.quantity,
        None => bidding.units >= order.quantity,
    };
    wrong(
        fits,
        "plan",
        format!("bids for {} units", bidding.units),
        format!("{} are ordered", order.quantity),
    );
    findings
}

#[cfg(test)]
mod tests {
    use rust_decimal::dec;
    use uuid::Uuid;

    use super::*;
    use crate::domain::fixtures;
    use crate::domain::money::Quantity;
    use crate::domain::order::{Product, Side};

    fn first() -> (OrderSpec, Bidding) {
        let order = OrderSpec {
            symbol: "GOLDM05DEC25FUT".to_owned(),
            exchange: "MCX".to_owned(),
            side: Side::Buy,
            quantity: Quantity(100),
            price_type: PriceType::Limit,
            product: Product::Nrml,
            price: Price(dec!(1000)),
            trigger_price: Price::ZERO,
        };
        let bidding = Bidding {
            units: Quantity(100),
            prices: vec![Price(dec!(1000)), Price(dec!(1000)), Price(dec!(1001))],
            step_ms: 500,
            rest_at: Some(Price(dec!(1001))),
            decided_at: fixtures::at(0),
        };
        (order, bidding)
    }

    fn fields(change: impl FnOnce(&mut OrderSpec, &mut Bidding)) -> Vec<String> {
        let (mut order, mut bidding) = first();
        change(&mut order, &mut bidding);
        let found = findings(IntentId(Uuid::from_u128(1)), &order, &bidding);
        found.into_iter().map(|finding| finding.field).collect()
    }

    #[test]
    fn bids_that_fit_their_order_are_whole() {
        assert_eq!(fields(|_, _| ()), [""; 0]);
        assert_eq!(fields(|order, _| order.price = Price(dec!(1000.00))), [""; 0]);
        let rest = |order: &mut OrderSpec, bidding: &mut Bidding| {
            *bidding = bidding.rest(30_000, fixtures::at(1)).unwrap();
            (order.quantity, order.price) = (Quantity(40), Price(dec!(1001)));
        };
        assert_eq!(fields(rest), [""; 0], "60 of its 100 units were bought by another");
    }

    #[test]
    fn each_figure_that_does_not_is_told() {
        assert_eq!(
            fields(|_, bids| bids.units = Quantity(101)),
            ["plan"],
            "more would be ordered than was decided"
        );
        assert_eq!(fields(|_, bids| bids.units = Quantity(99)), ["plan"]);
        assert_eq!(fields(|_, bids| (bids.units, bids.rest_at) = (Quantity(99), None)), ["plan"]);
        assert_eq!(fields(|_, bids| bids.prices[2] = Price(dec!(999))), ["plan"], "it falls");
        assert_eq!(fields(|_, bids| bids.prices[2] = Price(dec!(1002))), ["plan"], "above the cap");
        assert_eq!(fields(|_, bids| bids.rest_at = Some(Price::ZERO)), ["plan"]);
        assert_eq!(fields(|_, bids| bids.step_ms = 0), ["plan"]);
        assert_eq!(fields(|_, bids| bids.prices.clear()), ["price"]);
        assert_eq!(fields(|order, _| order.price = Price(dec!(1000.00000001))), ["price"]);
        assert_eq!(fields(|order, _| order.price_type = PriceType::Market), ["price_type"]);
        let to_nothing = |order: &mut OrderSpec, bids: &mut Bidding| {
            (order.price, bids.prices[0]) = (Price::ZERO, Price::ZERO);
        };
        assert_eq!(fields(to_nothing), ["plan"]);
    }
}
