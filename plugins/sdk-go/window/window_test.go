package window_test

import (
	"strings"
	"testing"

	"gristmill"
	"gristmill/window"
)

type event struct{ ID string }

type features struct {
	Total float64
	Item  string
}

func describe(windows ...window.Window) error {
	spec := gristmill.Spec{Name: "windowed", Entity: "id", Windows: windows}
	_, err := gristmill.Transform(spec, func(event) (features, error) { return features{}, nil }).Run("")
	return err
}

func TestWindowsAreTaken(t *testing.T) {
	err := describe(
		window.Count("a", "item"), window.Sum("b", "total").Over("90s"), window.Mean("c", "total").Over("5m"), window.Min("d", "total").Over("24h"),
		window.Max("e", "total"), window.Variance("f", "total"), window.First("g", "item"), window.Last("h", "item"), window.Distinct("i", "item"),
		window.Quantile("j", "total", 0.5), window.LastValues("k", "item", 5), window.Top("l", "item", 3).Over("30d").Documented("Of a month."),
	)
	if err != nil {
		t.Fatal(err)
	}
	for length, want := range map[string]uint64{"90s": 90_000, "5m": 300_000, "24h": 86_400_000, "30d": 2_592_000_000} {
		if got, has := window.Count("a", "item").Over(length).Milliseconds(); !has || got != want {
			t.Errorf("%s has %d ms", length, got)
		}
	}
	if _, has := window.Count("a", "item").Milliseconds(); has {
		t.Error("a window that nobody has given a length has one")
	}
}

func TestWhatIsWrongNamesItsFeature(t *testing.T) {
	for want, wrong := range map[string]window.Window{
		"there is no output `totl` to compute it over; the outputs are: total, item": window.Count("w", "totl"),
		`a window of "1 hour"`:   window.Count("w", "total").Over("1 hour"),
		`as in "24h"`:            window.Count("w", "total").Over("h"),
		`a window of ""`:         window.Count("w", "total").Over(""),
		`a window of "0d"`:       window.Count("w", "total").Over("0d"),
		"a quantile at 90":       window.Quantile("w", "total", 90),
		"a list of 0 values":     window.Top("w", "item", 0),
		"there is no such funct": {Feature: "w", Column: "total", Function: 12},
	} {
		if err := describe(wrong); err == nil || !strings.Contains(err.Error(), "aggregation `w`: ") || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is missing in %v", want, err)
		}
	}
	for _, twice := range [][]window.Window{{window.Count("total", "total")}, {window.Count("w", "total"), window.Sum("w", "total")}} {
		if err := describe(twice...); err == nil || !strings.Contains(err.Error(), "of this name already") {
			t.Error(err)
		}
	}
}
