// Five whole columns of numbers: what the bench of languages runs in each of them.
package main

import "gristmill"

type orders struct {
	Customer []int64
	Price    []float64
	Quantity []int64
}

type features struct {
	Total  []float64
	Pieces []int64
}

var _ = gristmill.TransformColumns(gristmill.Spec{Name: "numbers_columns", Entity: "customer", Stream: "orders"}, func(events *gristmill.Events, in orders) (features, error) {
	out := features{make([]float64, events.Len()), make([]int64, events.Len())}
	for i := range out.Total {
		out.Total[i] = in.Price[i] * float64(in.Quantity[i])
		out.Pieces[i] = in.Quantity[i] + 1
	}
	return out, nil
})

func main() {}
