// Five columns of numbers, row by row: what the bench of languages runs in each of them.
package main

import "gristmill"

type order struct {
	Customer int64
	Price    float64
	Quantity int64
}

type features struct {
	Total  float64
	Pieces int64
}

var _ = gristmill.Transform(gristmill.Spec{Name: "numbers", Entity: "customer", Stream: "orders"}, func(order order) (features, error) {
	return features{order.Price * float64(order.Quantity), order.Quantity + 1}, nil
})

func main() {}
