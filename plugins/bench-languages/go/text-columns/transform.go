// Five whole columns, three of them text: what the bench of languages runs in each of them.
package main

import "gristmill"

type orders struct {
	Customer []string
	Country  []string
	Price    []float64
}

type features struct {
	Label []string
	Total []float64
}

var _ = gristmill.TransformColumns(gristmill.Spec{Name: "text_columns", Entity: "customer", Stream: "orders"}, func(events *gristmill.Events, in orders) (features, error) {
	out := features{make([]string, events.Len()), make([]float64, events.Len())}
	for i := range out.Total {
		out.Label[i] = in.Customer[i] + "/" + in.Country[i]
		out.Total[i] = in.Price[i] * 2
	}
	return out, nil
})

func main() {}
