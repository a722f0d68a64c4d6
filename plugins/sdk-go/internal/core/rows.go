package core

import "reflect"

// OneRow makes a transform of a function of one event that returns its row.
func OneRow[I, O any](spec Spec, function func(I) (O, error)) *Rows[I, O] {
	return newRows(spec, func(event *I, row int, out *sink[O]) {
		made, err := function(*event)
		if err != nil {
			out.settle(row, err)
		} else if wrong := out.add(made, row); wrong != "" {
			out.undo(out.mark() - 1)
			out.reject(row, wrong)
		}
	})
}

// ManyRows makes a transform of a function of one event that returns as many rows as it likes.
func ManyRows[I, O any](spec Spec, function func(I) ([]O, error)) *Rows[I, O] {
	return newRows(spec, func(event *I, row int, out *sink[O]) {
		made, err := function(*event)
		if err != nil {
			out.settle(row, err)
			return
		}
		mark := out.mark()
		for i := range made {
			if wrong := out.add(made[i], row); wrong != "" {
				out.undo(mark)
				out.reject(row, wrong)
				return
			}
		}
	})
}

// Rows is a transform that works row by row.
type Rows[I, O any] struct {
	plugin Plugin
	in     source[I]
	out    *sink[O]
	event  func(event *I, row int, out *sink[O])
}

func newRows[I, O any](spec Spec, event func(*I, int, *sink[O])) *Rows[I, O] {
	t := &Rows[I, O]{plugin: Plugin{Spec: spec}, event: event}
	t.plugin.Inputs = fieldsOf(reflect.TypeFor[I](), rows, true, t.plugin.wrong)
	t.plugin.Outputs = fieldsOf(reflect.TypeFor[O](), rows, false, t.plugin.wrong)
	t.in.fields, t.out, t.plugin.Apply = t.plugin.Inputs, newSink[O](t.plugin.Outputs), t.apply
	t.plugin.register()
	return t
}

func (t *Rows[I, O]) apply(b *Batch) (*Output, error) {
	if err := t.in.open(b); err != nil {
		return nil, err
	}
	t.out.open(b.Rows)
	for start := 0; start < b.Rows; {
		run := t.in.fill(start)
		for i := 0; i < len(run); {
			i = t.some(run, i)
		}
		t.out.flush()
		start += len(run)
	}
	t.in.close()
	return t.out.close(b.Rows), nil
}

// some calls the author's function for a run of events. A panic ends it early, refuses its event, and the rest is for another call: guarding each event
// would cost more than most functions do.
func (t *Rows[I, O]) some(run []I, from int) (next int) {
	next = from
	mark := t.out.mark()
	defer func() {
		if problem := recover(); problem != nil {
			t.out.undo(mark)
			t.out.reject(t.in.start+next, panicked(problem))
			next++
		}
	}()
	for ; next < len(run); next++ {
		mark = t.out.mark()
		t.event(&run[next], t.in.start+next, t.out)
		t.out.settled()
	}
	return next
}
