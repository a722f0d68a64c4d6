package core

import "reflect"

// Folds is a transform that keeps a state for each entity.
type Folds[S, I, O any] struct {
	plugin Plugin
	in     source[I]
	out    *sink[O]
	step   step[S, I, O]
	codec  Codec[S]
}

// step folds one event into a state, adds its rows, and says why the event is refused when it is.
type step[S, I, O any] func(state *S, event *I, row int, out *sink[O]) (after *S, wrong string)

// Codec is how states become bytes.
type Codec[S any] struct {
	Save func(*S) ([]byte, error)
	// Load must not keep the bytes.
	Load func([]byte, *S) error
	// Mistakes are what is wrong with the type of the states.
	Mistakes []string
}

// OneRowFold makes a stateful transform of a function of one event that returns its row.
func OneRowFold[S, I, O any](spec Spec, codec Codec[S], function func(*S, I) (*S, O, error)) *Folds[S, I, O] {
	return newFolds(spec, codec, func(state *S, event *I, row int, out *sink[O]) (*S, string) {
		after, made, err := function(state, *event)
		if err != nil {
			return after, unlessSkip(err)
		}
		return after, out.add(made, row)
	})
}

// ManyRowsFold makes a stateful transform of a function of one event that returns as many rows as it likes.
func ManyRowsFold[S, I, O any](spec Spec, codec Codec[S], function func(*S, I) (*S, []O, error)) *Folds[S, I, O] {
	return newFolds(spec, codec, func(state *S, event *I, row int, out *sink[O]) (*S, string) {
		after, made, err := function(state, *event)
		if err != nil {
			return after, unlessSkip(err)
		}
		for i := range made {
			if wrong := out.add(made[i], row); wrong != "" {
				return after, wrong
			}
		}
		return after, ""
	})
}

func newFolds[S, I, O any](spec Spec, codec Codec[S], step step[S, I, O]) *Folds[S, I, O] {
	t := &Folds[S, I, O]{plugin: Plugin{Spec: spec}, step: step, codec: codec}
	t.plugin.Inputs = fieldsOf(reflect.TypeFor[I](), rows, true, t.plugin.wrong)
	t.plugin.Outputs = fieldsOf(reflect.TypeFor[O](), rows, false, t.plugin.wrong)
	t.plugin.mistakes = append(t.plugin.mistakes, codec.Mistakes...)
	t.in.fields, t.out, t.plugin.Fold = t.plugin.Inputs, newSink[O](t.plugin.Outputs), t.fold
	t.plugin.register()
	return t
}

func (t *Folds[S, I, O]) fold(b *Batch, groups []uint32, states *Column) (*Output, *Column, error) {
	if err := t.in.open(b); err != nil {
		return nil, nil, err
	}
	t.out.open(b.Rows)
	after := &Column{Kind: Bytes, Offsets: []uint32{0}}
	var nulls []uint32
	var run []I
	for group := range max(len(groups), 1) - 1 {
		var kept []byte
		if states.isValid(group) {
			kept = append([]byte{}, states.bytesAt(group)...)
		}
		state, unreadable := t.load(kept)
		for row := int(groups[group]); row < int(groups[group+1]); row++ {
			if row >= t.in.start+len(run) {
				run = t.in.fill(row)
			}
			if unreadable != "" {
				t.out.reject(row, unreadable)
				continue
			}
			next, saved, wrong := t.event(state, &run[row-t.in.start], row)
			if wrong == "" {
				state, kept = next, saved
			} else {
				t.out.reject(row, wrong)
				// The function may have changed the state before it refused the event.
				state, unreadable = t.load(kept)
			}
			t.out.settled()
		}
		if kept == nil {
			nulls = append(nulls, uint32(group))
		}
		after.Bytes = append(after.Bytes, kept...)
		after.Offsets = append(after.Offsets, uint32(len(after.Bytes)))
	}
	after.setNulls(nulls, len(after.Offsets)-1)
	t.in.close()
	return t.out.close(b.Rows), after, nil
}

func (t *Folds[S, I, O]) load(kept []byte) (state *S, unreadable string) {
	if kept == nil {
		return nil, ""
	}
	state = new(S)
	if err := t.codec.Load(kept, state); err != nil {
		return nil, "the entity's state cannot be read: " + err.Error()
	}
	return state, ""
}

// event calls the author's function. What it made of the state is turned into bytes at once, so that a state that cannot be kept refuses its own event, and so
// that the state as it was is at hand when the next event is refused.
func (t *Folds[S, I, O]) event(state *S, event *I, row int) (after *S, saved []byte, wrong string) {
	mark := t.out.mark()
	defer func() {
		if problem := recover(); problem != nil {
			wrong = panicked(problem)
		}
		if wrong != "" {
			t.out.undo(mark)
		}
	}()
	after, wrong = t.step(state, event, row, t.out)
	if wrong == "" && after != nil {
		bytes, err := t.codec.Save(after)
		if err != nil {
			wrong = "the entity's new state cannot be kept: " + err.Error()
		}
		saved = append([]byte{}, bytes...)
	}
	return after, saved, wrong
}
