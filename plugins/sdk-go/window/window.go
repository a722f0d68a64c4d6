// Package window has the functions that a host computes over a transform's outputs, in windows of event time up to the moment of the read.
//
//	gristmill.Spec{…, Windows: []window.Window{
//		window.Count("orders_1h", "total").Over("1h"),
//		window.Sum("spent_30d", "total").Over("30d"),
//		window.Quantile("median_order", "total", 0.5), // since the first event
//	}}
//
// The first argument is the feature, the second the output that it is computed over.
package window

import "gristmill/internal/core"

// Window is a windowed feature. Over says its length, Documented what it means.
type Window = core.Window

func of(function core.Aggregate, feature, column string) Window {
	return Window{Feature: feature, Column: column, Function: function}
}

// Count is how many values are not null.
func Count(feature, column string) Window { return of(core.Count, feature, column) }

// Sum is the sum of integers or floats.
func Sum(feature, column string) Window { return of(core.Sum, feature, column) }

// Mean is the arithmetic mean.
func Mean(feature, column string) Window { return of(core.Mean, feature, column) }

// Min is the smallest integer, float or timestamp.
func Min(feature, column string) Window { return of(core.Min, feature, column) }

// Max is the largest integer, float or timestamp.
func Max(feature, column string) Window { return of(core.Max, feature, column) }

// Variance is the variance of the population.
func Variance(feature, column string) Window { return of(core.Variance, feature, column) }

// First is the earliest value by event time.
func First(feature, column string) Window { return of(core.First, feature, column) }

// Last is the latest value by event time.
func Last(feature, column string) Window { return of(core.Last, feature, column) }

// Distinct is how many different values there are, estimated.
func Distinct(feature, column string) Window { return of(core.Distinct, feature, column) }

// Quantile is the value at a rank from 0 to 1, estimated.
func Quantile(feature, column string, rank float64) Window {
	w := of(core.Quantile, feature, column)
	w.Rank = rank
	return w
}

// LastValues are the latest values, at most so many, newest first.
func LastValues(feature, column string, many int) Window {
	w := of(core.LastValues, feature, column)
	w.Many = many
	return w
}

// Top are the most frequent values, at most so many, most frequent first.
func Top(feature, column string, many int) Window {
	w := of(core.Top, feature, column)
	w.Many = many
	return w
}
