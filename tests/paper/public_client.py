"""Drives a paper bridge with the public OpenAlgo client: orders, books, quotes, a subscription.

Usage: public_client.py REST_URL WEBSOCKET_URL API_KEY
Ends with status 0 when every answer was what the client's own documentation promises.
"""

import sys
import time
from datetime import datetime, timedelta, timezone

from openalgo import api

rest, websocket, key = sys.argv[1:]
client = api(api_key=key, host=rest, ws_url=websocket)
GOLD = {"symbol": "GOLDM05DEC25FUT", "exchange": "MCX"}


def ok(what, answer):
    assert answer.get("status") == "success", f"{what}: {answer}"
    return answer


quote = ok("quotes", client.quotes(**GOLD))["data"]
assert quote["ltp"] > 0 and quote["bid"] <= quote["ask"], quote
many = ok("multiquotes", client.multiquotes(symbols=[GOLD, {"symbol": "NONE", "exchange": "MCX"}]))["results"]
assert many[0]["data"]["ltp"] == quote["ltp"] and "error" in many[1], many
contract = ok("symbol", client.symbol(**GOLD))["data"]
assert contract["lotsize"] == 100, contract

depth = ok("depth", client.depth(**GOLD))["data"]
assert len(depth["bids"]) == len(depth["asks"]) == 5 and depth["bids"][0]["price"] == quote["bid"], depth
assert "1m" in ok("intervals", client.intervals())["data"]["minutes"]
today = datetime.now(timezone(timedelta(hours=5, minutes=30))).date()
days = {"start_date": str(today - timedelta(days=1)), "end_date": str(today + timedelta(days=1))}
bars = client.history(interval="1m", **GOLD, **days)
assert set(bars.columns) == {"open", "high", "low", "close", "volume", "oi"} and len(bars) > 0, bars
assert bars["close"].iloc[-1] == quote["ltp"], bars
found = ok("search", client.search(query="goldm", exchange="MCX"))["data"]
assert [row["symbol"] for row in found] == [GOLD["symbol"]], found
expiries = ok("expiry", client.expiry(symbol="GOLDM", exchange="MCX", instrumenttype="futures"))["data"]
assert expiries == ["05-DEC-25"], expiries
listed = client.instruments(exchange="MCX")
assert GOLD["symbol"] in set(listed["symbol"]), listed
position = {**GOLD, "action": "BUY", "product": "NRML", "pricetype": "MARKET", "quantity": 100}
assert ok("margin", client.margin(positions=[position]))["data"]["total_margin_required"] > 0

order = {"strategy": "public client", "action": "BUY", "product": "NRML", "quantity": 100, **GOLD}
bought = ok("placeorder", client.placeorder(price_type="MARKET", **order))["orderid"]
state = ok("orderstatus", client.orderstatus(order_id=bought))["data"]
assert state["order_status"] == "complete", state
held = ok("openposition", client.openposition(product="NRML", **GOLD))
assert int(held["quantity"]) == 100, held
assert any(row["orderid"] == bought for row in ok("tradebook", client.tradebook())["data"])
assert any(row["symbol"] == GOLD["symbol"] for row in ok("positionbook", client.positionbook())["data"])
ok("holdings", client.holdings())
ok("funds", client.funds())

far = quote["ltp"] // 2
resting = ok("placeorder", client.placeorder(price_type="LIMIT", price=far, **order))["orderid"]
changed = {**order, "price": far + 1}
ok("modifyorder", client.modifyorder(order_id=resting, price_type="LIMIT", **changed))
book = ok("orderbook", client.orderbook())["data"]["orders"]
row = next(row for row in book if row["orderid"] == resting)
assert (row["order_status"], float(row["price"])) == ("open", far + 1), row
ok("cancelorder", client.cancelorder(order_id=resting))
ok("closeposition", client.closeposition())
assert ok("analyzerstatus", client.analyzerstatus())["data"]["mode"] == "analyze"

smart = {"strategy": "public client", "action": "BUY", "product": "NRML", **GOLD}
ok("placesmartorder", client.placesmartorder(quantity=100, position_size=200, **smart))
matched = ok("placesmartorder", client.placesmartorder(quantity=100, position_size=200, **smart))
assert "orderid" not in matched and "Already Matched" in matched["message"], matched
legs = [position, {**position, "symbol": "NONE"}]
basket = ok("basketorder", client.basketorder(strategy="public client", orders=legs))["results"]
assert [leg["status"] for leg in basket] == ["success", "error"], basket
parts = ok("splitorder", client.splitorder(quantity=300, splitsize=200, **smart))
assert [part["quantity"] for part in parts["results"]] == [200, 100] and parts["total_quantity"] == 300, parts
assert int(ok("openposition", client.openposition(product="NRML", **GOLD))["quantity"]) == 600
ok("closeposition", client.closeposition())

refused = client.placeorder(price_type="MARKET", **{**order, "quantity": 1})
assert refused.get("status") == "error", f"not a multiple of the lot: {refused}"

ticks = []
assert client.connect(), "the WebSocket does not connect"
assert client.subscribe_ltp([GOLD], on_data_received=ticks.append), "subscribe_ltp"
deadline = time.monotonic() + 30
while not ticks and time.monotonic() < deadline:
    time.sleep(0.05)
assert ticks, "no tick within 30 s"
assert client.get_ltp(**GOLD)["ltp"]["MCX"][GOLD["symbol"]]["ltp"] > 0
client.unsubscribe_ltp([GOLD])
client.disconnect()
print("every answer was as promised")
