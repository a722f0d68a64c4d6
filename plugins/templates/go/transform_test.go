package main

import (
	"reflect"
	"testing"

	"gristmill"
)

func TestATotalIsThePriceOfAllPieces(t *testing.T) {
	got, err := features(Order{Customer: "ann", Price: 12.5, Quantity: 2})
	if want := (Features{Total: 25}); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestAnOrderOfNothingIsRefused(t *testing.T) {
	coupon := "MAY"
	got, err := transform.Run("",
		Order{Customer: "bob", Price: 99.9, Quantity: 1, Coupon: &coupon},
		Order{Customer: "eve", Price: 1, Quantity: 0},
	)
	want := &gristmill.Result[Features]{
		Rows:     []gristmill.Row[Features]{{Event: 0, Features: Features{Total: 99.9, Discounted: true}}},
		Rejected: []gristmill.Rejected{{Event: 1, Reason: "quantity is 0; at least 1 is right"}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
}
