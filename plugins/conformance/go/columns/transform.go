// Whole columns: what the conformance cases of columns run in every language.
package main

import "gristmill"

type orders struct {
	ID     []string
	Price  []float64
	Pieces gristmill.Nullable[int64]
	Coupon gristmill.Nullable[string]
}

type features struct {
	Total gristmill.Nullable[float64]
	Label []string
	Next  gristmill.Nullable[int64]
}

var _ = gristmill.TransformColumns(gristmill.Spec{
	Name: "columns", Version: "1.0.0", Doc: "Whole columns.", Stream: "orders", Entity: "id",
}, func(events *gristmill.Events, in orders) (features, error) {
	out := features{
		Total: gristmill.Nullable[float64]{Values: make([]float64, events.Len()), Null: in.Pieces.Null},
		Label: make([]string, events.Len()),
		Next:  gristmill.Nullable[int64]{Values: make([]int64, events.Len()), Null: in.Pieces.Null},
	}
	for i := range out.Label {
		out.Total.Values[i] = in.Price[i] * float64(in.Pieces.Values[i])
		out.Next.Values[i] = in.Pieces.Values[i] + 1
		coupon := "-"
		if !in.Coupon.Null[i] {
			coupon = in.Coupon.Values[i]
		}
		out.Label[i] = in.ID[i] + "/" + coupon
	}
	return out, nil
})

func main() {}
