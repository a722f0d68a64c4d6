// Five columns, three of them text, row by row: what the bench of languages runs in each of them.
package main

import "gristmill"

type order struct {
	Customer string
	Country  string
	Price    float64
}

type features struct {
	Label string
	Total float64
}

var _ = gristmill.Transform(gristmill.Spec{Name: "text", Entity: "customer", Stream: "orders"}, func(order order) (features, error) {
	return features{order.Customer + "/" + order.Country, order.Price * 2}, nil
})

func main() {}
