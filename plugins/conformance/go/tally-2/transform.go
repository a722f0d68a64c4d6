// The next version of `tally`: it keeps the largest amount too, and takes over the states of the first.
package main

import (
	"encoding/json"
	"strings"

	"gristmill/fold"
)

type Event struct {
	ID     string
	Amount *float64
}

// Tally is the state.
type Tally struct {
	Count        int64
	Sum, Largest float64
}

type Features struct {
	Seen           int64
	Total, Largest float64
}

var _ = fold.Migrating(fold.Spec{
	Name: "tally", Version: "2.0.0", Doc: "Counts, sums and compares the events of an entity.", Stream: "tally", Entity: "id",
}, fromBefore, tally)

func tally(state *Tally, event Event) (*Tally, Features, error) {
	if state == nil {
		state = &Tally{}
	}
	amount := 0.0
	if event.Amount != nil {
		amount = *event.Amount
	}
	state.Count++
	state.Sum += amount
	state.Largest = max(state.Largest, amount)
	return state, Features{state.Count, state.Sum, state.Largest}, nil
}

func fromBefore(from string, state []byte) (*Tally, error) {
	if !strings.HasPrefix(from, "1.") {
		return nil, fold.Reject("version " + from + " is not known here")
	}
	var before struct {
		Seen  int64
		Total float64
	}
	if err := json.Unmarshal(state, &before); err != nil {
		return nil, err
	}
	after := &Tally{Count: before.Seen, Sum: before.Total}
	if before.Seen != 0 {
		// The largest amount so far is at least the mean.
		after.Largest = before.Total / float64(before.Seen)
	}
	return after, nil
}

func main() {}
