package core

import (
	"errors"
	"strconv"
)

// Migrating lets a fold take over the states of another version.
func (t *Folds[S, I, O]) Migrating(migrate func(from string, state []byte) (*S, error)) *Folds[S, I, O] {
	if migrate == nil {
		t.plugin.wrong("the function that takes over states is nil; without one, use Transform")
		return t
	}
	t.plugin.Migrate = func(from string, states *Column) (*Column, error) {
		after := &Column{Kind: Bytes, Offsets: []uint32{0}}
		for i := range max(len(states.Offsets), 1) - 1 {
			saved, err := t.takeOver(migrate, from, append([]byte{}, states.bytesAt(i)...))
			if err != nil {
				return nil, err
			}
			after.Bytes = append(after.Bytes, saved...)
			after.Offsets = append(after.Offsets, uint32(len(after.Bytes)))
		}
		return after, nil
	}
	return t
}

func (t *Folds[S, I, O]) takeOver(migrate func(string, []byte) (*S, error), from string, kept []byte) (saved []byte, err error) {
	defer func() {
		if problem := recover(); problem != nil {
			err = errors.New(panicked(problem))
		}
	}()
	state, err := migrate(from, kept)
	if err != nil {
		return nil, err
	}
	if state == nil {
		return nil, errors.New("a state was migrated to nil; a state that is there stays one")
	}
	if saved, err = t.codec.Save(state); err != nil {
		return nil, errors.New("a migrated state cannot be kept: " + err.Error())
	}
	return saved, nil
}

// Migrate takes over states that the version `from` wrote, as a host would, without a host: for tests. The states are the bytes that were kept.
func (t *Folds[S, I, O]) Migrate(from string, states ...string) ([]string, error) {
	if t.plugin.Migrate == nil {
		return nil, errors.New("this fold takes over no states; make it with Migrating")
	}
	before := &Column{Kind: Bytes, Offsets: []uint32{0}}
	for _, state := range states {
		before.Bytes = append(before.Bytes, state...)
		before.Offsets = append(before.Offsets, uint32(len(before.Bytes)))
	}
	column, err := t.plugin.Migrate(from, before)
	if err != nil {
		return nil, err
	}
	after := make([]string, len(states))
	for i := range after {
		after[i] = string(column.bytesAt(i))
	}
	if len(column.Offsets) != len(states)+1 {
		return nil, errors.New("there are " + strconv.Itoa(len(column.Offsets)-1) + " states after the migration")
	}
	return after, nil
}
