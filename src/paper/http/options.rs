//! Options by their distance from the money: which contract is meant, the chain around it, and orders for it.

use rust_decimal::Decimal;
use serde_json::{Value, json};

use super::command::{Leg, Offset, Right, Underlying};
use super::data::quote;
use super::many::{Made, Way, one};
use super::pipeline::Handled;
use super::reply::Reply;
use crate::domain::order::Side;
use crate::paper::SymbolKey;
use crate::paper::core::{Listing, OrderRequest};
use crate::paper::hub::{State, number, price};
use crate::paper::symbols::{Kind, Name};

/// The options of one expiry on one underlying, by strike, and where its price stands.
struct Chain<'a> {
    underlying: &'a Listing,
    base: String,
    expiry: String,
    exchange: String,
    strikes: Vec<Decimal>,
    options: Vec<(&'a Listing, Name<'a>)>,
}

impl<'a> Chain<'a> {
    fn find(state: &'a State, asked: &Underlying) -> Result<Self, Reply> {
        let name = Name::read(&asked.symbol);
        let key = SymbolKey::new(&asked.symbol, &asked.exchange);
        let underlying = state
            .exchange
            .listing(&key)
            .ok_or_else(|| Reply::plain_error(404, format!("Failed to fetch LTP for {}", asked.symbol)))?;
        let expiry = asked.expiry.as_deref().or(name.expiry).ok_or_else(|| {
            Reply::plain_error(
                400,
                "Expiry date is required. Provide expiry_date parameter or embed it in underlying.",
            )
        })?;
        let exchange = match asked.exchange.as_str() {
            "NSE" | "NSE_INDEX" => "NFO",
            "BSE" | "BSE_INDEX" => "BFO",
            other => other,
        };
        let options: Vec<(&Listing, Name<'_>)> = state
            .exchange
            .listings()
            .filter(|listing| listing.spec.key.exchange == exchange)
            .map(|listing| (listing, Name::read(&listing.spec.key.symbol)))
            .filter(|(_, option)| {
                option.strike().is_some() && option.base == name.base && option.expiry == Some(expiry)
            })
            .collect();
        if options.is_empty() {
            let message = format!("No strikes found for {} expiring {expiry}", name.base);
            return Err(Reply::plain_error(404, message));
        }
        let mut strikes: Vec<Decimal> = options.iter().filter_map(|(_, option)| option.strike()).collect();
        strikes.sort();
        strikes.dedup();
        let (base, expiry, exchange) = (name.base.to_owned(), expiry.to_owned(), exchange.to_owned());
        Ok(Self { underlying, base, expiry, exchange, strikes, options })
    }

    /// The place of the strike that is nearest to the price; of two the lower one.
    fn at_the_money(&self) -> usize {
        let distance = |place: &usize| (self.strikes[*place] - self.underlying.ltp.0).abs();
        (0..self.strikes.len()).min_by_key(distance).unwrap_or(0)
    }

    fn option(&self, strike: Decimal, right: Right) -> Option<&'a Listing> {
        let wanted = match right {
            Right::Call => Kind::Call(strike),
            Right::Put => Kind::Put(strike),
        };
        self.options.iter().find(|(_, option)| option.kind == wanted).map(|(listing, _)| *listing)
    }

    /// The option so many strikes in or out of the money.
    fn at(&self, offset: Offset, right: Right) -> Result<&'a Listing, Reply> {
        let away = match right {
            Right::Call => offset.0,
            Right::Put => -offset.0,
        };
        let place = i64::try_from(self.at_the_money()).unwrap_or(0) + away;
        let strike = usize::try_from(place).ok().and_then(|place| self.strikes.get(place));
        strike.and_then(|strike| self.option(*strike, right)).ok_or_else(|| {
            Reply::plain_error(
                404,
                format!("No {} option at {offset} from the money is listed", right.as_str()),
            )
        })
    }
}

/// The contract that is meant.
pub(super) fn symbol(state: &State, asked: &Underlying, offset: Offset, right: Right) -> Reply {
    let found = Chain::find(state, asked).and_then(|chain| Ok((chain.at(offset, right)?, chain)));
    let (option, chain) = match found {
        Ok(found) => found,
        Err(reply) => return reply,
    };
    let spec = &option.spec;
    let body = json!({
        "status": "success", "symbol": spec.key.symbol, "exchange": spec.key.exchange, "lotsize": spec.lot_size,
        "tick_size": price(spec.tick_size), "freeze_qty": spec.freeze_qty,
        "underlying_ltp": price(chain.underlying.ltp),
    });
    Reply::Json(200, body)
}

/// All strikes, or so many on either side of the money.
pub(super) fn chain(state: &State, asked: &Underlying, strikes: Option<usize>) -> Reply {
    let chain = match Chain::find(state, asked) {
        Ok(chain) => chain,
        Err(reply) => return reply,
    };
    let middle = chain.at_the_money();
    let side = |strike: Decimal, right: Right, place: usize| {
        let option = chain.option(strike, right)?;
        let away = i64::try_from(place).unwrap_or(0) - i64::try_from(middle).unwrap_or(0);
        let offset = Offset(if right == Right::Call { away } else { -away });
        let mut row = quote(option);
        row["symbol"] = option.spec.key.symbol.as_str().into();
        row["label"] = offset.to_string().into();
        row["lotsize"] = json!(option.spec.lot_size);
        row["tick_size"] = price(option.spec.tick_size);
        Some(row)
    };
    let shown = chain
        .strikes
        .iter()
        .enumerate()
        .filter(|(place, _)| strikes.is_none_or(|strikes| place.abs_diff(middle) <= strikes));
    let rows: Vec<Value> = shown
        .map(|(place, strike)| {
            json!({
                "strike": number(*strike),
                "ce": side(*strike, Right::Call, place),
                "pe": side(*strike, Right::Put, place),
            })
        })
        .collect();
    let body = json!({
        "status": "success", "underlying": chain.base, "underlying_ltp": price(chain.underlying.ltp),
        "expiry_date": chain.expiry, "atm_strike": number(chain.strikes[middle]), "chain": rows,
    });
    Reply::Json(200, body)
}

/// What the options at the money say that the underlying is worth: strike + call − put.
pub(super) fn synthetic_future(state: &State, asked: &Underlying) -> Reply {
    let chain = match Chain::find(state, asked) {
        Ok(chain) => chain,
        Err(reply) => return reply,
    };
    let strike = chain.strikes[chain.at_the_money()];
    let both = chain.option(strike, Right::Call).zip(chain.option(strike, Right::Put));
    let Some((call, put)) = both else {
        return Reply::plain_error(404, format!("Call and put are not both listed at {strike}"));
    };
    let body = json!({
        "status": "success", "underlying": chain.base, "underlying_ltp": price(chain.underlying.ltp),
        "expiry": chain.expiry, "atm_strike": number(strike),
        "synthetic_future_price": number(strike + call.ltp.0 - put.ltp.0),
    });
    Reply::Json(200, body)
}

/// An order for the option that is meant.
pub(super) fn order(state: &mut State, asked: &Underlying, leg: Leg, strategy: String, way: Way) -> Handled {
    let (request, ltp) = match resolved(state, asked, &leg, strategy) {
        Ok(resolved) => resolved,
        Err(reply) => return Handled::undone(reply),
    };
    let (symbol, exchange) = (request.spec.symbol.clone(), request.spec.exchange.clone());
    let mut handled = one(state, request, way);
    if let Reply::Json(200, body) = &mut handled.reply {
        body["symbol"] = symbol.into();
        body["exchange"] = exchange.into();
        body["underlying"] = asked.symbol.as_str().into();
        body["underlying_ltp"] = ltp;
        body["offset"] = leg.offset.to_string().into();
        body["option_type"] = leg.right.as_str().into();
    }
    handled
}

/// Several options on one underlying: what is bought comes first, for the margin's sake.
pub(super) fn orders(
    state: &mut State,
    asked: &Underlying,
    legs: Vec<Leg>,
    strategy: &str,
    way: Way,
) -> Handled {
    let mut made = Made::default();
    let mut ltp = Value::Null;
    let mut legs: Vec<(usize, Leg)> = legs.into_iter().enumerate().collect();
    legs.sort_by_key(|(_, leg)| leg.order.side == Side::Sell);
    for (place, leg) in legs {
        let own = Underlying { expiry: leg.expiry.clone().or(asked.expiry.clone()), ..asked.clone() };
        let row = match resolved(state, &own, &leg, strategy.to_owned()) {
            Ok((request, price)) => {
                ltp = price;
                let symbol = request.spec.symbol.clone();
                let row = made.order(state, request, way);
                row["symbol"] = symbol.into();
                row
            }
            Err(reply) => made.failed(json!({ "status": "error", "message": reply.body()["message"] })),
        };
        row["leg"] = (place + 1).into();
        row["offset"] = leg.offset.to_string().into();
        row["option_type"] = leg.right.as_str().into();
        row["action"] = json!(leg.order.side);
    }
    made.handled(way.shape, json!({ "underlying": asked.symbol, "underlying_ltp": ltp }))
}

fn resolved(
    state: &State,
    asked: &Underlying,
    leg: &Leg,
    strategy: String,
) -> Result<(OrderRequest, Value), Reply> {
    let chain = Chain::find(state, asked)?;
    let option = chain.at(leg.offset, leg.right)?;
    let mut spec = leg.order.clone();
    spec.symbol.clone_from(&option.spec.key.symbol);
    spec.exchange.clone_from(&chain.exchange);
    Ok((OrderRequest { spec, strategy }, price(chain.underlying.ltp)))
}
