"""Drives a paper bridge with the public OpenAlgo client: orders, books, quotes, a subscription.

Usage: public_client.py REST_URL WEBSOCKET_URL API_KEY
Ends with status 0 when every answer was what the client's own documentation promises.
"""

import sys
import time

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
