package main

import "testing"

func TestATotalIsThePriceOfAllPieces(t *testing.T) {
	got, err := features(&Order{Customer: "ann", Price: 12.5, Quantity: 2})
	if want := (Features{Total: 25}); err != nil || got != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}

func TestAnOrderOfNothingIsRefused(t *testing.T) {
	if _, err := features(&Order{Customer: "eve", Price: 1}); err == nil || err.Error() != "quantity is 0; at least 1 is right" {
		t.Errorf("got %v", err)
	}
}
