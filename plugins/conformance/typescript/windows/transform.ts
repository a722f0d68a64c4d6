// Declares every function of windows once: each language must say the same of itself as this does.
import { count, distinct, first, float, integer, last, lastValues, max, mean, min, nullable, quantile, rows, sum, text, top, variance, withDefault } from "gristmill";

export const transform = rows({
  name: "windows",
  version: "1.0.0",
  doc: "Hands events on to windows of every function.",
  stream: "windows",
  entity: "id",
  inputs: { id: text, amount: nullable(float), item: text, quantity: withDefault(integer, 1) },
  outputs: { amount: nullable(float), quantity: integer, item: text },
  aggregate: {
    amounts_90s: count("amount", "90s"),
    amount_sum_5m: sum("amount", "5m"),
    amount_mean_1h: mean("amount", "1h"),
    quantity_min_24h: min("quantity", "24h"),
    quantity_max_7d: max("quantity", "7d"),
    amount_variance_30d: variance("amount", "30d"),
    item_first: first("item"),
    item_last: last("item"),
    items_365d: distinct("item", "365d"),
    amount_p90_1h: quantile("amount", 0.9, "1h"),
    items_last_5: lastValues("item", 5),
    items_top_3_1h: top("item", 3, "1h"),
    quantity_sum: sum("quantity"),
  },
  apply: ({ amount, quantity, item }) => ({ amount, quantity, item }),
});
