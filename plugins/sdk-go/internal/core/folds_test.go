package core

import (
	"errors"
	"reflect"
	"testing"
)

type foldEvent struct {
	ID string
	N  int64
}

type foldRow struct{ Seen *int64 }

// counted keeps the count in a slice, which a function can change behind a copy of the state.
var counted = newCounted()

func newCounted() *Folds[[]byte, foldEvent, foldRow] {
	codec := Codec[[]byte]{
		Save: func(state *[]byte) ([]byte, error) { return *state, nil },
		Load: func(kept []byte, state *[]byte) error {
			if len(kept) != 1 {
				return errors.New("it is broken")
			}
			*state = append([]byte{}, kept...)
			return nil
		},
	}
	seen := int64(0)
	return OneRowFold(Spec{Name: "counted", Entity: "id"}, codec, func(state *[]byte, event foldEvent) (*[]byte, foldRow, error) {
		if state == nil {
			state = &[]byte{0}
		}
		(*state)[0] += byte(event.N)
		seen = int64((*state)[0])
		switch {
		case event.N < 0:
			return state, foldRow{}, errors.New("less than nothing")
		case event.N == 0:
			return nil, foldRow{}, Skip
		}
		return state, foldRow{&seen}, nil
	})
}

func TestGroupsOfABatchAreFoldedApart(t *testing.T) {
	events := []foldEvent{{"a", 1}, {"a", -1}, {"a", 2}, {"b", 5}, {"b", 0}, {"b", -1}, {"c", 1}, {"c", 1}, {"d", -1}}
	states := &Column{Kind: Bytes, Offsets: []uint32{0, 1, 1, 3, 3, 4}, Bytes: []byte{10, 1, 2, 7}, Valid: []byte{0b10101}}
	out, after, err := counted.plugin.Fold(columnsOf(counted.plugin.Inputs, events), []uint32{0, 3, 6, 8, 9, 9}, states)
	if err != nil {
		t.Fatal(err)
	}
	check := func(got, want any) {
		t.Helper()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
	}
	check(out.Columns[0].Ints, []int64{11, 13, 5})
	check(out.Origins, []uint32{0, 2, 3})
	unreadable := "the entity's state cannot be read: it is broken"
	check(out.Rejected, []Rejection{{1, "less than nothing"}, {5, "less than nothing"}, {6, unreadable}, {7, unreadable}, {8, "less than nothing"}})
	check(*after, Column{Kind: Bytes, Offsets: []uint32{0, 1, 1, 3, 3, 4}, Bytes: []byte{13, 1, 2, 7}, Valid: []byte{0b10101}})
}

func TestNoGroupsAtAll(t *testing.T) {
	for _, groups := range [][]uint32{nil, {0}} {
		out, after, err := counted.plugin.Fold(columnsOf(counted.plugin.Inputs, []foldEvent{}), groups, &Column{Kind: Bytes, Offsets: []uint32{0}})
		if err != nil || out.Rows != 0 || len(after.Offsets) != 1 {
			t.Error(out, after, err)
		}
	}
}

func TestABitOfValidityForEachRow(t *testing.T) {
	for rows, want := range map[int][]byte{1: {0}, 8: {0xfe}, 9: {0xfe, 1}, 16: {0xfe, 0xff}} {
		var c Column
		c.setNulls([]uint32{0}, rows)
		if !reflect.DeepEqual(c.Valid, want) {
			t.Errorf("%d rows: %x", rows, c.Valid)
		}
	}
}

func TestABatchThatDoesNotFitIsRefused(t *testing.T) {
	batch := columnsOf(counted.plugin.Inputs, []foldEvent{{"a", 1}})
	batch.Columns[1].Kind = Float
	_, _, err := counted.plugin.Fold(batch, []uint32{0, 1}, &Column{Kind: Bytes, Offsets: []uint32{0, 0}, Valid: []byte{0}})
	if err == nil || err.Error() != "the batch has float where input `n` is integer" {
		t.Error(err)
	}
}
