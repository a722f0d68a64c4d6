// Counts and sums: what the conformance cases of state run in every language.
package main

import "gristmill/fold"

type Event struct {
	ID     string
	Action string `default:""`
	Amount *float64
}

// Tally is the state, and what is known of an entity.
type Tally struct {
	Seen  int64
	Total float64
}

var _ = fold.Transform(fold.Spec{
	Name: "tally", Version: "1.0.0", Doc: "Counts and sums the events of an entity.", Stream: "tally", Entity: "id",
}, tally)

func tally(state *Tally, event Event) (*Tally, Tally, error) {
	switch event.Action {
	case "reject":
		return nil, Tally{}, fold.Reject(event.ID + " asks for it")
	case "reset":
		return nil, Tally{}, fold.Skip
	}
	if state == nil {
		state = &Tally{}
	}
	state.Seen++
	if event.Amount != nil {
		state.Total += *event.Amount
	}
	return state, *state, nil
}

func main() {}
