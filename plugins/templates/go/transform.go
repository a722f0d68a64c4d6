// Features of an order.
package main

import (
	"fmt"

	"gristmill"
)

// Order is what is read of an event.
type Order struct {
	Customer string
	Price    float64
	Quantity int64
	Coupon   *string // may be null
}

// Features are what is served.
type Features struct {
	Total      float64 `doc:"Price of all pieces."`
	Discounted bool    `doc:"Whether a coupon was used."`
}

var transform = gristmill.Transform(gristmill.Spec{
	Name: "NAME", Doc: "The latest order of a customer.", Stream: "orders", Entity: "customer",
}, features)

func features(order Order) (Features, error) {
	if order.Quantity < 1 {
		return Features{}, fmt.Errorf("quantity is %d; at least 1 is right", order.Quantity)
	}
	return Features{Total: order.Price * float64(order.Quantity), Discounted: order.Coupon != nil}, nil
}

func main() {}
