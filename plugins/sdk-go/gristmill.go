// Package gristmill is for writing transforms in Go: a typed function over rows or over columns, and nothing else. (Experimental.)
//
//	type Order struct {
//		Customer string
//		Price    float64
//		Quantity int64
//		Coupon   *string // may be null
//	}
//
//	type Features struct {
//		Total      float64 `doc:"Price of all pieces."`
//		Discounted bool
//	}
//
//	var _ = gristmill.Transform(gristmill.Spec{Name: "spending", Stream: "orders", Entity: "customer"}, func(order Order) (Features, error) {
//		return Features{order.Price * float64(order.Quantity), order.Coupon != nil}, nil
//	})
//
//	func main() {}
//
// The function stays an ordinary function, so its unit tests are ordinary tests; Run, of what Transform returns, runs the whole batch path without a host.
//
// # Fields
//
// The members of the two structs are what is read and what is returned: Customer is the field `customer`, UnitPrice is `unit_price`, a tag `gm:"name"` says
// otherwise, and `gm:"-"` leaves a member out. A tag `default:"1"` stands in where an event lacks the field, `doc:"…"` is for people.
//
// A member is a bool, int64, int, float64, string, []byte, Timestamp, time.Time (in UTC, whole microseconds) or [N]float32 (a vector of N numbers), or a
// type with such an underlying type, or a pointer to one where null is a legal value.
//
// # What a function returns
//
// A row and nil; Skip in place of nil for no row; any other error refuses the event, which becomes a dead letter with the error's text as its reason. A
// panic refuses its event too. Transforms that keep a state for each entity are made by the package gristmill/fold.
package gristmill

import "gristmill/internal/core"

// Spec is what a transform says about itself, beside its fields.
type Spec = core.Spec

// Timestamp is a moment: microseconds since 1970-01-01T00:00:00Z, leap seconds not counted.
type Timestamp = core.Timestamp

// Skip is returned for an event that gives no row.
var Skip = core.Skip

// Reject makes the error that refuses an event with a reason. Any other error, fmt.Errorf's for instance, does so too.
func Reject(reason string) error { return core.Reject(reason) }

// Rows is a transform that works row by row.
type Rows[I, O any] = core.Rows[I, O]

// Transform makes a transform of a function of one event, which returns its row.
func Transform[I, O any](spec Spec, function func(event I) (O, error)) *Rows[I, O] {
	return core.OneRow(spec, function)
}

// TransformMany makes a transform of a function of one event, which returns as many rows as it likes.
func TransformMany[I, O any](spec Spec, function func(event I) ([]O, error)) *Rows[I, O] {
	return core.ManyRows(spec, function)
}

// Columns is a transform that works on whole columns.
type Columns[I, O any] = core.Columns[I, O]

// Events are the events of a batch, for functions over whole columns.
type Events = core.Events

// Nullable is a column in which null is a legal value.
type Nullable[T any] = core.Nullable[T]

// TransformColumns makes a transform of a function of whole columns. The members of the structs are slices, as long as there are events, or Nullable.
// An error, or a panic, is one of the whole batch: the host halves it until the events at fault stand alone. Events.Reject refuses a single one.
func TransformColumns[I, O any](spec Spec, function func(events *Events, columns I) (O, error)) *Columns[I, O] {
	return core.WholeColumns(spec, function)
}
