// Declares every function of windows once: each language must say the same of itself as this does.
package main

import (
	"gristmill"
	"gristmill/window"
)

type Event struct {
	ID       string
	Amount   *float64
	Item     string
	Quantity int64 `default:"1"`
}

type Features struct {
	Amount   *float64
	Quantity int64
	Item     string
}

var _ = gristmill.Transform(gristmill.Spec{
	Name: "windows", Version: "1.0.0", Doc: "Hands events on to windows of every function.", Stream: "windows", Entity: "id",
	Windows: []window.Window{
		window.Count("amounts_90s", "amount").Over("90s"),
		window.Sum("amount_sum_5m", "amount").Over("5m"),
		window.Mean("amount_mean_1h", "amount").Over("1h"),
		window.Min("quantity_min_24h", "quantity").Over("24h"),
		window.Max("quantity_max_7d", "quantity").Over("7d"),
		window.Variance("amount_variance_30d", "amount").Over("30d"),
		window.First("item_first", "item"),
		window.Last("item_last", "item"),
		window.Distinct("items_365d", "item").Over("365d"),
		window.Quantile("amount_p90_1h", "amount", 0.9).Over("1h"),
		window.LastValues("items_last_5", "item", 5),
		window.Top("items_top_3_1h", "item", 3).Over("1h"),
		window.Sum("quantity_sum", "quantity"),
	},
}, func(event Event) (Features, error) {
	return Features{event.Amount, event.Quantity, event.Item}, nil
})

func main() {}
